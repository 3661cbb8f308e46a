//! The event: one message as a source delivered it, before anything was decoded.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// One message with its payload, headers, topic, partition, offset and timestamp.
///
/// Cheap to clone: payload, key and headers are shared.
#[derive(Clone)]
#[non_exhaustive]
pub struct Event {
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// The epoch of the leader that wrote it, if the broker told.
    pub leader_epoch: Option<i32>,
    /// Its timestamp in milliseconds since 1970, if it has one.
    pub timestamp: Option<i64>,
    /// Who gave it its timestamp, if that is known. Dead letters do not keep it.
    pub timestamp_kind: Option<TimestampKind>,
    /// Its message key: what chose its partition. Not to be confused with the idempotency key.
    pub message_key: Option<Bytes>,
    /// Its payload; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

impl Event {
    /// An event with a payload and nothing else.
    pub fn new(topic: Arc<str>, partition: i32, offset: i64, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            partition,
            offset,
            leader_epoch: None,
            timestamp: None,
            timestamp_kind: None,
            message_key: None,
            payload: Some(payload.into()),
            headers: Headers::default(),
        }
    }

    /// The bytes this event keeps in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        const OVERHEAD: usize = 160;
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        OVERHEAD + bytes(&self.payload) + bytes(&self.message_key) + self.headers.weight()
    }
}

/// Who gave an event its timestamp: a setting of the topic (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimestampKind {
    /// The producer: when it happened, or was sent.
    Created,
    /// The broker: when it was appended to the log.
    Appended,
}

/// Where the event is, without what is in it: payloads are shown only on request.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("payload_len", &self.payload.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// The headers of an event, in the order in which the producer wrote them.
///
/// A name may occur more than once; a value may be absent. In a name that is not UTF-8, what is not is
/// replaced by U+FFFD.
#[derive(Clone, Default)]
pub struct Headers(Option<Arc<[Header]>>);

/// A name and its value.
type Header = (Box<str>, Option<Bytes>);

impl Headers {
    /// The value of the last header with this name, as Kafka's own clients read it.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(it, _)| *it == name).last().and_then(|(_, value)| value)
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0
            .iter()
            .flat_map(|headers| headers.iter())
            .map(|(name, value)| (name.as_ref(), value.as_deref()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn weight(&self) -> usize {
        self.iter().map(|(name, value)| 48 + name.len() + value.map_or(0, <[u8]>::len)).sum()
    }
}

impl<N: Into<Box<str>>, V: Into<Bytes>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(headers: I) -> Self {
        let headers: Vec<Header> =
            headers.into_iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect();
        Self((!headers.is_empty()).then(|| headers.into()))
    }
}

/// The names, without the values: a header can carry a secret.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a payload could not become the handler's event.
#[derive(Debug)]
pub struct DecodeError(crate::BoxError);

impl DecodeError {
    /// A payload refused for this reason. The reason must not quote the payload.
    pub fn new(reason: impl Into<crate::BoxError>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_payload_nor_header_values() {
        let mut event = Event::new("t".into(), 0, 7, "hunter2");
        event.headers = [("auth", Some("hunter2"))].into_iter().collect();
        let text = format!("{event:?} {:?}", event.headers);
        assert!(!text.contains("hunter2") && text.contains("auth"), "{text}");
    }

    #[test]
    fn the_last_header_of_a_name_wins() {
        let headers: Headers = [("k", Some("1")), ("k", Some("2"))].into_iter().collect();
        assert_eq!(headers.get("k"), Some(&b"2"[..]));
        assert_eq!(headers.get("absent"), None);
    }
}
