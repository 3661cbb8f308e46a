//! `cargo xtask test`: `cargo test` with services around it.

use std::process::Command;

use idem_test_services::{
    DATABASE_URL, DetachedService, Error, KAFKA_BOOTSTRAP, Kafka, Postgres, Scratch, State,
    ensure_build_tools, ensure_installed,
};

use crate::interrupt::Interrupts;
use crate::services::shared_broker;
use crate::step::{self, Outcome};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Says in which form tests keep markers.
const MARKERS: &str = "IDEM_TEST_MARKERS";

/// The tests that are run in both forms of markers: what they are called, and how `cargo test` is told.
const IN_BOTH_FORMS: [(&str, &[&str]); 2] = [
    ("the tests of the pipeline", &["--workspace", "--lib", "--", "pipeline::"]),
    ("the end-to-end tests", &["--workspace", "--test", "e2e"]),
];

/// Starts what is not there, runs all tests, some of them in both forms of markers, and stops what it
/// started: also after a failure and after a signal, and the kernel does it if this process is killed.
pub(crate) fn run(interrupts: &Interrupts, extra: &[String]) -> Result<Outcome> {
    step::say("==> services");
    ensure_build_tools()?;
    // Also when all services are there: tests that break a service start one of their own.
    ensure_installed()?;
    let services = Services::find_or_start()?;
    if let Some(signal) = interrupts.received() {
        return Ok(Outcome::of_signal(signal));
    }
    let mut all = services.tests();
    if !names_packages(extra) {
        all.arg("--workspace");
    }
    all.args(extra);
    all.env_remove(MARKERS);
    let mut outcome = step::run(interrupts, &mut all)?;
    if !extra.is_empty() {
        return Ok(outcome);
    }
    for (name, which) in IN_BOTH_FORMS {
        if interrupts.received().is_some() {
            break;
        }
        step::say(&format!("\n==> {name} again, with {MARKERS}=packed"));
        let mut packed = services.tests();
        packed.args(which).env(MARKERS, "packed");
        outcome = outcome.and(step::run(interrupts, &mut packed)?);
    }
    Ok(outcome)
}

/// Whether `cargo test` is told which packages to test; `--workspace` would override that.
fn names_packages(extra: &[String]) -> bool {
    let of_cargo = extra.iter().take_while(|argument| *argument != "--");
    let mut names =
        of_cargo.filter(|argument| argument.starts_with("-p") || *argument == "--package");
    names.next().is_some()
}

/// The services of one run. Those that the run started stop when this is dropped.
struct Services {
    kafka_bootstrap: String,
    database_url: String,
    // Dropped in this order: the servers before the directory of their files.
    _kafka: Option<Kafka>,
    _postgres: Option<Postgres>,
    _scratch: Scratch,
}

impl Services {
    /// `cargo test`, which finds the services.
    fn tests(&self) -> Command {
        let mut command = step::cargo(["test", "--no-fail-fast"]);
        command.env(KAFKA_BOOTSTRAP, &self.kafka_bootstrap);
        command.env(DATABASE_URL, &self.database_url);
        command
    }

    fn find_or_start() -> std::result::Result<Self, Error> {
        let up = State::load()?;
        let scratch = Scratch::new("run")?;
        let mut kafka = None;
        let kafka_bootstrap = match existing(KAFKA_BOOTSTRAP, up.kafka) {
            Some(bootstrap) => bootstrap,
            None => {
                step::say("starting kafka (its jars are downloaded the first time)");
                let started = Kafka::start_with(&scratch.path().join("kafka"), shared_broker())?;
                kafka.insert(started).bootstrap().to_owned()
            }
        };
        let mut postgres = None;
        let database_url = match existing(DATABASE_URL, up.postgres) {
            Some(url) => url,
            None => {
                step::say("starting postgres");
                let started = Postgres::start(&scratch.path().join("postgres"))?;
                postgres.insert(started).url()
            }
        };
        Ok(Self {
            kafka_bootstrap,
            database_url,
            _kafka: kafka,
            _postgres: postgres,
            _scratch: scratch,
        })
    }
}

/// A service that somebody else takes care of.
fn existing(variable: &str, up: Option<DetachedService>) -> Option<String> {
    if let Some(address) = std::env::var(variable).ok().filter(|value| !value.is_empty()) {
        step::say(&format!("using {variable} as it is set"));
        return Some(address);
    }
    let running = up.filter(DetachedService::runs)?;
    step::say(&format!("using the service that is up for {variable}"));
    Some(running.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arguments_of_cargo_name_packages() {
        let names = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(String::from).collect();
            names_packages(&words)
        };
        assert!(names("--release -p idem-runtime") && names("--package idem-runtime"));
        assert!(!names("--release") && !names("-- -p"));
    }
}
