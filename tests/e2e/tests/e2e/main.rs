//! End to end, on a genuine Kafka and a genuine PostgreSQL.

#![expect(clippy::print_stdout, reason = "measured times are printed")]

mod duplicates;
mod kills;

/// The consumer's program.
const BIN: &str = env!("CARGO_BIN_EXE_e2e-consumer");
