//! The event: one message as a source delivered it, before anything was decoded.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::format::payload;

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
/// A name may occur more than once; a value may be absent.
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

/// Decodes a JSON payload.
///
/// # Errors
/// A tombstone, or a payload that is not the JSON of a `T`. The message gives the place and the
/// category of the mistake and never quotes the payload.
pub fn decode_json<T: serde::de::DeserializeOwned>(event: &Event) -> Result<T, DecodeError> {
    serde_json::from_slice(payload(event)?).map_err(|error| json_error(&error))
}

/// Why something is not the JSON of a type, without what it is.
pub(crate) fn json_error(error: &serde_json::Error) -> DecodeError {
    use serde_json::error::Category;
    let what = match error.classify() {
        // serde's own text names the field, but may quote a value: keep the field only.
        Category::Data => match missing_field(error) {
            Some(field) => format!("the JSON has no field {field}"),
            None => "the JSON does not have the shape of the handler's event".to_owned(),
        },
        Category::Eof => "the JSON ends too early".to_owned(),
        Category::Syntax | Category::Io => "the payload is not JSON".to_owned(),
    };
    DecodeError::new(format!("{what} (line {}, column {})", error.line(), error.column()))
}

fn missing_field(error: &serde_json::Error) -> Option<String> {
    missing_field_in(&error.to_string())
}

/// The field that serde misses. Only where the text begins so: further on it may quote the payload.
pub(crate) fn missing_field_in(error: &str) -> Option<String> {
    let field = error.strip_prefix("missing field `")?.split('`').next()?;
    Some(format!("`{field}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Order {
        id: u32,
        secret: u32,
    }

    fn decode(payload: &'static str) -> String {
        let event = Event::new("t".into(), 0, 0, payload);
        match decode_json::<Order>(&event) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_decode_error_says_what_is_wrong_and_never_quotes_the_payload() {
        assert!(decode(r#"{"id": 1}"#).contains("no field `secret`"));
        let wrong = decode(r#"{"id": 1, "secret": "hunter2"}"#);
        assert!(wrong.contains("shape") && !wrong.contains("hunter2"), "{wrong}");
        assert!(decode("{").contains("ends too early"));
        assert!(decode("hunter2").contains("not JSON"));
    }

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
