//! The settings of the Kafka client: what users pass through, and what idem owns.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::error::{Error, ErrorKind, Result};

/// Properties that carry the guarantee or are decided elsewhere, each with the reason.
const OWNED: &[(&str, &str)] = &[
    ("group.id", "it is the group's name: use `.group(\"..\")` on the builder"),
    ("group.instance.id", "use `.instance(\"..\")`"),
    ("enable.auto.commit", "offsets are committed after the database, never by a timer"),
    ("auto.commit.interval.ms", "offsets are committed after the database, never by a timer"),
    ("enable.auto.offset.store", "offsets are committed after the database, never when read"),
    ("auto.offset.reset", "the database knows the position: use `.start(..)` on the builder"),
    ("enable.partition.eof", "idem does not read its events"),
    ("enable.idempotence", "it is a producer's property"),
    ("transactional.id", "it is a producer's property"),
];

/// What idem sets where the user does not. Sessions are short, so that a dead member's partitions
/// flow again within seconds; buffers are small, because events wait in the lanes' queues.
const DEFAULTS: &[(&str, &str)] = &[
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1500"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("allow.auto.create.topics", "false"),
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "20000"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("socket.keepalive.enable", "true"),
];

/// Properties of the classic group protocol, which the consumer protocol (KIP-848) refuses.
const CLASSIC: &[&str] =
    &["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"];

/// How to reach Kafka.
///
/// Any property of librdkafka passes through with [`set`](Kafka::set), but for the few that carry
/// the guarantee; those are refused when the builder builds, with the reason.
///
/// ```
/// use idem_runtime::Kafka;
///
/// let kafka = Kafka::new("127.0.0.1:9092")
///     .set("client.id", "billing")
///     .set("security.protocol", "plaintext")
///     .instance("billing-1");
/// # let _ = kafka;
/// ```
///
/// Defaults that differ from librdkafka's: a session of 6 s (a dead member's partitions are taken
/// over within 10 s), heartbeats every 1.5 s, cooperative-sticky assignment, no automatic creation
/// of topics, 16 MiB of client buffers, and metadata that is refreshed every 30 s, which is how long a
/// new topic can be there before a pattern finds it (`topic.metadata.refresh.interval.ms`).
#[derive(Clone)]
pub struct Kafka {
    properties: BTreeMap<String, String>,
    instance: Option<String>,
}

impl Kafka {
    /// Brokers to ask first, as `host:port,host:port`.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        let properties = BTreeMap::from([("bootstrap.servers".to_owned(), bootstrap.into())]);
        Self { properties, instance: None }
    }

    /// Sets a property of librdkafka.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Names this instance (static membership): restarted under the same name it has its partitions
    /// back at once, without a rebalance. Two running instances must not have the same name; the
    /// older one ends with an error.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    pub(crate) fn instance_name(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// The brokers, for messages.
    pub(crate) fn bootstrap(&self) -> &str {
        self.properties.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// Everything that is wrong with the settings, one sentence each.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut mistakes: Vec<_> = OWNED
            .iter()
            .filter(|(name, _)| self.properties.contains_key(*name))
            .map(|(name, why)| format!("the Kafka property `{name}` is set by idem: {why}"))
            .collect();
        if self.bootstrap().trim().is_empty() && !self.is_mock() {
            mistakes.push("the Kafka settings name no broker: `Kafka::new(\"host:9092\")`".into());
        }
        if self.instance.as_deref().is_some_and(str::is_empty) {
            mistakes.push("the Kafka instance's name is empty".into());
        }
        mistakes
    }

    /// What the user set.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether the user asked for the client's debug lines.
    pub(crate) fn debugs(&self) -> bool {
        self.properties.get("debug").is_some_and(|it| !it.trim().is_empty())
    }

    fn is_mock(&self) -> bool {
        self.properties.contains_key("test.mock.num.brokers")
    }

    /// The client's configuration for a group.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        let modern = self.properties.get("group.protocol").is_some_and(|it| it == "consumer");
        for (name, value) in DEFAULTS {
            if !(modern && CLASSIC.contains(name)) {
                config.set(*name, *value);
            }
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error");
        // A pattern names no internal topic.
        let hidden = self.properties.get("topic.blacklist").filter(|it| !it.trim().is_empty());
        config.set("topic.blacklist", hidden.map_or("^__".to_owned(), |it| format!("{it},^__")));
        // A few lines for each refresh of the metadata. Among them is the only word of the client
        // that a topic was made anew: see `Callbacks::log`.
        let debug = self.properties.get("debug").filter(|_| self.debugs());
        config.set("debug", debug.map_or("metadata".to_owned(), |it| format!("{it},metadata")));
        config.set_log_level(RDKafkaLogLevel::Debug);
        if let Some(instance) = &self.instance {
            config.set("group.instance.id", instance);
        }
        config
    }
}

/// Names and values, without the values of what is or may be a secret.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PLAIN: &[&str] = &["bootstrap.servers", "client.id", "group.protocol"];
        let mut map = f.debug_map();
        for (name, value) in &self.properties {
            let shown = PLAIN.contains(&name.as_str());
            map.entry(name, if shown { value } else { &"..." as &dyn fmt::Debug });
        }
        map.entry(&"instance", &self.instance).finish()
    }
}

/// An error of the client, with what was being done.
pub(crate) fn kafka_error(what: impl fmt::Display, error: rdkafka::error::KafkaError) -> Error {
    Error::new(ErrorKind::Kafka, what.to_string()).with_source(error)
}

/// Turns the client's refusal of a configuration into ours.
pub(crate) fn created<T>(result: rdkafka::error::KafkaResult<T>) -> Result<T> {
    use rdkafka::error::KafkaError;
    result.map_err(|error| match &error {
        KafkaError::ClientConfig(_, why, name, _) => Error::new(
            ErrorKind::Config,
            // The value stays out of it: it may be a secret.
            format!("the Kafka property `{name}` is refused: {}", without_value(why)),
        ),
        _ => kafka_error("the Kafka client cannot be created", error),
    })
}

/// librdkafka quotes the refused value; keep what comes before it.
fn without_value(why: &str) -> &str {
    why.split(['"', '\'']).next().map_or("invalid", str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_properties_are_refused_with_the_reason() {
        let kafka = Kafka::new("b:9092").set("enable.auto.commit", "true").set("group.id", "g");
        let mistakes = kafka.mistakes();
        assert_eq!(mistakes.len(), 2);
        assert!(mistakes.iter().any(|it| it.contains("after the database")), "{mistakes:?}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let kafka = Kafka::new("b:9092").set("sasl.password", "hunter2");
        assert!(!format!("{kafka:?}").contains("hunter2"));
    }

    #[test]
    fn a_dead_member_is_found_out_within_seconds() {
        let config = Kafka::new("b:9092").consumer("g");
        let times = ["session.timeout.ms", "heartbeat.interval.ms"].map(|name| config.get(name));
        assert_eq!(times, [Some("6000"), Some("1500")]);
    }

    #[test]
    fn a_users_value_replaces_a_default_and_never_an_owned_one() {
        let config = Kafka::new("b:9092").set("session.timeout.ms", "9000").consumer("g");
        assert_eq!(config.get("session.timeout.ms"), Some("9000"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("group.id"), Some("g"));
    }

    #[test]
    fn the_consumer_protocol_gets_no_classic_property() {
        let config = Kafka::new("b:9092").set("group.protocol", "consumer").consumer("g");
        assert_eq!(config.get("session.timeout.ms"), None);
    }
}
