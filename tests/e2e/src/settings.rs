//! How a consumer under test is set up: in this process, or handed to another one.

use std::time::Duration;

use idem::postgres::Postgres;
use idem::{
    Broadcast, Builder, DatabaseLost, Idem, IsolationLevel, Kafka, LayoutChanged, LogChanged,
    Markers, OnFailure, Policy, Retry, Start, Unmatched,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPool};

use crate::beside::{Payments, bill_checked, charge_never_twice, charge_probed};
use crate::handlers::{Gate, bill, bill_by_header, bill_by_offset, bill_many};
use crate::routed::{bill_enum, bill_orders, bill_regions, bill_west};

/// The environment variable that carries them to another process.
pub const VARIABLE: &str = "IDEM_E2E_SETTINGS";

/// How a consumer under test is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The broker.
    pub bootstrap: String,
    /// The database.
    pub database_url: String,
    /// The schema of idem's tables.
    pub schema: String,
    /// The schema of the effects.
    pub effects: String,
    /// The consumer group.
    pub group: String,
    /// The real name of the topic `orders`.
    pub topic: String,
    /// The instance's name, for static membership.
    pub instance: Option<String>,
    /// Properties of librdkafka.
    pub properties: Vec<(String, String)>,
    /// The handlers, by name.
    pub handlers: Vec<String>,
    /// The number of the gate's lock.
    pub gate: i64,
    /// Whether a changed log is read again from its oldest event.
    pub restart_on_changed_log: bool,
    /// Where to start when the database lost its position: `earliest`, `committed`.
    pub lost: Option<String>,
    /// Where to start: `earliest`, `latest`, `committed`.
    pub start: Option<String>,
    /// Scopes to take over.
    pub adopt: Vec<String>,
    /// The most events in a transaction.
    pub max_batch: usize,
    /// How long a claim or a statement waits for a lock, in milliseconds.
    pub lock_timeout_ms: u64,
    /// The bytes of waiting events.
    pub queue_bytes: usize,
    /// How markers are kept by handlers that can keep them so: `rows` or `packed`.
    pub markers: String,
    /// Whether the windows of a former layout are asked, where that changed.
    pub widen: bool,
    /// The memory of all windows, in bytes.
    pub packed_memory: Option<usize>,
    /// What all handlers do when they fail, and the like.
    pub policy: Said,
    /// A topic for dead letters.
    pub dead_letter_topic: Option<String>,
    /// Whether events that no handler wants are dead letters.
    pub keep_unmatched: bool,
    /// The instance's name, of a group in which each reads everything.
    pub broadcast: Option<String>,
    /// How long an instance may be silent until it is forgotten, in milliseconds.
    pub forget_after_ms: Option<u64>,
    /// How often lanes are compared and instances say that they are there, in milliseconds.
    pub check_interval_ms: Option<u64>,
}

/// A policy in words; what is not said is idem's default, but for retries, which have no end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Said {
    /// `dead_letter`, `park_key` or `stop`.
    pub on_failure: Option<String>,
    /// Attempts at most.
    pub attempts: Option<u32>,
    /// Into how many slices a partition is divided.
    pub slices: Option<u16>,
    /// How long a call may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether transactions are serializable.
    pub serializable: bool,
}

impl Said {
    fn policy(&self) -> Policy {
        let retry = Retry::forever().backoff(Duration::from_millis(20), Duration::from_millis(500));
        let mut policy = Policy::new().retry(match self.attempts {
            Some(attempts) => retry.max(attempts),
            None => retry,
        });
        policy.slices = self.slices;
        policy.timeout = self.timeout_ms.map(Duration::from_millis);
        policy.isolation = self.serializable.then_some(IsolationLevel::Serializable);
        policy.on_failure = self.on_failure.as_deref().map(|word| match word {
            "dead_letter" => OnFailure::DeadLetter,
            "park_key" => OnFailure::PARK_KEY,
            "stop" => OnFailure::Stop,
            other => panic!("no policy {other}"),
        });
        policy
    }
}

impl Settings {
    /// The same for another instance name.
    #[must_use]
    pub fn instance(&self, name: &str) -> Self {
        Self { instance: Some(name.to_owned()), ..self.clone() }
    }

    /// The same with one more property of librdkafka.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with this policy.
    #[must_use]
    pub fn policy(&self, policy: Said) -> Self {
        Self { policy, ..self.clone() }
    }

    /// The same with these handlers.
    #[must_use]
    pub fn handlers(&self, names: &[&str]) -> Self {
        Self { handlers: names.iter().map(|it| (*it).to_owned()).collect(), ..self.clone() }
    }

    /// The settings another process handed over.
    ///
    /// # Errors
    /// When the variable is missing or not ours.
    pub fn from_env() -> Result<Self, idem::BoxError> {
        Ok(serde_json::from_str(&std::env::var(VARIABLE)?)?)
    }

    /// How to reach the tables of the effects.
    fn options(&self) -> idem::Result<PgConnectOptions> {
        let options = self.database_url.parse::<PgConnectOptions>().map_err(|error| {
            idem::Error::new(idem::ErrorKind::Config, "the URL").with_source(error)
        })?;
        Ok(options.options([("search_path", &self.effects)]))
    }

    /// The store, with its tables made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn store(&self) -> idem::Result<Postgres> {
        Postgres::builder_with(self.options()?)
            .schema(&self.schema)
            .lock_timeout(Duration::from_millis(self.lock_timeout_ms))
            .connect()
            .await
    }

    /// The policy of a handler that can keep its markers in either form.
    fn in_form(&self, policy: Policy) -> Policy {
        policy.markers(match self.markers.as_str() {
            "rows" => Markers::Rows,
            "packed" => Markers::Packed,
            other => panic!("no form of markers {other}"),
        })
    }

    /// The handlers, ready to run.
    ///
    /// # Errors
    /// What the builder refuses.
    pub async fn build(&self) -> idem::Result<Idem> {
        let mut kafka = Kafka::new(&self.bootstrap);
        for (name, value) in &self.properties {
            kafka = kafka.set(name, value);
        }
        if let Some(instance) = &self.instance {
            kafka = kafka.instance(instance);
        }
        let mut builder = Builder::new()
            .kafka(kafka)
            .group(&self.group)
            .store(self.store().await?)
            .state(Gate(self.gate))
            .state(Payments(PgPool::connect_lazy_with(self.options()?)))
            .topic_name("orders", &self.topic)
            .topic_name("^orders\\.", format!("^{}\\.", self.topic))
            .max_batch(self.max_batch)
            .queue_bytes(self.queue_bytes);
        if let Some(instance) = &self.broadcast {
            let mut broadcast = Broadcast::new(instance);
            if let Some(time) = self.forget_after_ms {
                broadcast = broadcast.forget_after(Duration::from_millis(time));
            }
            builder = builder.broadcast(broadcast);
        }
        if let Some(interval) = self.check_interval_ms {
            builder = builder.check_interval(Duration::from_millis(interval));
        }
        if self.keep_unmatched {
            builder = builder.unmatched(Unmatched::DeadLetter);
        }
        if let Some(topic) = &self.dead_letter_topic {
            builder = builder.dead_letter_topic(topic);
        }
        let policy = self.policy.policy();
        let formed = self.in_form(policy);
        if let Some(bytes) = self.packed_memory {
            builder = builder.packed_memory(bytes);
        }
        if self.widen {
            builder = builder.layout_changed(LayoutChanged::Widen);
        }
        if let Some(start) = &self.start {
            builder = builder.start(start_of(start));
        }
        if let Some(start) = &self.lost {
            builder = builder.database_lost(DatabaseLost::StartAt(start_of(start)));
        }
        if self.restart_on_changed_log {
            builder = builder.log_changed(LogChanged::Earliest);
        }
        for scope in &self.adopt {
            builder = builder.adopt_scope(scope);
        }
        for handler in &self.handlers {
            builder = match handler.as_str() {
                "bill" => builder.handler_with::<bill>(formed),
                "bill_many" => builder.handler_with::<bill_many>(formed),
                "bill_by_offset" => builder.handler_with::<bill_by_offset>(policy),
                "bill_by_header" => builder.handler_with::<bill_by_header>(formed),
                "bill_checked" => builder.handler_with::<bill_checked>(policy),
                "charge_probed" => builder.handler_with::<charge_probed>(policy),
                "charge_never_twice" => builder.handler_with::<charge_never_twice>(policy),
                "bill_orders" => builder.handler_with::<bill_orders>(formed),
                "bill_west" => builder.handler_with::<bill_west>(formed),
                "bill_enum" => builder.handler_with::<bill_enum>(formed),
                "bill_regions" => builder.handler_with::<bill_regions>(formed),
                other => panic!("no handler {other}"),
            };
        }
        builder.build()
    }
}

fn start_of(word: &str) -> Start {
    match word {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        "committed" => Start::Committed,
        other => panic!("no start {other}"),
    }
}
