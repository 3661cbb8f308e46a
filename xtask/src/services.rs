//! `cargo xtask services`: Kafka and PostgreSQL for the day, so that plain `cargo test` works.

use idem_test_services::{
    DATABASE_URL, DetachedService, Error, KAFKA_BOOTSTRAP, Kafka, KafkaOptions, Lifetime, Postgres,
    PostgresOptions, Scratch, State, ensure_installed,
};

use crate::step::{self, Outcome};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Starts what does not run, and prints the addresses.
pub(crate) fn up() -> Result<Outcome> {
    let _lock = State::lock()?;
    let mut state = State::load()?;
    ensure_installed()?;
    state.kafka = Some(keep_or_start("kafka", state.kafka.take(), start_kafka)?);
    // Saved after each, so that `down` finds the first when the second fails.
    state.save()?;
    state.postgres = Some(keep_or_start("postgres", state.postgres.take(), start_postgres)?);
    state.save()?;
    print_addresses(&state);
    Ok(Outcome::Success)
}

/// Stops what runs, and deletes its data.
pub(crate) fn down() -> Result<Outcome> {
    let _lock = State::lock()?;
    let mut state = State::load()?;
    let mut nothing = true;
    for (name, service) in [("kafka", &mut state.kafka), ("postgres", &mut state.postgres)] {
        if let Some(service) = service.take() {
            service.stop_and_remove()?;
            step::say(&format!("{name} is down"));
            nothing = false;
        }
    }
    if nothing {
        step::say("no services are up");
    }
    state.save()?;
    Ok(Outcome::Success)
}

/// Prints the addresses of what runs; a failure if something does not.
pub(crate) fn status() -> Result<Outcome> {
    let state = State::load()?;
    print_addresses(&state);
    let mut outcome = Outcome::Success;
    for (name, service) in [("kafka", &state.kafka), ("postgres", &state.postgres)] {
        if !service.as_ref().is_some_and(DetachedService::runs) {
            step::say(&format!("{name} is not up: run `cargo xtask services up`"));
            outcome = Outcome::Failure(1);
        }
    }
    Ok(outcome)
}

fn keep_or_start(
    name: &str,
    known: Option<DetachedService>,
    start: impl FnOnce() -> std::result::Result<DetachedService, Error>,
) -> std::result::Result<DetachedService, Error> {
    if let Some(known) = known {
        if known.runs() {
            step::say(&format!("{name} is already up"));
            return Ok(known);
        }
        step::say(&format!("{name} has died: its data is deleted"));
        known.stop_and_remove()?;
    }
    step::say(&format!("starting {name}"));
    start()
}

/// The options of a broker that tests share.
///
/// Nobody kills it, so that its session need not be short for it to come back soon. With the tests' own
/// two seconds it is fenced on a busy machine, when its heartbeats come late, and clients lose it.
pub(crate) fn shared_broker() -> KafkaOptions {
    let session = ("broker.session.timeout.ms".to_owned(), "60000".to_owned());
    KafkaOptions { properties: vec![session], ..KafkaOptions::default() }
}

fn start_kafka() -> std::result::Result<DetachedService, Error> {
    let options = KafkaOptions { lifetime: Lifetime::Detached, ..shared_broker() };
    let dir = Scratch::permanent("up-kafka")?;
    Ok(Kafka::start_with(&dir, options)?.detached())
}

fn start_postgres() -> std::result::Result<DetachedService, Error> {
    let options = PostgresOptions { lifetime: Lifetime::Detached, ..PostgresOptions::default() };
    let dir = Scratch::permanent("up-postgres")?;
    Ok(Postgres::start_with(&dir, options)?.detached())
}

fn print_addresses(state: &State) {
    let services = [(KAFKA_BOOTSTRAP, &state.kafka), (DATABASE_URL, &state.postgres)];
    for (variable, service) in services {
        if let Some(service) = service.as_ref().filter(|service| service.runs()) {
            step::print(&format!("{variable}={}", service.address));
        }
    }
}
