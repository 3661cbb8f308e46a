//! `cargo xtask bench`: the benchmark with services of its own around it.
//!
//! Never on the services that are up: what they were started for is another thing, and they keep no
//! times of commits.

use idem_test_services::{
    DATABASE_URL, KAFKA_BOOTSTRAP, Kafka, KafkaOptions, Postgres, PostgresOptions, Scratch,
    ensure_build_tools, ensure_installed,
};

use crate::interrupt::Interrupts;
use crate::step::{self, Outcome};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The database as a team runs it, but for one thing, which stays as tests have it unless asked for:
/// a commit does not wait for the disk. That is kind to whoever commits often, and keeps the disk's
/// moods out of the numbers.
const POSTGRES: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    // The benchmark asks for one before each contender; one in the middle would be bad luck.
    ("checkpoint_timeout", "30min"),
    // Latency is read from these.
    ("track_commit_timestamp", "on"),
];

/// Housekeeping at Kafka's own pace, not at that of the tests.
const KAFKA: &[(&str, &str)] = &[
    ("log.retention.check.interval.ms", "300000"),
    ("log.cleaner.backoff.ms", "15000"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000"),
];

/// The option that is ours and not the benchmark's.
const DURABLE: &str = "--durable";

const PROGRAM: &[&str] = &["--release", "--package", "idem-bench"];

/// Builds the benchmark, starts services, runs it, and stops them: also after a failure and after a
/// signal.
pub(crate) fn run(interrupts: &Interrupts, options: &[String]) -> Result<Outcome> {
    ensure_build_tools()?;
    ensure_installed()?;
    let built = step::run(interrupts, step::cargo(["build"]).args(PROGRAM))?;
    if built != Outcome::Success {
        return Ok(built);
    }
    step::say("\n==> services");
    let scratch = Scratch::new("bench")?;
    let kafka = KafkaOptions { properties: owned(KAFKA), ..KafkaOptions::default() };
    let kafka = Kafka::start_with(&scratch.path().join("kafka"), kafka)?;
    let durable = options.iter().any(|option| option == DURABLE);
    let mut settings = owned(POSTGRES);
    settings.extend(owned(&[("fsync", if durable { "on" } else { "off" })]));
    let postgres = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start_with(&scratch.path().join("postgres"), postgres)?;
    if let Some(signal) = interrupts.received() {
        return Ok(Outcome::of_signal(signal));
    }
    let mut command = step::cargo(["run", "--quiet"]);
    command.args(PROGRAM).arg("--");
    command.args(options.iter().filter(|option| *option != DURABLE));
    command.env(KAFKA_BOOTSTRAP, kafka.bootstrap());
    command.env(DATABASE_URL, postgres.url());
    // So that the broker's work is not taken for that of a stranger.
    command.env("IDEM_BENCH_BROKER_PID", kafka.pid().to_string());
    Ok(step::run(interrupts, &mut command)?)
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
