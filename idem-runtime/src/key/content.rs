//! The hash of what an event says, for events that have nothing else to be told apart by.

use sha2::{Digest as _, Sha256};

use super::error::Why;
use super::json::Json;
use super::{Key, KeyError, hash};
use crate::event::Event;

/// Comes before every hashed content. No text that becomes a key has a NUL, so that a content's hash
/// is never that of a text. The number is the version of the form.
const JSON: &[u8] = b"idem content json 1\0";
const BYTES: &[u8] = b"idem content bytes 1\0";

/// Which part of a JSON payload a content hash is made of: all of it, some fields, or all but some.
///
/// A field is named as in the JSON, one within another with dots: `order.id`. A field within an array
/// cannot be named.
///
/// # What is the same content
///
/// - Fields of an object have no order, white space has no meaning; items of an array have an order.
/// - A number is its value, exactly, however many digits it has: `1`, `1.0` and `10e-1` are the same,
///   and so are `0` and `-0`; `9007199254740993` and `9007199254740992` are not.
/// - A string is its characters: `"\u0041"` and `"A"` are the same. They are not normalized: an `é` of
///   one character and one of two are not the same.
/// - `null` and a field that is not there are not the same; nor are `1`, `"1"` and `true`.
/// - An object with the same field twice has no single content, and is refused. So is half a
///   surrogate pair, an exponent of more than 15 digits, and nesting deeper than 128.
///
/// # The form that is hashed
///
/// Version 1. The text `idem content json 1` and a NUL, followed by the value: `n`, `t` and `f` for
/// `null`, `true` and `false`; a number as `#`, its sign if it is negative, its digits without zeros
/// at either end, `e`, the exponent and `;` (`#15e1;` for 150, and `#0;` for nothing); a string as its
/// length in bytes, a colon and its bytes; an array in `[` and `]`; an object in `{` and `}`, each field
/// as the string of its name and its value, in the order of the names' bytes. Of chosen fields, in
/// `(` and `)`, each as the string of its path and its value, or `-` where it is not there, in the order
/// of the paths' bytes.
#[derive(Debug, Clone, Copy)]
pub struct Content(Fields);

#[derive(Debug, Clone, Copy)]
enum Fields {
    All,
    /// Those that each event has, and those that it may have.
    Only(&'static [&'static str], &'static [&'static str]),
    Except(&'static [&'static str]),
}

impl Content {
    /// All of it.
    pub const ALL: Self = Self(Fields::All);

    /// These fields. Each event has all of them: where one is not there, the key is missing. What is
    /// `null` is there.
    pub const fn only(fields: &'static [&'static str]) -> Self {
        Self(Fields::Only(fields, &[]))
    }

    /// And these, which need not be there, beside those of [`only`](Self::only). One that is not there
    /// is told apart from one that is `null`. An event that has none of all the fields has no key.
    ///
    /// Of all fields, and of all but some, none has to be there, so that this changes nothing.
    #[must_use]
    pub const fn optional(self, fields: &'static [&'static str]) -> Self {
        match self.0 {
            Fields::Only(only, _) => Self(Fields::Only(only, fields)),
            _ => self,
        }
    }

    /// All but these fields.
    pub const fn except(fields: &'static [&'static str]) -> Self {
        Self(Fields::Except(fields))
    }

    /// The form that is hashed, of a JSON payload.
    fn form(self, payload: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut json = Json::parse(payload).map_err(|why| KeyError(Why::Content(why)))?;
        let mut form = JSON.to_vec();
        match self.0 {
            Fields::All => json.write(&mut form),
            Fields::Except(fields) => {
                let some = !json.is_empty_object();
                for field in fields {
                    json.remove(field);
                }
                if some && json.is_empty_object() {
                    return Err(KeyError(Why::NoSuchContent));
                }
                json.write(&mut form);
            }
            Fields::Only(fields, optional) => {
                // Otherwise two events that both lack it are one, and a misspelt field is lacked by all.
                if let Some(absent) = fields.iter().find(|field| json.get(field).is_none()) {
                    return Err(KeyError(Why::NoField(absent)));
                }
                let fields = fields.iter().chain(optional);
                let mut fields: Vec<_> = fields.map(|it| (*it, json.get(it))).collect();
                if fields.iter().all(|(_, value)| value.is_none()) {
                    return Err(KeyError(Why::NoSuchContent));
                }
                fields.sort_by_key(|(path, _)| *path);
                form.push(b'(');
                for (path, value) in fields {
                    super::json::write_text(path, &mut form);
                    match value {
                        Some(value) => value.write(&mut form),
                        None => form.push(b'-'),
                    }
                }
                form.push(b')');
            }
        }
        Ok(form)
    }
}

impl Key {
    /// The hash of a JSON payload's content: see [`Content`] for what is the same.
    ///
    /// # Errors
    /// [`KeyError`] when there is no payload (a tombstone), a field of those that each event has is not
    /// in it, or nothing of what is hashed is: the key is missing. When it is not JSON, or JSON without a
    /// single meaning: it is malformed.
    pub fn content(event: &Event, content: Content) -> Result<Self, KeyError> {
        let payload = event.payload.as_deref().ok_or(KeyError(Why::NoPayload))?;
        Ok(Self(hash::of(&content.form(payload)?)))
    }

    /// The hash of a payload's bytes, whatever they say: for formats whose content has no single form
    /// to compare.
    ///
    /// # Errors
    /// [`KeyError`] when there is no payload: the key is missing.
    pub fn payload(event: &Event) -> Result<Self, KeyError> {
        let payload = event.payload.as_deref().ok_or(KeyError(Why::NoPayload))?;
        Ok(Self(hash::finish(Sha256::new().chain_update(BYTES).chain_update(payload))))
    }
}

#[cfg(test)]
mod tests;
