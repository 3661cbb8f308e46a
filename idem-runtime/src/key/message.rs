//! What of a message can be a key: a header, the message key, its place.

use std::borrow::Cow;

use super::error::Why;
use super::{Key, KeyError, hash};
use crate::event::Event;

impl Key {
    /// The key in the header `name` of the event. Text is taken as it is; the last header of that
    /// name counts.
    ///
    /// # Errors
    /// As [`Event::header_text`] and [`Key::new`].
    pub fn header(event: &Event, name: &'static str) -> Result<Self, KeyError> {
        Self::new(event.header_text(name)?)
    }

    /// The message key of the event.
    ///
    /// # Errors
    /// As [`Event::message_key_text`] and [`Key::new`].
    pub fn message_key(event: &Event) -> Result<Self, KeyError> {
        Self::new(event.message_key_text()?.into_owned())
    }

    /// The place of the event as a key, `topic/partition/offset`: for people. The database keeps no
    /// such key; in offset mode the lane's position is the marker.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn offset(event: &Event) -> Result<Self, KeyError> {
        Self::new(format!("{}/{}/{}", event.topic, event.partition, event.offset))
    }
}

impl Event {
    /// The text of a header, as a part of a key; the last header of that name counts.
    ///
    /// # Errors
    /// [`KeyError`] when there is no such header or it has no value: the key is missing. When it is not
    /// UTF-8: it is malformed.
    pub fn header_text(&self, name: &'static str) -> Result<&str, KeyError> {
        let value = self.headers.get(name).ok_or(KeyError(Why::NoHeader(name)))?;
        std::str::from_utf8(value).map_err(|_| KeyError(Why::HeaderNotText(name)))
    }

    /// The message key as text, as a part of a key. UTF-8 without a NUL is taken as it is; anything
    /// else, and what begins with `0x`, is `0x` and the bytes in lower-case hexadecimal. So no two
    /// message keys have one text.
    ///
    /// # Errors
    /// [`KeyError`] when there is no message key: the key is missing.
    pub fn message_key_text(&self) -> Result<Cow<'_, str>, KeyError> {
        const HEX: &str = "0x";
        let key = self.message_key.as_deref().ok_or(KeyError(Why::NoMessageKey))?;
        match std::str::from_utf8(key) {
            Ok(text) if !text.contains('\0') && !text.starts_with(HEX) => Ok(text.into()),
            _ => {
                let mut text = HEX.to_owned();
                hash::hex(key, &mut text);
                Ok(text.into())
            }
        }
    }
}
