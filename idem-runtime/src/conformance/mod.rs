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
pub mod check;
#[doc(hidden)]
pub mod claims;
#[doc(hidden)]
pub mod direct;
#[doc(hidden)]
pub mod fences;
mod harness;
#[doc(hidden)]
pub mod keys;
#[doc(hidden)]
pub mod lanes;
#[doc(hidden)]
pub mod markers;
#[doc(hidden)]
pub mod misbehaviour;
#[doc(hidden)]
pub mod scopes;
mod support;

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
        markers::a_marker_of_a_lane_tells_its_origin
        markers::a_marker_without_kafka_tells_its_attempt
        markers::metadata_comes_back_as_it_was
        markers::a_key_that_was_never_claimed_has_no_marker
        keys::keys_that_look_alike_are_different
        keys::any_text_that_fits_is_a_key
        keys::scopes_that_look_alike_are_different
        atomicity::a_commit_keeps_marker_and_effects_together
        atomicity::nothing_is_seen_before_the_commit
        atomicity::a_rollback_keeps_nothing
        atomicity::a_dropped_transaction_keeps_nothing_and_frees_its_keys
        atomicity::a_transaction_that_was_not_sealed_does_not_commit
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
        direct::ten_concurrent_calls_for_a_key_have_one_effect
        direct::ten_concurrent_calls_for_ten_keys_have_ten_effects
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
            ("check", include_str!("check.rs")),
            ("claims", include_str!("claims.rs")),
            ("direct", include_str!("direct.rs")),
            ("fences", include_str!("fences.rs")),
            ("keys", include_str!("keys.rs")),
            ("lanes", include_str!("lanes.rs")),
            ("markers", include_str!("markers.rs")),
            ("misbehaviour", include_str!("misbehaviour.rs")),
            ("scopes", include_str!("scopes.rs")),
        ];
        for (group, source) in sources {
            for case in source.lines().filter_map(|line| line.strip_prefix("pub async fn ")) {
                let name = case.split('<').next().unwrap();
                let entry = format!("        {group}::{name}\n");
                assert!(list.contains(&entry), "{group}::{name} is not in the list");
            }
        }
    }
}
