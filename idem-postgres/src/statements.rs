//! The statements of a schema, rendered once: sqlx keeps a prepared statement by its text.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::schema::Schema;
use crate::{
    attempts, check, claim, claim_states, dead_letters, direct, foreign, forget, given_up, gone,
    instances, lanes, letters, markers, merge, migrate, owners, packs, parking, retired, runs,
    scopes, seal, settle, slices, take, zombie,
};

macro_rules! statements {
    ($($name:ident: $template:expr,)*) => {
        pub(crate) struct Statements {
            $(pub(crate) $name: SqlStr,)*
        }

        impl Statements {
            fn render(schema: &Schema, remark: &str) -> Self {
                Self { $($name: render(schema, remark, $template),)* }
            }
        }
    };
}

statements! {
    claim_lane: claim::LANE,
    claim_lane_one: claim::LANE_ONE,
    claim_lane_many: claim::LANE_MANY,
    claim_direct: claim::DIRECT,
    claim_lane_as: claim_states::LANE,
    claim_direct_as: claim_states::DIRECT,
    given_up: given_up::GIVEN_UP,
    seal_lane: seal::LANE,
    seal_slice: seal::SLICE,
    seal_direct: seal::DIRECT,
    blockers: zombie::BLOCKERS,
    end_fenced: zombie::END_FENCED,
    lanes_of_topic: lanes::OF_TOPIC,
    lane_by_number: lanes::BY_NUMBER,
    lane_by_slice: lanes::BY_SLICE,
    has_lanes: lanes::HAS_ANY,
    open_lanes: lanes::OPEN,
    lock_lane: take::LOCK,
    take_lane: take::TAKE,
    observe_lanes: lanes::OBSERVE,
    heartbeat: owners::HEARTBEAT,
    reposition_lane: lanes::REPOSITION,
    forget_offset_marks: lanes::FORGET_OFFSET_MARKS,
    cut_floors: lanes::CUT_FLOORS,
    release_lane: lanes::RELEASE,
    lock_held_lane: slices::LOCK,
    cut_lane: slices::CUT,
    note_attempt: attempts::NOTE,
    forget_attempts: attempts::FORGET,
    give_up: dead_letters::GIVE_UP,
    parked_keys: parking::PARKED,
    change_parked_keys: parking::CHANGE,
    released_letters: parking::RELEASED,
    lock_waiting: parking::LOCK_WAITING,
    unpark_letters: parking::UNPARK,
    find_letters: letters::FIND,
    unforwarded_letters: letters::UNFORWARDED,
    forwarded_letters: letters::FORWARDED,
    letter_history: letters::HISTORY,
    lock_letters_key: settle::LOCK_KEY,
    lock_letter: settle::LOCK,
    settle_letter: settle::SETTLE,
    lock_scopes: scopes::LOCK,
    recorded_scopes: scopes::RECORDED,
    insert_scopes: scopes::INSERT,
    adopt_scopes: scopes::ADOPT,
    retire_scopes: scopes::RETIRE,
    set_windows: scopes::SET_WINDOWS,
    lanes_of_group: scopes::LANES_OF,
    switch_scopes: scopes::SWITCH,
    revive_scopes: scopes::REVIVE,
    instance_of: scopes::INSTANCE_OF,
    is_instance: scopes::IS_INSTANCE,
    is_no_instance: scopes::IS_NO_INSTANCE,
    instance_seen: instances::SEEN,
    silent_instances: instances::SILENT,
    still_silent_instances: instances::STILL_SILENT,
    forgetting_lanes: instances::FORGETTING,
    forget_lanes: instances::FORGET_LANES,
    forget_markers: instances::FORGET_MARKERS,
    forget_instances_packs: instances::FORGET_PACKS,
    forget_instances: instances::FORGET,
    marker: markers::FIND,
    known_markers: markers::KNOWN,
    keep_results: markers::KEEP_RESULTS,
    take_back: markers::TAKE_BACK,
    digest_key: packs::DIGEST_KEY,
    pack: packs::PACK,
    pack_guarded: packs::PACK_GUARDED,
    window: packs::WINDOW,
    packs_of_window: packs::OF_WINDOW,
    pack_heads: packs::HEADS,
    packs_of_numbers: packs::OF_NUMBERS,
    given_up_keys: packs::GIVEN_UP_KEYS,
    given_up_elsewhere: packs::GIVEN_UP_ELSEWHERE,
    repack: packs::REPACK,
    forget_packs: packs::FORGET,
    find_packed: direct::FIND,
    find_packed_in_lane: direct::FIND_IN_LANE,
    concerned_lanes: direct::CONCERNED,
    unsettle_lanes: direct::UNSETTLE,
    unsettle_slices: direct::UNSETTLE_SLICES,
    pack_direct: direct::PACK_DIRECT,
    runs_of_window: runs::OF_WINDOW,
    runs_of_numbers: runs::OF_NUMBERS,
    add_run: runs::ADD,
    add_run_blocks: runs::ADD_BLOCKS,
    in_runs: runs::IN_RUNS,
    forget_empty_runs: runs::FORGET_EMPTY,
    run_blocks: merge::BLOCKS,
    begin_run: merge::BEGIN,
    extend_run: merge::EXTEND,
    run_filter: merge::FILTER,
    lock_runs: merge::LOCK,
    move_packs: merge::MOVE_PACKS,
    replace_runs: merge::REPLACE,
    sweep_runs: merge::SWEEP,
    sweep_empty_runs: merge::SWEEP_EMPTY,
    sweep_rowless_runs: merge::SWEEP_ROWLESS,
    foreign: foreign::SUMMED,
    foreign_heads: foreign::HEADS,
    packs_elsewhere: foreign::ELSEWHERE,
    forget_lock_marker: forget::MARKER,
    forget_lanes_of: forget::LANES,
    forget_lock_lanes: forget::LOCK,
    forget_open_letters: forget::OPEN_LETTERS,
    forget_replace: forget::REPLACE,
    forget_row: forget::DELETE,
    forget_in_runs: forget::FORGET_IN_RUNS,
    forget_marker: forget::DELETE_MARKER,
    note_digest_key: gone::NOTE_DIGEST_KEY,
    note_mode: scopes::NOTE_MODE,
    forget_gone: gone::FORGET,
    forget_left_over: gone::FORGET_LEFT_OVER,
    forget_retired: retired::BEGIN,
    is_retired: retired::STILL,
    retired_lanes: retired::LANES,
    forget_retired_packs: retired::PACKS_OF,
    forget_retired_run: retired::RUN_OF,
    forget_retired_windows: retired::WINDOWS_OF,
    has_ledger: migrate::HAS_LEDGER,
    applied: migrate::APPLIED,
    record_migration: migrate::RECORD,
    lock_migrations: migrate::LOCK,
    identity: check::IDENTITY,
    lacking_rights: check::LACKING_RIGHTS,
}

impl Statements {
    pub(crate) fn new(schema: &Schema) -> Self {
        Self::render(schema, "")
    }

    /// The same for serializable transactions. The server keeps a prepared statement's plan for as
    /// long as the session lives, and these ask for other plans (see `session`): another text is
    /// another prepared statement.
    pub(crate) fn serializable(schema: &Schema) -> Self {
        Self::render(schema, "/* serializable */")
    }
}

fn render(schema: &Schema, remark: &str, template: &str) -> SqlStr {
    // Safe: the templates are constants of this crate, and the schema's name was validated.
    AssertSqlSafe(Arc::<str>::from(format!("{remark}{}", schema.render(template)))).into_sql_str()
}
