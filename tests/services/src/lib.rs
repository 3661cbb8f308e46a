//! Starts, stops and breaks genuine services for idem's tests: one Kafka broker ([`Kafka`]) and one
//! PostgreSQL server ([`Postgres`]), each with its own ports, data and log, so that a test may kill,
//! pause or rewind its server while other tests use theirs.
//!
//! It is *not* a client: it runs SQL and Kafka's command-line tools only as far as an operator would
//! from a shell, and knows nothing about idem. It is synchronous and needs Linux (`/proc`,
//! `setpriv`), because it promises that no server outlives the test that started it (see
//! [`Lifetime`]).
//!
//! A test that only *uses* a service asks [`Endpoints::discover`], which finds the services that
//! `cargo xtask test` or `cargo xtask services up` started. A test that *breaks* one starts its own
//! below a [`Scratch`] directory.

#![forbid(unsafe_code)]

mod endpoints;
mod error;
mod install;
mod kafka;
mod logs;
mod paths;
mod ports;
mod postgres;
mod process;
mod random;
mod scratch;
mod server;
mod spawn;
mod state;
mod tools;
mod wait;

pub use endpoints::{DATABASE_URL, Endpoints, KAFKA_BOOTSTRAP};
pub use error::Error;
pub use install::{ensure_build_tools, ensure_installed, ensure_python};
pub use kafka::{Kafka, KafkaOptions};
pub use paths::services_dir;
pub use postgres::{Postgres, PostgresOptions, Snapshot};
pub use process::ProcessId;
pub use scratch::Scratch;
pub use spawn::Lifetime;
pub use state::{DetachedService, State};
pub use wait::wait_until;
