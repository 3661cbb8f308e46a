//! The idempotency key: what makes two deliveries the same event.
//!
//! Not here: where a key comes from. That is the attribute's business (`key = ..`), which calls the
//! constructors below.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroI32, NonZeroI64, NonZeroU32, NonZeroU64};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::Event;

/// An idempotency key: text of 1 to [`Key::MAX_LEN`] bytes without a NUL.
///
/// Ordered by its bytes, which is also the order every store keeps it in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The longest key, in bytes.
    pub const MAX_LEN: usize = 255;

    /// A key from text.
    ///
    /// # Errors
    /// [`KeyError`] when the text is empty, longer than [`Key::MAX_LEN`] bytes, or has a NUL.
    ///
    /// ```
    /// use idem_runtime::Key;
    ///
    /// assert_eq!(Key::new("order-7")?.as_str(), "order-7");
    /// assert!(Key::new("").is_err());
    /// # Ok::<(), idem_runtime::KeyError>(())
    /// ```
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() {
            Err(KeyError(Why::Empty))
        } else if text.len() > Self::MAX_LEN {
            Err(KeyError(Why::TooLong(text.len())))
        } else if text.contains('\0') {
            Err(KeyError(Why::Nul))
        } else {
            Ok(Self(text))
        }
    }

    /// The key of one part: its text as it is.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn of<P: KeyPart + ?Sized>(part: &P) -> Result<Self, KeyError> {
        let mut text = String::new();
        part.write(&mut text)?;
        Self::new(text)
    }

    /// The key of several parts. Each is written as its length in bytes, a colon and its text, so
    /// that no two different lists of parts make one key.
    ///
    /// # Errors
    /// As [`Key::new`]; and when a single part is empty.
    ///
    /// ```
    /// use idem_runtime::Key;
    ///
    /// assert_eq!(Key::composite(&[&"a", &"bc"])?.as_str(), "1:a,2:bc");
    /// assert_ne!(Key::composite(&[&"a", &"bc"])?, Key::composite(&[&"ab", &"c"])?);
    /// # Ok::<(), idem_runtime::KeyError>(())
    /// ```
    pub fn composite(parts: &[&dyn KeyPart]) -> Result<Self, KeyError> {
        use std::fmt::Write as _;
        let mut key = String::new();
        let mut text = String::new();
        for part in parts {
            text.clear();
            part.write(&mut text)?;
            if text.is_empty() {
                return Err(KeyError(Why::Empty));
            }
            if !key.is_empty() {
                key.push(',');
            }
            // Writing to a `String` cannot fail.
            let _ = write!(key, "{}:{text}", text.len());
        }
        Self::new(key)
    }

    /// The key in the header `name` of the event. Text is taken as it is; the last header of that
    /// name counts.
    ///
    /// # Errors
    /// [`KeyError`] when there is no such header, it has no value or it is not UTF-8, and as
    /// [`Key::new`].
    pub fn header(event: &Event, name: &'static str) -> Result<Self, KeyError> {
        let value = event.headers.get(name).ok_or(KeyError(Why::NoHeader(name)))?;
        let text = std::str::from_utf8(value).map_err(|_| KeyError(Why::HeaderNotText(name)))?;
        Self::new(text)
    }

    /// The place of the event as a key, `topic/partition/offset`: for people. The database keeps no
    /// such key; in offset mode the lane's position is the marker.
    ///
    /// # Errors
    /// As [`Key::new`]. A topic's name has at most 249 bytes, so a long one can be refused.
    pub fn offset(event: &Event) -> Result<Self, KeyError> {
        Self::new(format!("{}/{}/{}", event.topic, event.partition, event.offset))
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

/// Anything that can be given as a key: a [`Key`], or text that is checked.
pub trait IntoKey {
    /// The key.
    ///
    /// # Errors
    /// As [`Key::new`].
    fn into_key(self) -> Result<Key, KeyError>;
}

impl IntoKey for Key {
    fn into_key(self) -> Result<Key, KeyError> {
        Ok(self)
    }
}

impl<P: KeyPart + ?Sized> IntoKey for &P {
    fn into_key(self) -> Result<Key, KeyError> {
        Key::of(self)
    }
}

/// Why something cannot be a key. It never quotes the refused value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError(Why);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    Empty,
    TooLong(usize),
    Nul,
    NoHeader(&'static str),
    HeaderNotText(&'static str),
    Custom(String),
}

impl KeyError {
    /// A refusal with a reason of your own, for a [`KeyPart`] of your own.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(Why::Custom(reason.into()))
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Empty => f.write_str("the key is empty; every event needs a key of its own"),
            Why::TooLong(len) => write!(
                f,
                "the key has {len} bytes, at most {} are allowed; choose a shorter field or a hash \
                 of it",
                Key::MAX_LEN
            ),
            Why::Nul => f.write_str("the key has a NUL character, which databases cannot keep"),
            Why::NoHeader(name) => write!(f, "the event has no header `{name}` with a value"),
            Why::HeaderNotText(name) => write!(f, "the header `{name}` is not UTF-8 text"),
            Why::Custom(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for KeyError {}

/// A type whose values can be a key, or a part of one.
///
/// Two values that are equal must write the same text, today and after the next release: the text
/// is in the database. Different values must write different texts.
///
/// ```
/// use idem_runtime::{Key, KeyError, KeyPart};
///
/// struct OrderId(u64);
///
/// impl KeyPart for OrderId {
///     fn write(&self, text: &mut String) -> Result<(), KeyError> {
///         self.0.write(text)
///     }
/// }
/// assert_eq!(Key::of(&OrderId(7))?.as_str(), "7");
/// # Ok::<(), KeyError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an idempotency key",
    label = "not a key",
    note = "strings, integers, `Uuid` and bytes can be keys; implement `idem::KeyPart` for a type \
            of your own"
)]
pub trait KeyPart {
    /// Appends the value's text.
    ///
    /// # Errors
    /// [`KeyError`] when this value cannot be a key.
    fn write(&self, text: &mut String) -> Result<(), KeyError>;
}

/// What an `Option` would need to hold to be a key. No type implements it: it exists so that the
/// compiler can say why an `Option` is not a key, instead of that it is not.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`Option<{Self}>` cannot be an idempotency key: an event without it would have none",
    label = "may be missing",
    note = "make the field a `{Self}`, so that an event without it is refused when it is decoded, \
            or choose a field that every event has"
)]
pub trait NeverMissing {}

/// Never usable: see [`NeverMissing`].
impl<T: NeverMissing> KeyPart for Option<T> {
    fn write(&self, _: &mut String) -> Result<(), KeyError> {
        Err(KeyError::new("the key is an `Option`"))
    }
}

/// What a float would need to be a key. Nothing implements it, as with [`NeverMissing`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot be an idempotency key: two floats that look equal may not be, and one \
               may not be equal to itself",
    label = "a float",
    note = "choose an identifier: a string, an integer, a `Uuid`; for an amount of money use an \
            integer number of cents"
)]
pub trait AlwaysEqual<T> {}

/// What [`AlwaysEqual`] is asked of: the compiler explains a bound only when it is asked of another
/// type than the one the impl is for.
#[doc(hidden)]
#[derive(Debug)]
pub struct Float;

macro_rules! float {
    ($($type:ty)*) => {$(
        /// Never usable: see `AlwaysEqual`. The lifetime puts off the question until it is asked.
        impl KeyPart for $type where for<'a> &'a Float: AlwaysEqual<$type> {
            fn write(&self, _: &mut String) -> Result<(), KeyError> {
                Err(KeyError::new("the key is a float"))
            }
        }
    )*};
}

float! { f32 f64 }

macro_rules! display {
    ($($type:ty)*) => {$(
        impl KeyPart for $type {
            fn write(&self, text: &mut String) -> Result<(), KeyError> {
                use std::fmt::Write as _;
                // Writing to a `String` cannot fail.
                let _ = write!(text, "{self}");
                Ok(())
            }
        }
    )*};
}

display! { str bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }
display! { NonZeroI32 NonZeroI64 NonZeroU32 NonZeroU64 Uuid Key }

macro_rules! deref {
    ($($(#[$generic:ident])? $type:ty)*) => {$(
        impl$(<$generic: KeyPart + ?Sized>)? KeyPart for $type {
            fn write(&self, text: &mut String) -> Result<(), KeyError> {
                (**self).write(text)
            }
        }
    )*};
}

deref! { String Cow<'_, str> #[T] Box<T> #[T] Rc<T> #[T] Arc<T> #[T] &T }

/// Bytes are written in lower-case hexadecimal.
impl KeyPart for [u8] {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        text.reserve(self.len() * 2);
        for byte in self {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        Ok(())
    }
}

impl<const N: usize> KeyPart for [u8; N] {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        self.as_slice().write(text)
    }
}

deref! { Vec<u8> Bytes }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_empty_too_long_or_with_a_nul() {
        assert!(Key::new("").is_err());
        assert!(Key::new("x".repeat(255)).is_ok());
        let error = Key::new("x".repeat(256)).unwrap_err().to_string();
        assert!(error.contains("256") && error.contains("255"), "{error}");
        assert!(Key::new("a\0b").is_err());
    }

    #[test]
    fn each_kind_of_part_has_its_text() {
        let text = |part: &dyn KeyPart| {
            let mut text = String::new();
            part.write(&mut text).unwrap();
            text
        };
        assert_eq!(text(&-7_i64), "-7");
        assert_eq!(text(&String::from("a")), "a");
        assert_eq!(text(&Uuid::nil()), "00000000-0000-0000-0000-000000000000");
        assert_eq!(text(&[0xab_u8, 0x01]), "ab01");
        assert_eq!(text(&Arc::<str>::from("x")), "x");
    }

    #[test]
    fn different_lists_of_parts_never_make_one_key() {
        let key = |parts: &[&str]| {
            let parts: Vec<&dyn KeyPart> = parts.iter().map(|part| part as &dyn KeyPart).collect();
            Key::composite(&parts).unwrap()
        };
        let lists: &[&[&str]] = &[
            &["a", "bc"],
            &["ab", "c"],
            &["abc"],
            &["a", "b", "c"],
            &["1:a", "bc"],
            &["a,2:bc"],
            &["a", "2:bc"],
        ];
        for (i, a) in lists.iter().enumerate() {
            for b in &lists[i + 1..] {
                assert_ne!(key(a), key(b));
            }
        }
        assert!(Key::composite(&[&"a", &""]).is_err());
    }

    #[test]
    fn a_header_key_is_text_and_there() {
        let mut event = Event::new("t".into(), 0, 3, "");
        assert!(Key::header(&event, "id").unwrap_err().to_string().contains("`id`"));
        event.headers = [("id", Some(vec![0xff]))].into_iter().collect();
        assert!(Key::header(&event, "id").unwrap_err().to_string().contains("UTF-8"));
        event.headers = [("id", Some("e1"))].into_iter().collect();
        assert_eq!(Key::header(&event, "id").unwrap().as_str(), "e1");
        assert_eq!(Key::offset(&event).unwrap().as_str(), "t/0/3");
    }
}
