//! The pipeline on a source and a store in memory. Time is virtual: a pause of 30 seconds costs
//! nothing, and a test that waits in vain fails at once.

mod broker;
mod client;
mod handlers;
mod harness;

mod batch_handlers;
mod corrections;
mod correlation;
mod crash_loops;
mod dead_letters;
mod duplicates;
mod edits;
mod event_enums;
mod fence;
mod group_commit;
mod handler_broke;
mod isolation;
mod key_reuse;
mod log_changed;
mod missing_keys;
mod model;
mod model_failures;
mod offset_mode;
mod opening;
mod outside;
mod outside_elsewhere;
mod outside_replays;
mod packed;
mod packed_eras;
mod packed_layout;
mod packed_outside;
mod packed_races;
mod packed_runs;
mod packed_switching;
mod packed_tending;
mod packed_widen;
mod parking;
mod refused;
mod releasing;
mod replays;
mod results;
mod results_not_kept;
mod retries;
mod routing;
#[cfg(feature = "avro")]
mod schema_registry;
mod seen;
mod slices;
mod slices_went_back;
mod starting;
mod stopping;
mod transient;
mod unknown_commit;
mod unmatched;
mod went_back;
