//! The statements of a prefix, rendered once: sqlx keeps a prepared statement by its text.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::prefix::Prefix;
use crate::{
    attempts, check, claim, dead_letters, direct, foreign, forget, gone, instances, lane_row,
    lanes, letters, markers, merge, migrate, observe, packs, parking, retired, runs, scopes, seal,
    settle, slices, take,
};

/// The time, in the unit of the tables.
macro_rules! now {
    () => {
        "cast(round(unixepoch('subsec') * 1000) as integer)"
    };
}
pub(crate) use now;

macro_rules! statements {
    ($($name:ident: $template:expr,)*) => {
        pub(crate) struct Statements {
            $(pub(crate) $name: SqlStr,)*
        }

        impl Statements {
            pub(crate) fn new(prefix: &Prefix) -> Self {
                Self { $($name: render(prefix, $template),)* }
            }
        }
    };
}

statements! {
    token_is: claim::TOKEN_IS,
    insert_markers: claim::INSERT,
    reclaim_markers: claim::RECLAIM,
    given_up_keys: claim::GIVEN_UP,
    seal_lane: seal::LANE,
    mark_offsets: seal::MARK_OFFSETS,
    lanes_of_topic: lane_row::OF_TOPIC,
    lane_by_number: lane_row::BY_NUMBER,
    lane_by_slice: lane_row::BY_SLICE,
    has_lanes: lanes::HAS_ANY,
    open_lanes: lanes::OPEN,
    reposition_lane: lanes::REPOSITION,
    forget_offset_marks: lanes::FORGET_OFFSET_MARKS,
    cut_floors: lanes::CUT_FLOORS,
    forget_slices: lanes::FORGET_SLICES,
    forget_all_attempts: lanes::FORGET_ATTEMPTS,
    release_lane: lanes::RELEASE,
    former_owner: take::FORMER,
    take_lane: take::TAKE,
    close_attempts: take::CLOSE_ATTEMPTS,
    observe_lanes: observe::OBSERVE,
    heartbeat: observe::HEARTBEAT,
    seal_slice: slices::SEAL,
    note_handled: slices::NOTE_HANDLED,
    forget_other_slices: slices::FORGET_OTHERS,
    cut_lane: slices::CUT,
    slice_revisions: slices::REVISIONS,
    note_attempt: attempts::NOTE,
    forget_attempts: attempts::FORGET,
    calm_lane: attempts::CALM,
    letter_is_there: dead_letters::THERE,
    write_letter: dead_letters::WRITE,
    open_parked_key: parking::OPEN,
    wait_behind_key: parking::WAIT,
    leave_parked_key: parking::LEAVE,
    release_parked_key: parking::RELEASE,
    forget_released_keys: parking::FORGET,
    parked_keys: parking::PARKED,
    released_letters: parking::RELEASED,
    unpark_letters: parking::UNPARK,
    letters: letters::LETTERS,
    letter_history: letters::HISTORY,
    unforwarded_letters: letters::UNFORWARDED,
    letters_forwarded: letters::FORWARDED,
    one_letter: settle::ONE,
    letter_before: settle::BEFORE,
    settle_letter: settle::SETTLE,
    edit_letter: settle::EDIT,
    note_on_letter: settle::NOTE,
    recorded_scopes: scopes::RECORDED,
    insert_scopes: scopes::INSERT,
    adopt_scopes: scopes::ADOPT,
    retire_scopes: scopes::RETIRE,
    set_window: scopes::SET_WINDOW,
    lanes_of_group: scopes::LANES_OF,
    switch_scope: scopes::SWITCH,
    packed_scope: scopes::PACKED,
    revive_scopes: scopes::REVIVE,
    instance_of: scopes::INSTANCE_OF,
    is_instance: scopes::IS_INSTANCE,
    is_no_instance: scopes::IS_NO_INSTANCE,
    instance_seen: instances::SEEN,
    silent_instances: instances::SILENT,
    forget_letters: instances::FORGET_LETTERS,
    forget_lanes: instances::FORGET_LANES,
    forget_instances_packs: instances::FORGET_PACKS,
    forget_markers: instances::FORGET_MARKERS,
    forget_scopes: instances::FORGET_SCOPES,
    forget_instances: instances::FORGET,
    marker: markers::FIND,
    keep_result: markers::KEEP_RESULT,
    take_back: markers::TAKE_BACK,
    now: concat!("select ", now!()),
    digest_key: packs::DIGEST_KEY,
    pack_fence: packs::FENCE,
    insert_pack: packs::INSERT,
    window: packs::WINDOW,
    packs_of_window: packs::OF_WINDOW,
    pack_heads: packs::HEADS,
    packs_of_numbers: packs::OF_NUMBERS,
    foreign: foreign::SUMMED,
    foreign_heads: foreign::HEADS,
    packs_elsewhere: foreign::ELSEWHERE,
    keys_given_up: packs::GIVEN_UP_KEYS,
    keys_given_up_elsewhere: packs::GIVEN_UP_ELSEWHERE,
    concerned_lanes: direct::CONCERNED,
    partitions_of_lane: direct::PARTITIONS,
    packs_there: packs::THERE,
    delete_packs: packs::DELETE,
    raise_floor: packs::RAISE_FLOOR,
    find_packed: direct::FIND,
    unsettle_lane: direct::UNSETTLE,
    unsettle_slices: direct::UNSETTLE_SLICES,
    runs_of_window: runs::OF_WINDOW,
    runs_of_numbers: runs::OF_NUMBERS,
    runs_of_scope: runs::OF_SCOPE,
    add_run: runs::ADD,
    add_run_block: runs::ADD_BLOCK,
    mark_in_run: runs::MARK,
    runs_there: runs::THERE,
    run_block_of: runs::BLOCK_OF,
    change_run_block: runs::CHANGE_BLOCK,
    one_less_in_run: runs::ONE_LESS,
    forget_empty_run: runs::FORGET_EMPTY,
    run_blocks: merge::BLOCKS,
    begin_run: merge::BEGIN,
    extend_run: merge::EXTEND,
    count_runs: merge::COUNT,
    move_packs: merge::MOVE_PACKS,
    finish_run: merge::FINISH,
    put_out_runs: merge::PUT_OUT,
    sweep_run_blocks: merge::SWEEP_BLOCKS,
    empty_runs: merge::EMPTY,
    sweep_runs: merge::SWEEP,
    forget_marker_of: forget::MARKER,
    forget_open_letters: forget::OPEN_LETTERS,
    forget_asking: forget::ASKING,
    forget_marker: forget::DELETE_MARKER,
    note_digest_key: gone::NOTE_DIGEST_KEY,
    note_mode: scopes::NOTE_MODE,
    are_beside: gone::ARE_BESIDE,
    forget_retired: retired::BEGIN,
    forget_left_over: gone::FORGET_LEFT_OVER,
    retired_lanes: retired::LANES,
    is_retired: retired::STILL,
    forget_retired_packs: retired::PACKS_OF,
    forget_retired_run: retired::RUN_OF,
    forget_retired_windows: retired::WINDOWS_OF,
    find_packed_after: direct::FIND_AFTER,
    has_ledger: migrate::HAS_LEDGER,
    applied: migrate::APPLIED,
    record_migration: migrate::RECORD,
    identity: check::IDENTITY,
}

fn render(prefix: &Prefix, template: &str) -> SqlStr {
    // Safe: the templates are constants of this crate, and the prefix was validated.
    AssertSqlSafe(Arc::<str>::from(prefix.render(template))).into_sql_str()
}
