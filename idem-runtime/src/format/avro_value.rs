//! A value of Avro as serde sees it.
//!
//! apache-avro has a deserializer of its own, which reads a `Uuid` as 16 bytes unless a global switch is
//! set, for the whole process; and its errors quote what they refuse.

use apache_avro::types::Value;
use serde::de::value::{Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// The value, in whatever shape the type asks for it.
#[derive(Clone, Copy)]
pub(super) struct AvroValue<'de>(pub(super) &'de Value);

impl<'de> IntoDeserializer<'de, Error> for AvroValue<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> AvroValue<'de> {
    /// The bytes of a value that is some; a decimal is its unscaled number, big endian.
    fn bytes(self) -> Option<Vec<u8>> {
        match self.0 {
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => Some(bytes.clone()),
            Value::Decimal(decimal) => Vec::try_from(decimal).ok(),
            Value::Duration(duration) => Some(<[u8; 12]>::from(*duration).to_vec()),
            Value::Union(_, inner) => AvroValue(inner).bytes(),
            _ => None,
        }
    }
}

impl<'de> Deserializer<'de> for AvroValue<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Int(value) | Value::Date(value) | Value::TimeMillis(value) => {
                visitor.visit_i32(*value)
            }
            Value::Long(value)
            | Value::TimeMicros(value)
            | Value::TimestampMillis(value)
            | Value::TimestampMicros(value)
            | Value::TimestampNanos(value)
            | Value::LocalTimestampMillis(value)
            | Value::LocalTimestampMicros(value)
            | Value::LocalTimestampNanos(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f32(*value),
            Value::Double(value) => visitor.visit_f64(*value),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::String(text) | Value::Enum(_, text) => visitor.visit_borrowed_str(text),
            Value::Uuid(id) => visitor.visit_string(id.to_string()),
            Value::BigDecimal(number) => visitor.visit_string(number.to_string()),
            Value::Decimal(_) | Value::Duration(_) => {
                visitor.visit_byte_buf(self.bytes().unwrap_or_default())
            }
            Value::Union(_, inner) => AvroValue(inner).deserialize_any(visitor),
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.iter().map(AvroValue)))
            }
            Value::Map(entries) => visitor.visit_map(MapDeserializer::new(
                entries.iter().map(|(name, value)| (name.as_str(), AvroValue(value))),
            )),
            Value::Record(fields) => visitor.visit_map(MapDeserializer::new(
                fields.iter().map(|(name, value)| (name.as_str(), AvroValue(value))),
            )),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            Value::Union(_, inner) => AvroValue(inner).deserialize_option(visitor),
            _ => visitor.visit_some(self),
        }
    }

    /// A symbol is a variant; so is text, and the one entry of a map.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Enum(_, text) | Value::String(text) => {
                visitor.visit_enum(text.as_str().into_deserializer())
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|(name, value)| (name.as_str(), AvroValue(value)));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(entries)))
            }
            Value::Union(_, inner) => AvroValue(inner).deserialize_enum(name, variants, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Bytes can be a `Vec<u8>`.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.bytes() {
            Some(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.into_iter())),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple_struct map struct identifier
    }
}
