//! The type of an event: where it is, and enums with a variant for each.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::event::{DecodeError, Event};
use crate::format::{Encoded, cloud_event};

/// Where the type of an event is.
///
/// ```
/// use idem_runtime::EventType;
///
/// let by_header = EventType::header("ce_type");
/// let by_field = EventType::field("meta.type");
/// assert_eq!(EventType::default(), EventType::header("event-type"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Header(Cow<'static, str>),
    Field(Cow<'static, str>),
    Topic,
    CloudEvent,
}

/// The header `event-type`.
impl Default for EventType {
    fn default() -> Self {
        Self::header("event-type")
    }
}

impl EventType {
    /// The value of the last header of this name. One that is not UTF-8 is no type.
    pub fn header(name: impl Into<Cow<'static, str>>) -> Self {
        Self(Place::Header(name.into()))
    }

    /// A string in the JSON payload: a field, or a nested one as in `meta.type`. A payload that is not
    /// JSON cannot be decoded by any handler that asks for its type.
    pub fn field(path: impl Into<Cow<'static, str>>) -> Self {
        Self(Place::Field(path.into()))
    }

    /// The topic's name.
    pub fn topic() -> Self {
        Self(Place::Topic)
    }

    /// The attribute `type` of a CloudEvent, in whichever mode it comes: the header `ce_type`, or, where
    /// the header `content-type` says that the event is structured, the field `type`.
    pub fn cloud_event() -> Self {
        Self(Place::CloudEvent)
    }

    /// Whether it is in the payload.
    pub(crate) fn is_field(&self) -> bool {
        matches!(self.0, Place::Field(_))
    }

    /// What is wrong with it, in a sentence.
    pub(crate) fn mistake(&self) -> Option<String> {
        match &self.0 {
            Place::Header(name) if name.is_empty() => {
                Some("the header of the event type has no name".to_owned())
            }
            Place::Field(path) if path.split('.').any(str::is_empty) => {
                Some(format!("the field of the event type, `{path}`, has a part without a name"))
            }
            _ => None,
        }
    }

    /// The event's type; `None` when it has none. An empty text is none.
    ///
    /// # Errors
    /// When the payload it is to be read from is not JSON, or not one CloudEvent.
    pub(crate) fn read<'e>(&self, event: &'e Event) -> Result<Option<Cow<'e, str>>, DecodeError> {
        let text = match &self.0 {
            Place::Topic => Some(Cow::Borrowed(&*event.topic)),
            Place::CloudEvent => cloud_event::event_type(event)?,
            Place::Header(name) => {
                let value = event.headers.get(name);
                value.and_then(|value| std::str::from_utf8(value).ok()).map(Cow::Borrowed)
            }
            Place::Field(path) => match &event.payload {
                Some(payload) => field(payload, path)?,
                None => None,
            },
        };
        Ok(text.filter(|text| !text.is_empty()))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Header(name) => write!(f, "header {name}"),
            Place::Field(path) => write!(f, "field {path}"),
            Place::Topic => f.write_str("topic"),
            Place::CloudEvent => f.write_str("attribute type of a CloudEvent"),
        }
    }
}

/// The string at this path of a JSON payload, found in one pass that keeps nothing else.
pub(crate) fn field<'e>(
    payload: &'e [u8],
    path: &str,
) -> Result<Option<Cow<'e, str>>, DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let found = At(path.split('.')).deserialize(&mut json);
    found.and_then(|found| json.end().map(|()| found)).map_err(|error| {
        // Its own text may quote the payload.
        DecodeError::new(format!(
            "the payload is not JSON, which the event's type is read from (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

/// Looks for the value at this path.
struct At<'p>(std::str::Split<'p, char>);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

/// Whatever is not a string at the end of the path is no type.
impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0.next();
        let mut found = None;
        while let Some(name) = map.next_key_seed(Text)? {
            // Of two fields of one name the last counts, as in most readers of JSON.
            if wanted.is_some_and(|wanted| *name == *wanted) {
                found = map.next_value_seed(At(self.0.clone()))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_borrowed_str<E: de::Error>(mut self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.0.next().is_none().then_some(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(mut self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.next().is_none().then(|| Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A name, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// An enum with a variant for each type of event: `#[derive(EventTypes)]` writes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an enum of event types",
    label = "no `#[derive(idem::EventTypes)]`",
    note = "derive `idem::EventTypes` for it, with `#[event_type(\"order.placed\")]` on each variant; \
            patterns of types are strings: `types = \"order.*\"`"
)]
pub trait EventTypes: Sized {
    /// The types it has variants for.
    const TYPES: &'static [&'static str];

    /// Decodes the payload of an event of this type.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is not that of the type's variant, or no variant has the type.
    fn decode(event: Encoded<'_>, event_type: &str) -> Result<Self, DecodeError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &EventType, payload: &'static str) -> Result<Option<String>, String> {
        let mut event = Event::new("orders".into(), 0, 0, payload);
        event.headers = [("kind", Some(&b"old"[..])), ("kind", Some(b"order.placed"))]
            .into_iter()
            .chain([("binary", Some(&b"\xff"[..])), ("empty", Some(b"")), ("null", None)])
            .collect();
        let read = from.read(&event).map_err(|error| error.to_string())?;
        Ok(read.map(Cow::into_owned))
    }

    #[test]
    fn a_header_is_a_type_if_it_is_text() {
        let read = |name: &'static str| read(&EventType::header(name), "x").unwrap();
        assert_eq!(read("kind").as_deref(), Some("order.placed"));
        for name in ["absent", "binary", "empty", "null", "Kind"] {
            assert_eq!(read(name), None, "{name}");
        }
        let topic = EventType::topic();
        assert_eq!(super::tests::read(&topic, "x").unwrap().as_deref(), Some("orders"));
    }

    #[test]
    fn a_field_is_a_type_if_it_is_a_string_wherever_it_stands() {
        let read =
            |path: &'static str, json: &'static str| read(&EventType::field(path), json).unwrap();
        for json in [
            r#"{"type":"a.b"}"#,
            r#"{"x":[1,{"type":"no"}],"y":{"type":"no"},"type":"a.b","z":null}"#,
            r#"{"t\u0079pe":"a\u002eb"}"#,
            r#"{"type":"first","type":"a.b"}"#,
        ] {
            assert_eq!(read("type", json).as_deref(), Some("a.b"), "{json}");
        }
        assert_eq!(read("meta.type", r#"{"type":1,"meta":{"type":"a"}}"#).as_deref(), Some("a"));
        for json in [
            r#"{}"#,
            r#"{"type":3}"#,
            r#"{"type":null}"#,
            r#"{"type":{"type":"a"}}"#,
            r#"{"type":"a","type":true}"#,
            r#"[{"type":"a"}]"#,
            r#""type""#,
            "1.5",
            "-1",
            "null",
        ] {
            assert_eq!(read("type", json), None, "{json}");
        }
        assert_eq!(read("type.of", r#"{"type":"a"}"#), None);
    }

    #[test]
    fn a_payload_that_is_not_json_is_an_error_that_does_not_quote_it() {
        for payload in ["hunter2", r#"{"type":"a""#, r#"{"type":"a"} hunter2"#, ""] {
            let error = read(&EventType::field("type"), payload).unwrap_err();
            assert!(error.contains("not JSON") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_tombstone_has_no_type_in_its_payload() {
        let mut event = Event::new("t".into(), 0, 0, "");
        event.payload = None;
        assert_eq!(EventType::field("type").read(&event).unwrap(), None);
    }

    #[test]
    fn a_cloud_event_has_its_type_in_a_header_or_where_it_is_structured_in_a_field() {
        let read = |headers: &[(&'static str, &'static str)], payload: &'static str| {
            let mut event = Event::new("t".into(), 0, 0, payload);
            event.headers = headers.iter().map(|(name, value)| (*name, Some(*value))).collect();
            let read = EventType::cloud_event().read(&event).map_err(|error| error.to_string());
            read.map(|read| read.map(Cow::into_owned))
        };
        let binary = ("ce_type", "a.b");
        assert_eq!(read(&[binary], r#"{"type": "no"}"#), Ok(Some("a.b".into())));
        let json = ("content-type", "application/json");
        assert_eq!(read(&[json, binary], "hunter2"), Ok(Some("a.b".into())));
        let structured = ("Content-Type", "application/CloudEvents+json; charset=UTF-8");
        assert_eq!(read(&[structured], r#"{"type": "c.d"}"#), Ok(Some("c.d".into())));
        assert_eq!(read(&[structured, binary], r#"{"type": "c.d"}"#), Ok(Some("c.d".into())));
        assert_eq!(read(&[], r#"{"type": "no"}"#), Ok(None));
        assert!(read(&[structured], "hunter2").is_err_and(|it| !it.contains("hunter2")));
        let batch = ("content-type", "application/cloudevents-batch+json");
        assert!(read(&[batch], "[]").is_err_and(|it| it.contains("batch")));
    }

    #[test]
    fn a_place_without_a_name_is_a_mistake() {
        assert!(EventType::header("").mistake().is_some());
        assert!(EventType::field("a..b").mistake().is_some());
        assert!(EventType::field("").mistake().is_some());
        assert!(EventType::field("a.b").mistake().is_none());
    }
}
