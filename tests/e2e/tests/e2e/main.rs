//! End to end, on a genuine Kafka and a genuine PostgreSQL.

#![expect(clippy::print_stdout, reason = "measured times are printed")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

mod beside;
mod broadcast;
mod cloud_events;
mod coming_back;
mod dead_letter_topic;
mod duplicates;
mod failures;
mod formats;
mod gone_wrong;
mod keys;
mod kills;
mod logs;
mod memory;
mod on_sqlite;
mod operator;
mod outages;
mod packed;
mod poison;
mod policies;
mod rebalance;
mod restore;
mod routing;
mod shapes;
mod startup;
mod switching;
mod zombie;

/// The consumer's program.
const BIN: &str = env!("CARGO_BIN_EXE_e2e-consumer");
