//! What a handler can know about the event it was given.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::event::{Event, Headers, TimestampKind};
use crate::key::Key;
use crate::routing::Correlation;

/// What a handler can know about its event besides the payload: ask for it with a parameter of type
/// `&Context` (of a batch handler: `&[Context]`).
///
/// Where the event is, its headers, timestamp and message key are the same when it is replayed from
/// the dead letters. Without Kafka there are none.
#[derive(Debug, Clone)]
pub struct Context {
    scope: Arc<str>,
    key: Key,
    group: Option<Arc<str>>,
    event: Option<Event>,
    attempt: u32,
    /// `None`: where they are by default.
    correlation: Option<Arc<Correlation>>,
}

impl Context {
    /// A context for calling a handler's function directly, in a test.
    ///
    /// ```
    /// use idem_runtime::{Context, Key};
    ///
    /// let cx = Context::new("bill", Key::new("e1")?);
    /// assert_eq!(cx.attempt(), 1);
    /// assert_eq!(cx.topic(), None);
    /// # Ok::<(), idem_runtime::KeyError>(())
    /// ```
    pub fn new(scope: impl Into<Arc<str>>, key: Key) -> Self {
        Self { scope: scope.into(), key, group: None, event: None, attempt: 1, correlation: None }
    }

    /// The same context for an event that was read by a group.
    #[must_use]
    pub fn with_event(mut self, group: impl Into<Arc<str>>, event: Event) -> Self {
        self.group = Some(group.into());
        self.event = Some(event);
        self
    }

    /// The same context at another attempt; the first is 1.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The same context with its ids in these headers.
    #[must_use]
    pub fn with_correlation(mut self, correlation: impl Into<Arc<Correlation>>) -> Self {
        self.correlation = Some(correlation.into());
        self
    }

    /// The scope: whose memory of the key it is.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The idempotency key. Give it to a remote service that understands one.
    ///
    /// Of an event that has none and is processed without a guarantee it is its place,
    /// `topic/partition/offset`; without Kafka a random one, new at each call.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The consumer group, or `None` without Kafka.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// The topic, or `None` without Kafka.
    pub fn topic(&self) -> Option<&str> {
        self.event.as_ref().map(|event| &*event.topic)
    }

    /// The partition, or `None` without Kafka.
    pub fn partition(&self) -> Option<i32> {
        self.event.as_ref().map(|event| event.partition)
    }

    /// The offset, or `None` without Kafka.
    pub fn offset(&self) -> Option<i64> {
        self.event.as_ref().map(|event| event.offset)
    }

    /// The event's timestamp in milliseconds since 1970, as Kafka has it, if it has one.
    pub fn timestamp(&self) -> Option<i64> {
        self.event.as_ref().and_then(|event| event.timestamp)
    }

    /// The event's timestamp as a time, if it has one that is a time.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    ///
    /// use idem_runtime::{Context, Event, Key};
    ///
    /// let mut event = Event::new("orders".into(), 0, 7, "{}");
    /// event.timestamp = Some(1_700_000_000_500);
    /// let cx = Context::new("bill", Key::new("e1")?).with_event("billing", event);
    /// let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
    /// assert_eq!(cx.time(), Some(time));
    /// # Ok::<(), idem_runtime::KeyError>(())
    /// ```
    pub fn time(&self) -> Option<SystemTime> {
        let timestamp = self.timestamp()?;
        let distance = Duration::from_millis(timestamp.unsigned_abs());
        match timestamp {
            0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
            _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
        }
    }

    /// Whether the producer or the broker gave the event its timestamp. `None` where that is not
    /// known: without Kafka, and for what comes from the dead letters, which do not keep it.
    pub fn timestamp_kind(&self) -> Option<TimestampKind> {
        self.event.as_ref().and_then(|event| event.timestamp_kind)
    }

    /// The message key, if the event has one: what chose its partition, and in a compacted topic
    /// what the message is about.
    pub fn message_key(&self) -> Option<&[u8]> {
        self.event.as_ref().and_then(|event| event.message_key.as_deref())
    }

    /// The event's headers; `None` without Kafka.
    pub fn headers(&self) -> Option<&Headers> {
        self.event.as_ref().map(|event| &event.headers)
    }

    /// The value of the last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().and_then(|headers| headers.get(name))
    }

    /// The id that the event's chain has in common, if the event carries one: by default in the
    /// header `correlation-id`, otherwise where `Builder::correlation` says. One that has more than
    /// 255 bytes or is not UTF-8 is none.
    pub fn correlation_id(&self) -> Option<&str> {
        self.correlation().correlation_of(self.event.as_ref()?)
    }

    /// The id of what caused the event, if the event carries one: by default in the header
    /// `causation-id`. Otherwise as [`correlation_id`](Self::correlation_id).
    pub fn causation_id(&self) -> Option<&str> {
        self.correlation().causation_of(self.event.as_ref()?)
    }

    fn correlation(&self) -> &Correlation {
        self.correlation.as_deref().unwrap_or(&Correlation::DEFAULT)
    }

    /// Which attempt at this event this is, counted in this process; the first is 1. Attempts that
    /// failed for reasons outside the handler (a deadlock, a lost connection) are not counted.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyError;

    #[test]
    fn the_ids_of_a_chain_are_in_the_headers_that_are_named() -> Result<(), KeyError> {
        let mut event = Event::new("t".into(), 0, 0, "x");
        event.headers = [("correlation-id", "c1"), ("causation-id", "e0"), ("x-request", "r1")]
            .map(|(name, value)| (name, Some(value)))
            .into_iter()
            .collect();
        let cx = Context::new("bill", Key::new("e1")?);
        assert_eq!((cx.correlation_id(), cx.causation_id()), (None, None));
        let cx = cx.with_event("g", event);
        assert_eq!((cx.correlation_id(), cx.causation_id()), (Some("c1"), Some("e0")));
        let cx = cx.with_correlation(Correlation::headers("x-request", "x-cause"));
        assert_eq!((cx.correlation_id(), cx.causation_id()), (Some("r1"), None));
        Ok(())
    }
}
