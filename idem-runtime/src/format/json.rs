//! JSON, by serde.

use serde::de::DeserializeOwned;

use crate::event::{DecodeError, Event};
use crate::format::payload;

/// Decodes a JSON payload.
///
/// # Errors
/// A tombstone, or a payload that is not the JSON of a `T`. The message gives the place and the
/// category of the mistake and never quotes the payload.
pub fn decode_json<T: DeserializeOwned>(event: &Event) -> Result<T, DecodeError> {
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
}
