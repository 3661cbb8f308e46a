//! The formats that the attribute knows by name, and what can be said of a type that cannot be read
//! in one.
//!
//! Those behind a feature are macros: where the feature is off, the name is an error that says so.

use idem_runtime::{CloudEvent, DecodeError, Encoded, Format};

pub use crate::{
    __idem_format_avro as avro, __idem_format_avro_schema as avro_schema,
    __idem_format_cloudevents as cloudevents, __idem_format_protobuf as protobuf,
    __idem_format_protobuf_registry as protobuf_registry,
};

/// Decodes a JSON payload.
///
/// # Errors
/// As [`idem_runtime::decode_json`].
pub fn decode_json<E: JsonEvent>(event: Encoded<'_>) -> Result<E, DecodeError> {
    E::decode(event)
}

/// An event that can be decoded from JSON.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be decoded from the payload of a Kafka message",
    label = "not `serde::Deserialize`",
    note = "add `#[derive(serde::Deserialize)]` to it; for an enum with a variant for each event type \
            `#[derive(idem::EventTypes)]`, and name it in the attribute: `types = ..`"
)]
pub trait JsonEvent: serde::de::DeserializeOwned {
    /// Decodes it.
    ///
    /// # Errors
    /// When the payload is not the JSON of such an event.
    fn decode(event: Encoded<'_>) -> Result<Self, DecodeError>;
}

#[diagnostic::do_not_recommend]
impl<E: serde::de::DeserializeOwned> JsonEvent for E {
    fn decode(event: Encoded<'_>) -> Result<Self, DecodeError> {
        idem_runtime::decode_json(&event)
    }
}

/// Decodes a format of the user's own.
///
/// # Errors
/// As the format's.
pub fn decode_with<F: Format<E>, E>(event: Encoded<'_>) -> Result<E, DecodeError> {
    F::decode(&event)
}

/// Decodes an event that may be a tombstone.
///
/// # Errors
/// As those of `decode`.
pub fn optional<E>(
    event: Encoded<'_>,
    decode: impl FnOnce(Encoded<'_>) -> Result<E, DecodeError>,
) -> Result<Option<E>, DecodeError> {
    match event.payload {
        Some(_) => decode(event).map(Some),
        None => Ok(None),
    }
}

/// Decodes a CloudEvent.
///
/// # Errors
/// As [`CloudEvent::decode`].
pub fn decode_cloudevents<E: CloudEventOf>(event: Encoded<'_>) -> Result<E, DecodeError> {
    E::decode(event)
}

/// A CloudEvent.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be decoded from a CloudEvent",
    label = "not an `idem::CloudEvent<..>`",
    note = "take `event: CloudEvent<{Self}>`: its data is `event.data`, its attributes are beside it"
)]
pub trait CloudEventOf: Sized {
    /// Decodes it.
    ///
    /// # Errors
    /// When the message is not such an event.
    fn decode(event: Encoded<'_>) -> Result<Self, DecodeError>;
}

impl<T: JsonEvent> CloudEventOf for CloudEvent<T> {
    fn decode(event: Encoded<'_>) -> Result<Self, DecodeError> {
        CloudEvent::decode(&event)
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_cloudevents {
    ($type:ty, $event:ident) => {
        $crate::__private::formats::decode_cloudevents::<$type>($event)
    };
}

/// Decodes Protobuf.
///
/// # Errors
/// As [`idem_runtime::decode_protobuf`].
#[cfg(feature = "protobuf")]
pub fn decode_protobuf<E: ProtobufEvent>(event: Encoded<'_>) -> Result<E, DecodeError> {
    E::decode(event)
}

/// Decodes Protobuf in the frame of a schema registry.
///
/// # Errors
/// As [`idem_runtime::decode_protobuf_registry`].
#[cfg(feature = "protobuf")]
pub fn decode_protobuf_registry<E: ProtobufEvent>(
    event: Encoded<'_>,
    place: &[u32],
) -> Result<E, DecodeError> {
    E::decode_framed(event, place)
}

/// A Protobuf message.
#[cfg(feature = "protobuf")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be decoded from Protobuf",
    label = "not a `prost::Message` with a `Default`",
    note = "let the crate `prost-build` write it, or derive `prost::Message` (of the same version of \
            prost as idem's, 0.14)"
)]
pub trait ProtobufEvent: Sized {
    /// Decodes it.
    ///
    /// # Errors
    /// When the payload is not such a message.
    fn decode(event: Encoded<'_>) -> Result<Self, DecodeError>;

    /// Decodes it from its frame.
    ///
    /// # Errors
    /// When the payload is not such a message in a frame.
    fn decode_framed(event: Encoded<'_>, place: &[u32]) -> Result<Self, DecodeError>;
}

#[cfg(feature = "protobuf")]
#[diagnostic::do_not_recommend]
impl<E: prost::Message + Default> ProtobufEvent for E {
    fn decode(event: Encoded<'_>) -> Result<Self, DecodeError> {
        idem_runtime::decode_protobuf(&event)
    }

    fn decode_framed(event: Encoded<'_>, place: &[u32]) -> Result<Self, DecodeError> {
        idem_runtime::decode_protobuf_registry(&event, place)
    }
}

#[cfg(feature = "protobuf")]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_protobuf {
    ($type:ty, $event:ident) => {
        $crate::__private::formats::decode_protobuf::<$type>($event)
    };
}

#[cfg(feature = "protobuf")]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_protobuf_registry {
    ($type:ty, $event:ident, $place:expr) => {
        $crate::__private::formats::decode_protobuf_registry::<$type>($event, &$place)
    };
}

#[cfg(not(feature = "protobuf"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_protobuf {
    ($type:ty, $event:ident) => {
        ::core::compile_error!(
            "the format \"protobuf\" needs a feature of idem: \
             `cargo add idem-kafka --features protobuf`"
        )
    };
}

#[cfg(not(feature = "protobuf"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_protobuf_registry {
    ($type:ty, $event:ident, $place:expr) => {
        ::core::compile_error!(
            "the format \"protobuf_registry\" needs a feature of idem: \
             `cargo add idem-kafka --features protobuf`"
        )
    };
}

/// Decodes Avro.
///
/// # Errors
/// As [`idem_runtime::decode_avro`].
#[cfg(feature = "avro")]
pub fn decode_avro<E: JsonEvent>(event: Encoded<'_>) -> Result<E, DecodeError> {
    idem_runtime::decode_avro(event)
}

#[cfg(feature = "avro")]
pub use idem_runtime::schema_of_avro;

#[cfg(feature = "avro")]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_avro {
    ($type:ty, $event:ident) => {
        $crate::__private::formats::decode_avro::<$type>($event)
    };
}

#[cfg(feature = "avro")]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_avro_schema {
    () => {
        ::core::option::Option::Some($crate::__private::formats::schema_of_avro)
    };
}

#[cfg(not(feature = "avro"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_avro {
    ($type:ty, $event:ident) => {
        ::core::compile_error!(
            "the format \"avro\" needs a feature of idem: `cargo add idem-kafka --features avro`"
        )
    };
}

// The missing feature is said once, where the event is decoded.
#[cfg(not(feature = "avro"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_format_avro_schema {
    () => {
        ::core::option::Option::None
    };
}
