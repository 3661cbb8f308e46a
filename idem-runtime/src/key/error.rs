//! Why something cannot be a key.

use std::fmt;

use crate::key::Key;

/// Why something cannot be a key. It never quotes the refused value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError(pub(super) Why);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    Empty,
    TooLong(usize),
    Nul,
    Absent,
    NoHeader(&'static str),
    HeaderNotText(&'static str),
    NoMessageKey,
    NoPayload,
    NoSuchContent,
    NoField(&'static str),
    Content(&'static str),
    Missing(String),
    Custom(String),
}

impl KeyError {
    /// A refusal with a reason of your own, for a [`KeyPart`](crate::KeyPart) or a key function of
    /// your own. The reason must not quote the value.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(Why::Custom(reason.into()))
    }

    /// The same for an event that has no key: what becomes of it is what the handler's `missing_key`
    /// says.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self(Why::Missing(reason.into()))
    }

    /// Whether the key is missing, and not malformed: a field that is `None`, a header, message key or
    /// payload that is absent, or one that is empty, as producers write it for "none".
    pub fn is_missing(&self) -> bool {
        match self.0 {
            Why::Empty
            | Why::Absent
            | Why::NoHeader(_)
            | Why::NoMessageKey
            | Why::NoPayload
            | Why::NoSuchContent
            | Why::NoField(_)
            | Why::Missing(_) => true,
            Why::TooLong(_)
            | Why::Nul
            | Why::HeaderNotText(_)
            | Why::Content(_)
            | Why::Custom(_) => false,
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Empty => f.write_str("the key is empty; every event needs a key of its own"),
            Why::TooLong(len) => {
                write!(f, "a written key has at most {} bytes, this one has {len}", Key::MAX_LEN)
            }
            Why::Nul => f.write_str("the key has a NUL character, which databases cannot keep"),
            Why::Absent => f.write_str("the event has no value in a field of the key"),
            Why::NoHeader(name) => write!(f, "the event has no header `{name}` with a value"),
            Why::HeaderNotText(name) => write!(f, "the header `{name}` is not UTF-8 text"),
            Why::NoMessageKey => f.write_str("the event has no message key"),
            Why::NoPayload => {
                f.write_str("the event has no payload (a tombstone), and so no content to hash")
            }
            Why::NoSuchContent => {
                f.write_str("the event has none of the fields that its content hash is made of")
            }
            Why::NoField(name) => {
                write!(f, "the event has no field `{name}`, which its content hash is made of")
            }
            Why::Content(why) => write!(f, "the content cannot be hashed: {why}"),
            Why::Missing(reason) | Why::Custom(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for KeyError {}
