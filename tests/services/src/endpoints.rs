//! Where the services are that a test may share with others.
//!
//! It starts nothing: a test run starts them once (`cargo xtask test`), or a developer does for the
//! day (`cargo xtask services up`), and tests keep apart by topic, group and schema.

use std::env;

use crate::{DetachedService, Error, State};

/// The environment variable that names the broker, as `host:port`.
pub const KAFKA_BOOTSTRAP: &str = "KAFKA_BOOTSTRAP";
/// The environment variable that names the database, as a `postgres://` URL.
pub const DATABASE_URL: &str = "DATABASE_URL";

/// The addresses of the shared services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The broker, as `host:port`.
    pub kafka_bootstrap: String,
    /// The database, with a user who may create schemas and roles.
    pub database_url: String,
}

impl Endpoints {
    /// Finds each service in its environment variable ([`KAFKA_BOOTSTRAP`], [`DATABASE_URL`]), else
    /// among those that `cargo xtask services up` started and that still run.
    ///
    /// # Errors
    ///
    /// When one is found in neither place; the message says how to start it.
    pub fn discover() -> Result<Self, Error> {
        let state = State::load()?;
        Ok(Self {
            kafka_bootstrap: find(KAFKA_BOOTSTRAP, "Kafka", env_var, state.kafka)?,
            database_url: find(DATABASE_URL, "PostgreSQL", env_var, state.postgres)?,
        })
    }
}

fn env_var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn find(
    variable: &str,
    name: &str,
    env_var: impl Fn(&str) -> Option<String>,
    detached: Option<DetachedService>,
) -> Result<String, Error> {
    let running = || detached.filter(DetachedService::runs);
    env_var(variable).or_else(|| running().map(|service| service.address)).ok_or_else(|| {
        Error::new(format!(
            "no {name} to test against: {variable} is not set and no services are up; run \
                 `cargo xtask test`, or `cargo xtask services up` once and then `cargo test`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessId;

    fn detached(process: ProcessId) -> Option<DetachedService> {
        Some(DetachedService { process, address: "up:1".into(), dir: "/nowhere".into() })
    }

    #[test]
    fn the_environment_comes_first_then_what_is_up() {
        let this = ProcessId::of(std::process::id()).unwrap();
        let set = |_: &str| Some("set:2".to_owned());
        let unset = |_: &str| None;
        assert_eq!(find("V", "Kafka", set, detached(this)).unwrap(), "set:2");
        assert_eq!(find("V", "Kafka", unset, detached(this)).unwrap(), "up:1");
    }

    #[test]
    fn what_was_up_and_died_is_not_offered() {
        let dead = "1@1".parse().unwrap();
        let error = find("V", "Kafka", |_| None, detached(dead)).unwrap_err();
        assert!(error.to_string().contains("cargo xtask services up"));
    }
}
