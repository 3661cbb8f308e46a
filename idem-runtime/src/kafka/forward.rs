//! The dead-letter topic: what is in the dead letters' table, once more in Kafka.
//!
//! The table is written in the transaction that gives an event up; the topic follows it, at least
//! once. A row is forwarded by the process that holds its lane, and noted as forwarded after the
//! broker has acknowledged it; consumers tell a repetition by the header `idem-dead-letter-id`.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::dead_letter::DeadLetter;
use crate::error::{Error, ErrorKind, Result};
use crate::kafka::settings::{Kafka, created, kafka_error};
use crate::pipeline::source::Seat;
use crate::store::Store;

/// How many letters are forwarded at once.
const PAGE: u32 = 100;

/// How long the broker has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Forwarder<S: Store> {
    producer: FutureProducer,
    topic: String,
    store: S,
}

impl<S: Store> Forwarder<S> {
    /// Connects, and sees that the topic is there.
    pub(crate) async fn connect(kafka: &Kafka, topic: &str, store: S) -> Result<Self> {
        let config = config(kafka);
        let topic = topic.to_owned();
        let connected = tokio::task::spawn_blocking(move || {
            let producer: FutureProducer = created(config.create())?;
            let metadata = producer
                .client()
                .fetch_metadata(Some(&topic), TIMEOUT)
                .map_err(|error| kafka_error(format_args!("dead-letter topic {topic}"), error))?;
            let found = metadata.topics().iter().any(|it| !it.partitions().is_empty());
            if !found {
                return Err(Error::new(
                    ErrorKind::Kafka,
                    format!(
                        "the dead-letter topic {topic} does not exist: create it, or leave \
                         `.dead_letter_topic(..)` out; dead letters are in the database either way"
                    ),
                ));
            }
            Ok((producer, topic))
        });
        let (producer, topic) = connected.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Kafka, "the producer did not start").with_source(error))
        })?;
        Ok(Self { producer, topic, store })
    }

    /// Forwards what is not, every `interval`, until it is dropped.
    pub(crate) async fn run(self, seats: impl Fn() -> Vec<Arc<Seat>> + Send, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let lanes: Vec<i64> =
                seats().iter().filter_map(|seat| Some(seat.held()?.0.number)).collect();
            // As long as there are whole pages and the broker takes them.
            while self.page(&lanes).await == Some(PAGE as usize) {}
        }
    }

    /// Forwards one page; answers how many letters, if all of them were taken.
    async fn page(&self, lanes: &[i64]) -> Option<usize> {
        let letters = match self.store.unforwarded(lanes, PAGE).await {
            Ok(letters) => letters,
            Err(error) => {
                tracing::warn!(error = %error.report(), "dead letters cannot be read to forward");
                return None;
            }
        };
        if letters.is_empty() {
            return None;
        }
        let sent = join_all(letters.iter().map(|letter| self.send(letter))).await;
        let ids: Vec<i64> =
            letters.iter().zip(&sent).filter(|(_, sent)| **sent).map(|(it, _)| it.id).collect();
        if let Err(error) = self.store.forwarded(&ids).await {
            tracing::warn!(
                error = %error.report(),
                "forwarded dead letters cannot be noted: they are forwarded again"
            );
            return None;
        }
        (ids.len() == letters.len()).then_some(ids.len())
    }

    async fn send(&self, letter: &DeadLetter) -> bool {
        let record = FutureRecord::<[u8], [u8]> {
            topic: &self.topic,
            partition: None,
            payload: letter.event.payload.as_deref(),
            key: letter.event.message_key.as_deref(),
            timestamp: None,
            headers: Some(headers(letter)),
        };
        match self.producer.send(record, TIMEOUT).await {
            Ok(_) => true,
            Err((error, _)) => {
                tracing::warn!(
                    topic = self.topic,
                    dead_letter = letter.id,
                    %error,
                    "a dead letter cannot be forwarded now, it is tried again"
                );
                false
            }
        }
    }
}

/// The producer's configuration: what says how to reach the brokers, without what is a consumer's.
fn config(kafka: &Kafka) -> ClientConfig {
    const SHARED: &[&str] = &[
        "bootstrap.servers",
        "client.id",
        "security.",
        "sasl.",
        "ssl.",
        "enable.ssl.",
        "socket.",
        "broker.",
        "reconnect.",
        "api.version.",
    ];
    let mut config = ClientConfig::new();
    config.set("enable.idempotence", "true").set("message.timeout.ms", "30000");
    for (name, value) in kafka.properties() {
        if SHARED.iter().any(|prefix| name.starts_with(prefix)) {
            config.set(name, value);
        }
    }
    config
}

/// The event's own headers, then where it came from and why it was given up on.
fn headers(letter: &DeadLetter) -> OwnedHeaders {
    let event = &letter.event;
    let mut headers = OwnedHeaders::new_with_capacity(16);
    for (key, value) in event.headers.iter() {
        headers = headers.insert(Header { key, value });
    }
    let mut add = |key: &str, value: &str| {
        let header = Header { key, value: Some(value) };
        headers = std::mem::take(&mut headers).insert(header);
    };
    add("idem-dead-letter-id", &letter.id.to_string());
    add("idem-scope", &letter.scope);
    if let Some(key) = &letter.key {
        add("idem-key", key.as_str());
    }
    add("idem-group", &letter.group);
    add("idem-topic", &event.topic);
    add("idem-partition", &event.partition.to_string());
    add("idem-offset", &event.offset.to_string());
    if let Some(timestamp) = event.timestamp {
        add("idem-timestamp", &timestamp.to_string());
    }
    if let Some(cause) = &letter.cause {
        add("idem-class", cause.class.as_str());
        add("idem-error", &cause.error);
        add("idem-attempts", &cause.attempts.to_string());
        add("idem-fingerprint", &letter.fingerprint);
    }
    let written = letter.written_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    add("idem-given-up-at", &written.as_millis().to_string());
    headers
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;
    use crate::dead_letter::LetterState;
    use crate::event::Event;

    #[test]
    fn the_producer_is_told_nothing_that_is_a_consumers() {
        let kafka = Kafka::new("b:9092")
            .set("sasl.username", "ann")
            .set("session.timeout.ms", "9000")
            .set("fetch.wait.max.ms", "5");
        let config = config(&kafka);
        assert_eq!(config.get("sasl.username"), Some("ann"));
        assert_eq!(config.get("session.timeout.ms"), None);
        assert_eq!(config.get("enable.idempotence"), Some("true"));
    }

    #[test]
    fn headers_name_the_origin_and_keep_the_events_own() {
        let mut event = Event::new("orders".into(), 3, 42, "x");
        event.headers = [("trace", Some("t1")), ("empty", None::<&str>)].into_iter().collect();
        let state = LetterState::Dead;
        let letter = DeadLetter::new(7, "bill".into(), state, "billing".into(), event);
        let headers = headers(&letter);
        let text = |name: &str| {
            let header = headers.iter().find(|it| it.key == name)?;
            header.value.map(|it| String::from_utf8_lossy(it).into_owned())
        };
        assert_eq!(text("trace").as_deref(), Some("t1"));
        assert_eq!(text("empty"), None);
        assert_eq!(text("idem-dead-letter-id").as_deref(), Some("7"));
        assert_eq!(text("idem-topic").as_deref(), Some("orders"));
        assert_eq!(text("idem-offset").as_deref(), Some("42"));
    }
}
