//! The suite that every store runs: what [`Store`](crate::Store) promises, one case a promise.
//!
//! For those who write a store of their own: implement [`Harness`] for it and call
//! [`conformance!`](crate::conformance!) in a test. Each case becomes a `#[tokio::test]` whose name
//! is the promise, on a store of its own. `tokio` has to be among the crate's dev-dependencies,
//! with the features `macros` and `rt-multi-thread`.
//!
//! Not here: what is the same for every store because it is not the store's (the pipeline has its
//! own tests), and what is one database's own (its guards, its migrations, its ways to fail).
#![expect(clippy::unwrap_used, reason = "a case is a test: what is unexpected fails it")]

#[doc(hidden)]
pub mod atomicity;
#[doc(hidden)]
pub mod attempts;
#[doc(hidden)]
pub mod begun;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod claims;
#[doc(hidden)]
pub mod dead_letters;
#[doc(hidden)]
pub mod direct;
mod failures;
#[doc(hidden)]
pub mod fences;
#[doc(hidden)]
pub mod forgetting;
#[doc(hidden)]
pub mod former;
#[doc(hidden)]
pub mod forwarding;
mod harness;
#[doc(hidden)]
pub mod instances;
#[doc(hidden)]
pub mod keys;
#[doc(hidden)]
pub mod lanes;
#[doc(hidden)]
pub mod listing;
#[doc(hidden)]
pub mod markers;
#[doc(hidden)]
pub mod merging;
#[doc(hidden)]
pub mod misbehaviour;
#[doc(hidden)]
pub mod outside;
mod packing;
#[doc(hidden)]
pub mod packs;
#[doc(hidden)]
pub mod parking;
#[doc(hidden)]
pub mod releasing;
#[doc(hidden)]
pub mod replay;
#[doc(hidden)]
pub mod restart;
#[doc(hidden)]
pub mod runs;
#[doc(hidden)]
pub mod scopes;
#[doc(hidden)]
pub mod settling;
#[doc(hidden)]
pub mod slice_seals;
#[doc(hidden)]
pub mod slices;
mod slicing;
mod support;
#[doc(hidden)]
pub mod taking_over;
#[doc(hidden)]
pub mod upkeep;

pub use harness::{ConnectionOf, Harness, Misbehaviour};

use std::time::Duration;

/// How long a case may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the tests that [`conformance!`](crate::conformance!) makes call.
#[doc(hidden)]
pub async fn run<H: Harness>(name: &str, case: impl AsyncFnOnce(&H)) {
    let whole = async {
        let harness = H::start().await;
        case(&harness).await;
        harness.stop().await;
    };
    assert!(tokio::time::timeout(PATIENCE, whole).await.is_ok(), "{name} hung for {PATIENCE:?}");
}

/// Makes a `#[tokio::test]` of each case for the store of this
/// [`Harness`](crate::conformance::Harness).
///
/// ```
/// # #[cfg(any())] mod example {
/// struct MyStores { /* .. */ }
///
/// impl idem_runtime::conformance::Harness for MyStores { /* .. */ }
///
/// idem_runtime::conformance!(MyStores);
/// # }
/// ```
#[macro_export]
macro_rules! conformance {
    ($harness:ty) => { $crate::conformance! { @cases $harness:
        check::a_store_that_was_not_migrated_says_so
        check::the_identity_of_a_store_stays_the_same
        check::two_stores_have_two_identities
        claims::a_key_is_new_once
        claims::a_key_is_new_once_within_a_transaction
        claims::many_keys_are_answered_in_their_order
        claims::no_keys_are_answered_with_nothing
        claims::scopes_do_not_share_their_keys
        claims::a_concurrent_duplicate_waits_and_loses
        claims::a_concurrent_duplicate_wins_when_the_first_rolls_back
        claims::a_concurrent_duplicate_wins_when_the_first_is_dropped
        claims::of_many_keys_those_that_another_lane_commits_are_known
        claims::of_many_keys_those_that_another_lane_gives_back_are_new
        claims::batches_that_overlap_do_not_deadlock
        fences::a_claim_with_another_token_is_fenced_and_inserts_nothing
        fences::a_claim_for_a_lane_that_is_gone_is_fenced
        fences::a_seal_moves_position_and_revision
        fences::a_seal_with_an_old_revision_answers_no
        fences::a_seal_with_an_old_token_answers_no
        fences::a_seal_for_a_lane_that_is_gone_answers_no
        fences::of_two_batches_with_one_revision_one_is_sealed
        fences::a_seal_that_is_rolled_back_leaves_the_lane_as_it_was
        fences::taking_a_lane_fences_its_former_owner
        fences::taking_a_lane_does_not_wait_for_an_unsealed_batch
        fences::taking_a_lane_reads_the_position_of_the_batch_it_waited_for
        fences::two_who_take_a_lane_together_get_two_tokens
        lanes::a_new_lane_has_its_start_and_its_log_and_is_nobodys
        lanes::opening_a_topic_again_keeps_its_lanes
        lanes::a_group_has_lanes_when_it_has_one_of_any_topic
        lanes::topics_are_opened_together_or_not_at_all
        lanes::lanes_of_other_groups_and_topics_are_not_listed
        lanes::a_lane_that_does_not_exist_cannot_be_taken
        lanes::a_held_lane_is_read_as_it_is
        lanes::a_reposition_moves_a_held_lane_once
        lanes::a_reposition_by_a_former_owner_is_refused
        lanes::offset_marks_are_kept_with_the_seal
        lanes::offset_marks_never_go_down_in_one_log
        lanes::offset_marks_are_void_in_a_new_log
        lanes::a_look_sees_tokens_and_revisions_and_leaves_out_missing_lanes
        lanes::a_look_does_not_wait_for_a_sealed_batch
        lanes::a_released_lane_can_be_taken_again
        lanes::a_late_release_leaves_the_new_owner_alone
        scopes::a_scope_is_recorded_and_found_again
        scopes::another_groups_scope_is_refused_until_it_is_adopted
        scopes::a_renamed_scope_asks_until_the_old_one_is_retired
        scopes::a_changed_mode_is_refused
        scopes::nothing_is_recorded_when_something_is_refused
        scopes::instances_of_one_group_start_together
        scopes::of_two_groups_that_bring_one_scope_one_gets_it
        instances::an_instance_that_is_alive_is_kept
        instances::a_silent_instance_is_forgotten_with_all_it_had
        instances::an_instance_that_was_forgotten_commits_nothing_and_begins_anew
        instances::an_instance_that_becomes_a_group_of_its_own_is_not_forgotten
        instances::two_groups_that_are_one_for_kafka_are_refused
        instances::instances_that_forget_together_forget_once
        markers::a_marker_of_a_lane_tells_its_origin
        markers::a_marker_without_kafka_tells_its_attempt
        markers::metadata_comes_back_as_it_was
        markers::what_is_said_of_an_event_is_beside_its_marker
        markers::known_markers_are_told_within_the_transaction
        markers::results_are_kept_in_the_transaction_that_claimed
        markers::a_result_that_can_be_kept_comes_back_as_it_was
        markers::an_attempt_that_was_begun_is_taken_over
        markers::an_attempt_that_failed_is_taken_back_and_no_other
        markers::a_key_that_was_never_claimed_has_no_marker
        begun::an_attempt_is_taken_over_only_by_its_number
        begun::an_attempt_that_is_gone_is_not_made_anew
        begun::of_several_claims_each_takes_over_what_it_names
        begun::who_takes_an_attempt_over_waits_for_another_who_does
        begun::metadata_that_are_given_with_a_take_over_are_kept
        begun::the_fingerprint_of_an_attempt_stays_unless_another_is_given
        begun::marking_settles_an_attempt_that_was_begun
        begun::the_age_of_an_attempt_is_told_and_begins_anew_with_another
        keys::keys_that_look_alike_are_different
        keys::any_text_that_fits_is_a_key
        keys::scopes_that_look_alike_are_different
        atomicity::a_commit_keeps_marker_and_effects_together
        atomicity::nothing_is_seen_before_the_commit
        atomicity::a_rollback_keeps_nothing
        atomicity::a_dropped_transaction_keeps_nothing_and_frees_its_keys
        atomicity::a_transaction_that_was_not_sealed_does_not_commit
        atomicity::a_transaction_without_a_claim_is_committed
        atomicity::transactions_have_the_terms_that_are_asked_for
        atomicity::a_rollback_says_that_the_connection_is_good
        misbehaviour::a_handler_that_commits_keeps_nothing
        misbehaviour::a_handler_that_rolls_back_keeps_nothing
        misbehaviour::a_handler_that_commits_and_begins_keeps_nothing
        misbehaviour::a_handler_that_rolls_back_and_begins_keeps_nothing
        misbehaviour::a_swallowed_error_keeps_all_or_nothing
        misbehaviour::a_closure_that_ends_its_transaction_keeps_nothing
        direct::effects_happen_once_for_a_key
        direct::an_error_keeps_nothing_and_the_key_stays_new
        direct::what_the_effects_return_comes_back
        direct::marking_says_whether_the_key_was_new
        direct::a_marked_key_is_processed
        direct::what_is_no_key_is_refused
        direct::a_long_key_is_known_by_how_it_is_written
        direct::without_a_marker_effects_are_kept_each_time
        direct::without_a_marker_a_transaction_that_was_ended_is_noticed
        direct::ten_concurrent_calls_for_a_key_have_one_effect
        direct::ten_concurrent_calls_for_ten_keys_have_ten_effects
        slice_seals::a_seal_moves_one_slice_and_not_its_lane
        slice_seals::a_slice_that_is_rolled_back_is_as_it_was
        slice_seals::a_slice_of_a_lane_that_was_taken_is_fenced
        slice_seals::a_slice_with_another_revision_is_not_sealed
        slice_seals::of_two_batches_of_a_slice_one_is_sealed
        slice_seals::two_slices_of_a_lane_do_not_wait_for_each_other
        slice_seals::taking_a_lane_waits_for_the_slices_that_are_sealed
        slice_seals::cutting_a_lane_waits_for_the_slices_that_are_sealed
        slice_seals::taking_a_lane_does_not_wait_for_slices_that_are_not_sealed
        slice_seals::a_slice_of_a_lane_that_is_gone_is_neither_read_nor_sealed
        slices::new_slices_start_where_their_lane_is
        slices::cutting_into_the_same_number_keeps_the_slices
        slices::cutting_into_another_number_begins_anew
        slices::a_former_owner_cuts_nothing
        slices::a_look_adds_up_the_revisions_of_slices
        slices::a_slice_keeps_its_failures_with_its_lane
        slices::a_lane_is_not_moved_when_its_slices_went_back
        slices::a_new_log_has_neither_slices_nor_attempts
        attempts::what_is_noted_of_an_attempt_is_there_for_the_next_owner
        attempts::what_was_noted_of_the_same_attempt_is_replaced
        attempts::attempts_of_other_lanes_are_not_mixed_up
        attempts::a_former_owner_notes_no_attempt
        attempts::attempts_at_these_offsets_are_forgotten_with_the_batch
        attempts::an_attempt_that_is_forgotten_can_be_noted_again
        attempts::an_owner_whose_successor_is_here_has_died
        attempts::nobody_dies_when_a_lane_is_taken_for_the_first_time
        attempts::an_owner_that_left_cleanly_has_not_died
        attempts::an_owner_that_is_alive_elsewhere_has_not_died
        attempts::an_owner_that_takes_its_lane_again_has_not_died
        attempts::an_owner_that_fell_silent_has_died
        attempts::progress_is_what_makes_a_lane_calm
        dead_letters::a_dead_letter_comes_back_as_it_was
        dead_letters::a_long_key_comes_back_as_it_is_written
        dead_letters::an_event_with_nothing_in_it_comes_back_with_nothing
        dead_letters::what_is_empty_is_not_what_is_missing
        dead_letters::every_class_and_a_long_error_come_back
        dead_letters::dead_letters_are_kept_with_their_batch
        dead_letters::a_former_owner_gives_nothing_up
        dead_letters::giving_nothing_up_writes_nothing
        dead_letters::many_are_given_up_in_their_order
        dead_letters::an_event_that_is_given_up_twice_has_one_letter
        dead_letters::a_letter_that_is_there_does_not_keep_others_out
        dead_letters::another_event_at_the_same_place_has_a_letter_of_its_own
        dead_letters::the_log_of_a_letter_need_not_be_known
        dead_letters::who_gives_the_same_event_up_at_once_waits_for_the_first
        dead_letters::a_letter_is_written_when_its_batch_was
        listing::letters_are_found_by_what_they_are
        listing::letters_are_found_by_a_header_of_their_event
        listing::letters_are_found_by_their_numbers
        listing::letters_are_found_page_by_page
        listing::letters_are_found_by_when_they_were_written
        listing::letters_of_another_group_and_topic_name_them
        parking::a_parked_event_opens_its_message_key_for_others
        parking::a_batch_parks_and_waits_at_once
        parking::an_event_that_waits_is_counted_once
        parking::a_dead_event_opens_nothing
        parking::keys_are_answered_in_their_order
        parking::a_key_is_parked_in_its_lane_alone
        parking::the_next_owner_is_told_what_is_parked
        parking::a_key_can_be_parked_again
        parking::who_asks_for_a_key_waits_for_who_settles_its_event
        parking::who_settles_an_event_waits_for_who_asks_for_its_key
        parking::taking_a_lane_does_not_wait_for_a_batch_that_parks
        releasing::settling_a_parked_event_releases_those_behind_it
        releasing::what_settles_nothing_releases_nothing
        releasing::a_key_with_nothing_behind_it_is_forgotten_when_it_is_released
        releasing::released_events_come_in_the_order_of_their_offsets
        releasing::an_event_that_is_worked_no_longer_waits
        releasing::all_that_waits_can_be_worked_at_once
        releasing::only_waiting_events_of_this_lane_are_worked
        releasing::working_an_event_twice_counts_once
        releasing::what_is_worked_in_vain_still_waits
        releasing::a_released_event_that_fails_holds_the_rest_up_again
        releasing::the_last_event_behind_a_key_can_fail_as_well
        releasing::an_event_that_waits_and_dies_no_longer_waits
        releasing::a_waiting_event_that_is_dropped_no_longer_waits
        releasing::a_released_event_that_is_dropped_is_not_worked
        releasing::a_key_is_parked_again_before_all_behind_it_were_worked
        releasing::who_drops_an_event_waits_for_who_works_it
        releasing::an_event_that_was_dropped_meanwhile_is_not_worked
        taking_over::a_released_event_that_was_edited_and_fails_is_the_letter_that_it_was
        taking_over::a_letter_that_is_taken_over_keeps_the_key_of_its_event
        taking_over::a_letter_is_taken_over_into_the_lane_that_gives_it_up
        settling::a_letter_is_locked_as_it_is
        settling::a_settled_letter_says_how_it_was
        settling::the_history_of_a_letter_is_told_in_order
        settling::what_is_rolled_back_settles_nothing
        settling::an_edited_letter_has_its_new_payload
        settling::an_edited_letter_has_its_new_headers_and_message_key
        settling::a_letter_that_is_opened_again_has_the_message_key_of_its_event
        settling::an_edited_message_key_is_in_no_line
        settling::of_two_who_settle_a_letter_the_second_sees_it_settled
        settling::a_replay_is_committed_with_its_marker_and_effects
        settling::a_settled_letter_stays_settled
        settling::a_lane_can_settle_in_its_own_batch
        replay::a_marker_tells_that_its_event_was_given_up_on
        replay::claims_of_one_statement_have_a_state_each
        replay::a_key_that_was_given_up_on_is_known
        replay::of_known_keys_those_that_were_given_up_on_are_told
        replay::what_a_claim_waited_for_is_seen_to_be_given_up_on
        replay::a_marker_that_is_taken_over_keeps_its_origin
        replay::a_marker_is_taken_over_once
        replay::a_key_that_was_never_seen_can_be_reclaimed
        replay::a_marker_can_be_taken_over_to_be_given_up_on_again
        replay::only_claims_that_ask_for_it_take_a_marker_over
        replay::a_take_over_that_is_rolled_back_leaves_the_marker
        replay::a_former_owner_takes_no_marker_over
        replay::of_two_who_take_a_marker_over_one_does
        replay::a_claim_waits_for_who_takes_its_marker_over
        replay::many_markers_are_taken_over_in_their_order
        forwarding::dead_and_parked_letters_are_forwarded_oldest_first
        forwarding::what_was_forwarded_is_not_forwarded_again
        forwarding::letters_of_other_lanes_are_not_forwarded
        forwarding::settled_letters_are_not_forwarded
        forwarding::an_event_that_waited_is_forwarded_when_it_is_given_up
        packs::a_pack_is_kept_with_its_batch_and_gone_with_its_rollback
        packs::a_pack_with_another_token_is_fenced_and_writes_nothing
        packs::a_handler_that_commits_after_a_pack_keeps_nothing
        packs::packs_and_claims_are_one_transaction
        packs::several_scopes_are_packed_at_once
        packs::a_window_is_read_page_by_page_in_order
        packs::a_slice_sees_its_own_packs_and_those_for_every_slice
        packs::rows_are_merged_into_one
        packs::rows_that_are_not_all_there_are_not_merged
        packs::who_merges_rows_and_a_batch_do_not_wait_for_each_other
        packs::what_is_forgotten_raises_the_floor
        packs::a_new_log_has_a_number_and_a_floor_of_its_own
        packs::packs_of_another_number_of_partitions_are_foreign
        packs::packs_of_another_number_of_slices_are_foreign
        packs::a_packed_key_is_found_with_its_origin_and_time
        packs::keys_that_were_given_up_on_are_listed
        packs::digests_are_the_same_for_ever_and_another_stores_are_others
        packs::a_scope_switches_its_form_and_says_when
        packs::a_packed_scope_is_not_adopted
        packs::a_scope_of_which_something_is_packed_is_not_adopted
        packs::a_call_without_kafka_cannot_use_a_packed_scope
        runs::a_run_tells_exactly_what_is_in_it
        runs::two_neighbours_in_a_run_are_not_taken_for_a_third
        runs::several_runs_are_asked_at_once
        runs::a_run_is_listed_and_its_rows_are_not_loaded_any_more
        runs::a_run_of_rows_that_are_not_all_there_is_not_written
        runs::a_run_needs_a_number_that_no_other_has
        runs::a_run_goes_with_the_last_of_its_rows
        runs::a_run_of_a_slice_is_its_own
        runs::a_run_of_another_lanes_rows_is_written_by_whoever_has_a_lane
        runs::each_digest_is_asked_for_in_its_own_run
        runs::a_run_is_asked_in_the_transaction_of_the_batch
        merging::a_run_is_read_block_by_block
        merging::a_merged_run_answers_as_the_others_did
        merging::a_run_that_is_unfinished_is_there_for_nobody
        merging::a_merge_is_refused_when_a_key_was_forgotten_meanwhile
        merging::a_merge_of_what_is_not_there_is_refused
        merging::a_part_of_a_run_follows_the_part_before
        merging::who_does_not_hold_the_lane_merges_nothing
        merging::what_is_left_of_merges_is_swept
        merging::a_run_without_rows_is_of_no_window_and_swept
        merging::a_key_is_forgotten_in_a_merged_run
        merging::runs_of_one_slice_are_merged_alone
        merging::who_merges_runs_and_a_batch_do_not_wait_for_each_other
        forgetting::a_marker_that_is_forgotten_is_new_again
        forgetting::a_packed_key_that_is_forgotten_is_in_no_row_any_more
        forgetting::slices_of_a_forgotten_key_are_taken_again
        forgetting::a_key_is_forgotten_in_its_run
        forgetting::a_key_is_forgotten_in_a_run_whose_row_with_it_is_gone
        forgetting::a_run_goes_with_the_last_key_of_its_last_row
        forgetting::a_key_that_lanes_keep_in_two_forms_is_forgotten_in_both
        forgetting::a_key_with_an_open_letter_is_not_forgotten
        forgetting::a_key_whose_attempt_was_begun_is_not_forgotten
        forgetting::a_settled_letter_is_opened_again_when_its_key_was_forgotten
        forgetting::an_event_that_comes_again_can_wait_again
        forgetting::what_was_not_new_opens_no_letter_again
        forgetting::a_key_from_outside_is_packed_and_its_lane_taken_again
        forgetting::a_key_from_outside_waits_for_the_batch_that_is_sealed
        forgetting::a_key_from_outside_is_guarded
        outside::a_lane_packs_for_every_slice_in_its_batch
        outside::rows_for_every_slice_are_for_all_lanes_of_the_topic
        outside::a_row_for_every_slice_is_of_the_layout_of_its_lane
        outside::keys_that_were_given_up_on_in_other_lanes_are_listed
        outside::a_key_from_outside_concerns_all_lanes_beside_a_former_layout
        outside::a_key_from_outside_concerns_all_lanes_beside_one_of_a_topic_that_was_made_anew
        outside::a_key_that_all_lanes_may_have_in_mind_is_asked_for_anew_when_it_is_forgotten
        upkeep::a_lane_remembers_which_key_its_digests_are_made_with
        upkeep::a_retired_scope_is_forgotten_with_all_it_had_packed
        upkeep::a_scope_is_forgotten_when_it_is_retired_for_so_long
        upkeep::a_retired_scope_that_comes_back_in_time_has_what_it_had
        upkeep::who_has_a_window_of_a_forgotten_scope_commits_nothing_with_it
        upkeep::a_scope_is_not_registered_while_it_is_being_forgotten
        upkeep::rows_of_a_partition_that_is_gone_are_forgotten_from_another_lane
        upkeep::what_is_left_of_merges_goes_with_the_last_row_of_a_partition_that_is_gone
        upkeep::a_key_that_came_often_is_found_and_forgotten_without_its_neighbours
        upkeep::a_key_is_found_behind_many_rows_that_only_look_as_if_they_had_it
        former::a_log_that_lost_its_tail_is_what_it_was_below_its_end
        former::a_floor_that_is_not_early_says_nothing_of_a_log_that_lost_its_tail
        former::what_was_handled_before_a_lane_was_moved_back_is_known
        former::what_slices_have_handled_is_known
        former::a_scope_that_forgot_something_early_is_not_adopted
        former::how_long_a_scope_keeps_what_is_packed_is_recorded
        former::who_has_a_lane_is_told_that_a_scope_is_switched
        former::a_scope_that_is_worked_in_another_form_was_switched_just_now
        former::a_call_without_kafka_is_refused_while_something_is_packed
        restart::a_process_that_starts_later_finds_everything
    } };
    (@cases $harness:ty: $($group:ident :: $case:ident)*) => { $(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::run::<$harness>(
                ::core::stringify!($case),
                $crate::conformance::$group::$case,
            )
            .await;
        }
    )* };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_list() {
        let list = include_str!("mod.rs");
        let sources = [
            ("atomicity", include_str!("atomicity.rs")),
            ("attempts", include_str!("attempts.rs")),
            ("begun", include_str!("begun.rs")),
            ("check", include_str!("check.rs")),
            ("claims", include_str!("claims.rs")),
            ("dead_letters", include_str!("dead_letters.rs")),
            ("direct", include_str!("direct.rs")),
            ("fences", include_str!("fences.rs")),
            ("forgetting", include_str!("forgetting.rs")),
            ("former", include_str!("former.rs")),
            ("forwarding", include_str!("forwarding.rs")),
            ("instances", include_str!("instances.rs")),
            ("keys", include_str!("keys.rs")),
            ("lanes", include_str!("lanes.rs")),
            ("listing", include_str!("listing.rs")),
            ("markers", include_str!("markers.rs")),
            ("merging", include_str!("merging.rs")),
            ("misbehaviour", include_str!("misbehaviour.rs")),
            ("outside", include_str!("outside.rs")),
            ("packs", include_str!("packs.rs")),
            ("parking", include_str!("parking.rs")),
            ("releasing", include_str!("releasing.rs")),
            ("replay", include_str!("replay.rs")),
            ("restart", include_str!("restart.rs")),
            ("runs", include_str!("runs.rs")),
            ("scopes", include_str!("scopes.rs")),
            ("settling", include_str!("settling.rs")),
            ("slice_seals", include_str!("slice_seals.rs")),
            ("slices", include_str!("slices.rs")),
            ("taking_over", include_str!("taking_over.rs")),
            ("upkeep", include_str!("upkeep.rs")),
        ];
        let modules = list.lines().filter_map(|line| line.strip_prefix("pub mod "));
        let modules: Vec<_> = modules.map(|name| name.trim_end_matches(';')).collect();
        assert_eq!(modules, sources.map(|(name, _)| name));
        for (group, source) in sources {
            for case in source.lines().filter_map(|line| line.strip_prefix("pub async fn ")) {
                let name = case.split('<').next().unwrap();
                let entry = format!("        {group}::{name}\n");
                assert!(list.contains(&entry), "{group}::{name} is not in the list");
            }
        }
    }
}
