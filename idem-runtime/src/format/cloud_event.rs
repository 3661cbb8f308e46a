//! CloudEvents 1.0 with the Kafka binding: the attributes around an event, in the message's headers
//! (binary mode) or around the data in one JSON object (structured mode).
//!
//! After the specification (cloudevents.io: "CloudEvents", "JSON event format", "Kafka protocol
//! binding", each 1.0). Which mode an event has is in its header `content-type`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::event::{DecodeError, Event};
use crate::format::data::{self, Data};
use crate::format::payload;
use crate::routing::field;

/// An event with the attributes of a CloudEvent.
///
/// A producer gives no two different events the same `source` and `id`, so that these two are the
/// key: `key = ("source", "id")`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudEvent<T> {
    /// What identifies the event within its source.
    pub id: String,
    /// Where the event happened, as a URI reference.
    pub source: String,
    /// The attribute `type`: what happened.
    pub ty: String,
    /// What it happened to, within its source.
    pub subject: Option<String>,
    /// When it happened, as the producer wrote it (RFC 3339).
    pub time: Option<String>,
    /// The attribute `datacontenttype`: the media type of the data, where it is said.
    pub data_content_type: Option<String>,
    /// The attribute `dataschema`: the URI of the schema of the data.
    pub data_schema: Option<String>,
    /// Attributes of the producer's own, by name. Numbers and booleans are as text.
    pub extensions: BTreeMap<String, String>,
    /// What the event says.
    pub data: T,
}

impl<T> CloudEvent<T> {
    /// An event with the attributes that every one has; for a test, mostly.
    pub fn new(
        id: impl Into<String>,
        source: impl Into<String>,
        ty: impl Into<String>,
        data: T,
    ) -> Self {
        let (id, source, ty) = (id.into(), source.into(), ty.into());
        Self {
            id,
            source,
            ty,
            subject: None,
            time: None,
            data_content_type: None,
            data_schema: None,
            extensions: BTreeMap::new(),
            data,
        }
    }
}

impl<T: DeserializeOwned> CloudEvent<T> {
    /// Decodes a CloudEvent in binary or structured mode.
    ///
    /// JSON data becomes a `T` by serde. Data of another media type is offered to `T` as text
    /// (`text/*`) or as bytes. An event without data is offered as `null`: an `Option` is `None` then.
    ///
    /// # Errors
    /// When it is neither, misses a required attribute, has another `specversion` than 1.0, or data
    /// that is not a `T`. The error never quotes the data.
    pub fn decode(event: &Event) -> Result<Self, DecodeError> {
        match Mode::of(event)? {
            Mode::Structured => structured(payload(event)?),
            Mode::Binary(content_type) => binary(event, content_type),
        }
    }
}

/// Where the attributes of an event are.
pub(super) enum Mode<'a> {
    /// Around its data, in one JSON object.
    Structured,
    /// In headers. The data is of the media type in the header `content-type`, where there is one.
    Binary(Option<&'a str>),
}

impl<'a> Mode<'a> {
    /// As the header `content-type` says.
    pub(super) fn of(event: &'a Event) -> Result<Self, DecodeError> {
        let content_type = match header(event, "content-type") {
            Some(value) => Some(text("content-type", value)?),
            None => None,
        };
        let media_type = content_type.map(data::media_type).unwrap_or_default();
        match media_type.strip_prefix("application/cloudevents") {
            Some("+json" | "") => Ok(Self::Structured),
            Some(other) if other.starts_with("-batch") => Err(DecodeError::new(
                "the message is a batch of CloudEvents (application/cloudevents-batch), which has no \
                 one key: let the producer send one event a message",
            )),
            Some(other) if other.starts_with('+') => Err(DecodeError::new(
                "the message is a CloudEvent in structured mode in another format than JSON; idem \
                 reads `application/cloudevents+json`",
            )),
            _ => Ok(Self::Binary(content_type)),
        }
    }
}

/// The attribute `type` of an event in either mode; `None` where there is none that is text.
pub(crate) fn event_type(event: &Event) -> Result<Option<Cow<'_, str>>, DecodeError> {
    match (Mode::of(event)?, &event.payload) {
        (Mode::Structured, Some(payload)) => field(payload, "type"),
        (Mode::Structured, None) => Ok(None),
        (Mode::Binary(_), _) => {
            let value = event.headers.get("ce_type");
            Ok(value.and_then(|value| std::str::from_utf8(value).ok()).map(Cow::Borrowed))
        }
    }
}

/// The value of the last header of this name, whatever the case of its letters.
fn header<'a>(event: &'a Event, name: &str) -> Option<&'a [u8]> {
    let its = event.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
    its.last().and_then(|(_, value)| value)
}

fn text<'a>(attribute: &str, value: &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(value).map_err(|_| {
        DecodeError::new(format!("the header of the attribute `{attribute}` is not UTF-8 text"))
    })
}

/// The attributes are in headers that begin with `ce_`, the data is the payload.
fn binary<T: DeserializeOwned>(
    event: &Event,
    content_type: Option<&str>,
) -> Result<CloudEvent<T>, DecodeError> {
    let mut attributes = Attributes::default();
    for (name, value) in event.headers.iter() {
        if let (Some(name), Some(value)) = (name.strip_prefix("ce_"), value) {
            attributes.insert(name, text(name, value)?.to_owned());
        }
    }
    if attributes.0.is_empty() {
        return Err(DecodeError::new(
            "the message is no CloudEvent: it has no headers `ce_..` (binary mode), and its header \
             `content-type` is not `application/cloudevents+json` (structured mode)",
        ));
    }
    attributes.0.remove("datacontenttype");
    if let Some(content_type) = content_type {
        attributes.insert("datacontenttype", content_type.to_owned());
    }
    attributes.into_event(|media_type| match &event.payload {
        Some(payload) => data::of(Data::Bytes(payload), media_type),
        None => data::of(Data::Absent, media_type),
    })
}

/// Attributes and data are members of one JSON object.
fn structured<T: DeserializeOwned>(payload: &[u8]) -> Result<CloudEvent<T>, DecodeError> {
    let mut members: BTreeMap<String, Box<RawValue>> = data::json(payload)?;
    let value = members.remove("data");
    let base64 = members.remove("data_base64");
    let mut attributes = Attributes::default();
    for (name, raw) in &members {
        if let Some(value) = attribute(name, raw)? {
            attributes.insert(name, value);
        }
    }
    let is_null = |raw: &RawValue| raw.get() == "null";
    match (value, base64.filter(|raw| !is_null(raw))) {
        (Some(value), Some(_)) if !is_null(&value) => Err(DecodeError::new(
            "the CloudEvent has both `data` and `data_base64`, of which it can have one",
        )),
        (_, Some(base64)) => {
            let text: String = data::json(base64.get().as_bytes())?;
            let bytes = data::base64(&text).ok_or_else(|| {
                DecodeError::new("the member `data_base64` of the CloudEvent is not base64")
            })?;
            attributes.into_event(|media_type| data::of(Data::Bytes(&bytes), media_type))
        }
        (Some(value), None) => attributes.into_event(|_| data::of(Data::Json(value.get()), None)),
        (None, None) => attributes.into_event(|_| data::of(Data::Absent, None)),
    }
}

/// An attribute's value as text; `None` when it is `null`, which says that it is not there.
fn attribute(name: &str, raw: &RawValue) -> Result<Option<String>, DecodeError> {
    let wrong = || {
        DecodeError::new(format!(
            "the attribute `{name}` of the CloudEvent is neither text, nor a whole number, nor a \
             boolean"
        ))
    };
    match data::json(raw.get().as_bytes())? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text)),
        // Only extensions have such values; those of a required attribute are text.
        serde_json::Value::Bool(value) if !REQUIRED.contains(&name) => Ok(Some(value.to_string())),
        serde_json::Value::Number(value) if value.is_i64() && !REQUIRED.contains(&name) => {
            Ok(Some(value.to_string()))
        }
        _ => Err(wrong()),
    }
}

const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// The attributes by their names.
#[derive(Default)]
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    fn insert(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    fn required(&mut self, name: &str) -> Result<String, DecodeError> {
        let value = self.0.remove(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            DecodeError::new(format!("the CloudEvent has no attribute `{name}`, which is required"))
        })
    }

    /// The event, with what `data` makes of the media type.
    fn into_event<T>(
        mut self,
        data: impl FnOnce(Option<&str>) -> Result<T, DecodeError>,
    ) -> Result<CloudEvent<T>, DecodeError> {
        if self.required("specversion")? != "1.0" {
            return Err(DecodeError::new(
                "the CloudEvent has another `specversion` than 1.0, which is the one that idem reads",
            ));
        }
        let (id, source) = (self.required("id")?, self.required("source")?);
        let ty = self.required("type")?;
        let data_content_type = self.0.remove("datacontenttype");
        let data = data(data_content_type.as_deref())?;
        Ok(CloudEvent {
            id,
            source,
            ty,
            subject: self.0.remove("subject"),
            time: self.0.remove("time"),
            data_content_type,
            data_schema: self.0.remove("dataschema"),
            extensions: self.0,
            data,
        })
    }
}

#[cfg(test)]
#[path = "cloud_event_tests.rs"]
mod tests;
