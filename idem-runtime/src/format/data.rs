//! The data of a CloudEvent: JSON by serde, anything else as text or bytes.

use std::borrow::Cow;

use serde::de::value::{Error as ValueError, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::event::DecodeError;
use crate::format::json::json_error;

/// The data as it was found.
pub(super) enum Data<'a> {
    /// A value inside of a JSON object, whatever the media type.
    Json(&'a str),
    /// Bytes of the media type that is said beside it; JSON unless it is.
    Bytes(&'a [u8]),
    /// None.
    Absent,
}

/// The data as a `T`.
pub(super) fn of<T: DeserializeOwned>(
    data: Data<'_>,
    media_type: Option<&str>,
) -> Result<T, DecodeError> {
    match data {
        Data::Json(text) => json(text.as_bytes()),
        Data::Absent => serde_json::from_str("null").map_err(|_| {
            DecodeError::new("the CloudEvent has no data, and the handler takes some")
        }),
        Data::Bytes(bytes) => {
            let media_type = self::media_type(media_type.unwrap_or("application/json"));
            if is_json(&media_type) {
                return json(bytes);
            }
            let is_text = media_type.starts_with("text/");
            T::deserialize(Raw { bytes, is_text }).map_err(|_| {
                DecodeError::new(
                    "the data of the CloudEvent is not JSON, and the handler's type for it is \
                     neither text nor bytes",
                )
            })
        }
    }
}

/// Parses JSON. The error never quotes it.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| json_error(&error))
}

/// The media type without its parameters, in lower case.
pub(super) fn media_type(content_type: &str) -> String {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

/// Whether a media type, in lower case, is one of JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    media_type.split_once('/').is_some_and(|(_, sub)| sub == "json" || sub.ends_with("+json"))
}

/// Decodes base64 (RFC 4648, section 4), with its padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in chunk {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        let missing = 4 - chunk.len();
        let whole = (bits << (6 * missing)).to_be_bytes();
        bytes.extend_from_slice(&whole[1..4 - missing]);
    }
    Some(bytes)
}

/// Bytes as serde sees them: text, bytes, or a sequence of numbers, as the type likes it.
struct Raw<'a> {
    bytes: &'a [u8],
    is_text: bool,
}

impl<'de> Deserializer<'de> for Raw<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if self.is_text { self.deserialize_str(visitor) } else { visitor.visit_bytes(self.bytes) }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match String::from_utf8_lossy(self.bytes) {
            Cow::Borrowed(text) => visitor.visit_str(text),
            Cow::Owned(_) => visitor.visit_bytes(self.bytes),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_bytes(self.bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_bytes(self.bytes)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_seq(SeqDeserializer::new(self.bytes.iter().copied()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_its_padding_and_nothing_else() {
        let cases =
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")];
        for (text, bytes) in cases {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(base64("+/8=").unwrap(), [0xfb, 0xff]);
        for wrong in ["Zg", "Zg=", "Z===", "Zm9v\n", "Zm-_", "Zg==Zg=="] {
            assert_eq!(base64(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_json_is_text_or_bytes() {
        let bytes = Data::Bytes;
        assert_eq!(of::<String>(bytes(b"hi"), Some("text/plain; charset=utf-8")).unwrap(), "hi");
        assert_eq!(of::<Vec<u8>>(bytes(&[0, 255]), Some("image/png")).unwrap(), [0, 255]);
        let some = of::<Option<String>>(bytes(b"<a/>"), Some("text/xml")).unwrap();
        assert_eq!(some.as_deref(), Some("<a/>"));
        assert_eq!(of::<u32>(bytes(b"7"), Some("Application/VND.a+JSON")).unwrap(), 7);
        let error = of::<u32>(bytes(b"hunter2"), Some("text/plain")).unwrap_err().to_string();
        assert!(error.contains("not JSON") && !error.contains("hunter2"), "{error}");
    }
}
