//! How an event is read: from the bytes of a message to the type a handler takes.
//!
//! Not here: where schemas come from (`crate::registry`).

#[cfg(feature = "avro")]
mod avro;
#[cfg(test)]
#[cfg(feature = "avro")]
mod avro_hostile_tests;
#[cfg(feature = "avro")]
mod avro_reader;
#[cfg(feature = "avro")]
mod avro_value;
pub(crate) mod cloud_event;
mod cloud_event_data;
mod data;
mod encoded;
#[cfg(any(feature = "avro", feature = "protobuf"))]
mod framed;
pub(crate) mod json;
#[cfg(feature = "protobuf")]
mod protobuf;
mod schemas;

#[cfg(feature = "avro")]
pub use self::avro::{decode_avro, schema_of_avro};
pub use self::cloud_event::CloudEvent;
pub use self::encoded::Encoded;
pub use self::json::decode_json;
#[cfg(feature = "protobuf")]
pub use self::protobuf::{decode_protobuf, decode_protobuf_registry};
#[cfg(feature = "avro")]
pub(crate) use self::schemas::Known;
pub use self::schemas::{Schema, SchemaOf, Schemas};

use crate::event::{DecodeError, Event};

/// A format of your own, for `format = path::to::YourFormat`.
///
/// ```
/// use idem_runtime::{DecodeError, Event, Format, decode_json};
///
/// /// JSON behind one byte that says which version it is.
/// struct Versioned;
///
/// impl<E: serde::de::DeserializeOwned> Format<E> for Versioned {
///     fn decode(event: &Event) -> Result<E, DecodeError> {
///         let mut event = event.clone(); // what is in it is shared
///         let payload = event.payload.take().ok_or_else(|| DecodeError::new("a tombstone"))?;
///         match payload.first() {
///             Some(1) => event.payload = Some(payload.slice(1..)),
///             _ => return Err(DecodeError::new("an event of an unknown version")),
///         }
///         decode_json(&event)
///     }
/// }
/// let event = Event::new("orders".into(), 0, 0, &b"\x01\"e7\""[..]);
/// assert_eq!(<Versioned as Format<String>>::decode(&event).unwrap(), "e7");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a format that reads `{E}`",
    label = "not a format for this event",
    note = "implement `idem::Format<{E}>` for it, or name one that idem brings: `format = \"json\"`"
)]
pub trait Format<E> {
    /// Reads an event.
    ///
    /// The same message must give the same event each time: an event that is tried again is read
    /// again.
    ///
    /// # Errors
    /// [`DecodeError`] when the message is not such an event. Its text is logged and kept, so it
    /// must not quote the payload.
    fn decode(event: &Event) -> Result<E, DecodeError>;
}

/// The payload; of a tombstone, the mistake that names the fix.
pub(crate) fn payload(event: &Event) -> Result<&[u8], DecodeError> {
    event.payload.as_deref().ok_or_else(|| {
        DecodeError::new(
            "the event has no payload (a tombstone); a handler that is to see it takes \
             `Option<..>` of its event",
        )
    })
}
