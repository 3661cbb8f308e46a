//! `cargo xtask test`: `cargo test` with services around it.

use idem_test_services::{
    DATABASE_URL, DetachedService, Error, KAFKA_BOOTSTRAP, Kafka, Postgres, Scratch, State,
    ensure_build_tools, ensure_installed,
};

use crate::interrupt::Interrupts;
use crate::step::{self, Outcome};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Says in which form the tests of the pipeline keep markers.
const MARKERS: &str = "IDEM_TEST_MARKERS";

/// Starts what is not there, runs all tests, those of the pipeline in both forms of markers, and stops
/// what it started: also after a failure and after a signal, and the kernel does it if this process is
/// killed.
pub(crate) fn run(interrupts: &Interrupts, extra: &[String]) -> Result<Outcome> {
    step::say("==> services");
    ensure_build_tools()?;
    // Also when all services are there: tests that break a service start one of their own.
    ensure_installed()?;
    let services = Services::find_or_start()?;
    if let Some(signal) = interrupts.received() {
        return Ok(Outcome::of_signal(signal));
    }
    let mut command = step::cargo(["test", "--no-fail-fast"]);
    if !names_packages(extra) {
        command.arg("--workspace");
    }
    command.args(extra);
    command.env(KAFKA_BOOTSTRAP, &services.kafka_bootstrap);
    command.env(DATABASE_URL, &services.database_url);
    command.env_remove(MARKERS);
    let outcome = step::run(interrupts, &mut command)?;
    if !extra.is_empty() || interrupts.received().is_some() {
        return Ok(outcome);
    }
    step::say(&format!("\n==> the tests of the pipeline again, with {MARKERS}=packed"));
    let packed = ["test", "--no-fail-fast", "--workspace", "--lib", "--", "pipeline::"];
    let mut packed = step::cargo(packed);
    packed.env(MARKERS, "packed");
    Ok(outcome.and(step::run(interrupts, &mut packed)?))
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
    fn find_or_start() -> std::result::Result<Self, Error> {
        let up = State::load()?;
        let scratch = Scratch::new("run")?;
        let mut kafka = None;
        let kafka_bootstrap = match existing(KAFKA_BOOTSTRAP, up.kafka) {
            Some(bootstrap) => bootstrap,
            None => {
                step::say("starting kafka (its jars are downloaded the first time)");
                let started = Kafka::start(&scratch.path().join("kafka"))?;
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
