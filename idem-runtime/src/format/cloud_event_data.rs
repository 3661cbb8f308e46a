//! What a CloudEvent says, for a hash of it: its data, whichever mode it came in.
//!
//! Its attributes are around that: in structured mode they are in the payload, in binary mode in headers,
//! and a hash of payloads would make one event two.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::event::{DecodeError, Event};
use crate::format::cloud_event::Mode;
use crate::format::data;
use crate::key::{Content, Key, KeyError};

impl Key {
    /// The hash of a CloudEvent's data, the same in both modes: of JSON its content, as
    /// [`Key::content`] has it, of any other media type its bytes. The attributes are not in it.
    ///
    /// # Errors
    /// [`KeyError`] when the event has no data (`null` in structured mode is none): the key is missing.
    /// When it is no CloudEvent, or its data is not of its media type: the key is malformed.
    pub fn cloud_event_data(event: &Event) -> Result<Self, KeyError> {
        let (data, is_json) = match said(event) {
            Ok(said) => said,
            Err(error) => return Err(KeyError::new(error.to_string())),
        };
        let said = Event { payload: data, ..event.clone() };
        if is_json { Self::content(&said, Content::ALL) } else { Self::payload(&said) }
    }
}

/// The data, and whether it is JSON.
fn said(event: &Event) -> Result<(Option<Bytes>, bool), DecodeError> {
    match (Mode::of(event)?, &event.payload) {
        (Mode::Binary(content_type), payload) => Ok((payload.clone(), is_json(content_type))),
        (Mode::Structured, Some(payload)) => structured(payload),
        (Mode::Structured, None) => Ok((None, true)),
    }
}

fn structured(payload: &[u8]) -> Result<(Option<Bytes>, bool), DecodeError> {
    let members: BTreeMap<String, Box<RawValue>> = data::json(payload)?;
    let member = |name: &str| members.get(name).filter(|raw| raw.get() != "null");
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    let media_type = member("datacontenttype").and_then(|raw| text(raw));
    let is_json = is_json(media_type.as_deref());
    if let Some(raw) = member("data_base64") {
        let bytes = text(raw).and_then(|text| data::base64(&text)).ok_or_else(|| {
            DecodeError::new("the member `data_base64` of the CloudEvent is not base64")
        })?;
        return Ok((Some(bytes.into()), is_json));
    }
    let Some(raw) = member("data") else { return Ok((None, is_json)) };
    match text(raw) {
        // In binary mode it is the text itself.
        Some(text) if !is_json => Ok((Some(text.into()), false)),
        _ => Ok((Some(Bytes::copy_from_slice(raw.get().as_bytes())), true)),
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|it| data::is_json(&data::media_type(it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(content_type: Option<&'static str>, payload: &'static str) -> Event {
        let mut event = Event::new("t".into(), 0, 0, payload);
        let content_type = content_type.map(|it| ("content-type", Some(it)));
        let attributes = [("ce_id", Some("7")), ("ce_type", Some("order.placed"))];
        event.headers = attributes.into_iter().chain(content_type).collect();
        event
    }

    fn structured(members: &str) -> Event {
        let payload = format!(r#"{{"specversion": "1.0", "id": "8", "type": "other", {members}}}"#);
        let mut event = Event::new("t".into(), 0, 0, payload);
        event.headers =
            [("Content-Type", Some("application/cloudevents+json"))].into_iter().collect();
        event
    }

    fn key(event: &Event) -> Key {
        Key::cloud_event_data(event).unwrap()
    }

    #[test]
    fn the_same_data_is_the_same_content_in_both_modes() {
        let json = key(&binary(None, r#"{"a": 1, "b": 2}"#));
        assert_eq!(json, key(&binary(Some("application/json"), r#"{"b":2,"a":1.0}"#)));
        assert_eq!(json, key(&structured(r#""data": {"b": 2, "a": 1}"#)));
        assert_eq!(json, key(&structured(r#""data_base64": "eyJhIjoxLCJiIjoyfQ==""#)));
        assert_eq!(
            json,
            Key::content(&Event::new("t".into(), 0, 0, r#"{"a":1,"b":2}"#), Content::ALL).unwrap()
        );
        assert_ne!(json, key(&structured(r#""data": {"b": 2, "a": 2}"#)));
        let text = key(&binary(Some("text/plain; charset=UTF-8"), "a \u{e9}"));
        let typed = |rest: &str| structured(&format!(r#""datacontenttype": "text/plain", {rest}"#));
        assert_eq!(text, key(&typed(r#""data": "a \u00e9""#)));
        assert_eq!(text, key(&typed(r#""data_base64": "YSDDqQ==""#)));
        assert_ne!(text, key(&structured(r#""data": "a \u00e9""#)), "a string of JSON");
    }

    #[test]
    fn an_event_without_data_has_no_content_and_one_that_cannot_be_read_a_malformed_one() {
        let missing = |event: &Event| Key::cloud_event_data(event).unwrap_err().is_missing();
        let mut none = binary(None, "");
        none.payload = None;
        assert!(missing(&none));
        assert!(missing(&structured(r#""data": null"#)));
        assert!(missing(&structured(r#""source": "/""#)));
        assert!(!missing(&structured(r#""data_base64": "?""#)));
        assert!(!missing(&binary(None, "hunter2")));
        let error = Key::cloud_event_data(&binary(None, "hunter2")).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
