//! The idempotency key: what makes two deliveries the same event.
//!
//! `part.rs` has what can be a part of a key, `message.rs` what of a message can be, `content.rs` the
//! hash of what a message says.
//!
//! Not here: where a handler's key comes from. That is the attribute's business (`key = ..`), which
//! calls these constructors.

mod content;
mod error;
mod hash;
mod json;
mod message;
mod part;

use std::fmt;

pub use content::Content;
pub use error::KeyError;
use error::Why;
pub use part::{KeyPart, Maybe, NeverMissing};

/// An idempotency key: text of 1 to [`Key::MAX_LEN`] bytes without a NUL.
///
/// Ordered by its bytes, which is also the order every store keeps it in.
///
/// # How a key is written
///
/// This is version 1 of the encoding. Keys are in the database for as long as their markers are, so
/// it does not change; a second version would be told apart by how its keys begin.
///
/// - **One part** is its text as it is: `order-7`. Integers are decimal, a `Uuid` has its hyphens,
///   bytes are lower-case hexadecimal.
/// - **Several parts** are each written as their length in bytes, a colon and their text, with commas
///   between them: `("a", "bc")` is `1:a,2:bc`. So no two different lists make one key.
/// - **A message key** is taken as it is when it is UTF-8 without a NUL. Any other, and one that begins
///   with `0x`, is `0x` and its bytes in lower-case hexadecimal.
/// - **Longer than 255 bytes** the whole text, of several parts after they were put together, is
///   replaced by `sha256:` and the 64 lower-case hexadecimal digits of its SHA-256. A text that is
///   short but has this very form is replaced, too: nobody can write the key of another event.
/// - **A content hash** has the same form, of a hash whose input no text can be: see [`Content`].
///
/// Two different texts make two different keys as long as SHA-256 has no collision.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The longest key, in bytes. A longer text is hashed.
    pub const MAX_LEN: usize = 255;

    /// A key from text.
    ///
    /// # Errors
    /// [`KeyError`] when the text is empty or has a NUL.
    ///
    /// ```
    /// use idem_runtime::Key;
    ///
    /// assert_eq!(Key::new("order-7")?.as_str(), "order-7");
    /// assert!(Key::new("x".repeat(256))?.as_str().starts_with("sha256:"));
    /// assert!(Key::new("").is_err());
    /// # Ok::<(), idem_runtime::KeyError>(())
    /// ```
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() {
            Err(KeyError(Why::Empty))
        } else if text.contains('\0') {
            Err(KeyError(Why::Nul))
        } else if text.len() > Self::MAX_LEN || hash::is_hash(&text) {
            Ok(Self(hash::of(text.as_bytes())))
        } else {
            Ok(Self(text))
        }
    }

    /// A key as it is written: what [`as_str`](Self::as_str) gives, a marker's row has and a log
    /// shows. Of a key that is not a hash it is the same as [`Key::new`]. Not for the text of an event,
    /// which could be the hash that is another one's key.
    ///
    /// # Errors
    /// [`KeyError`] when no key is written like this: the text is empty, too long, or has a NUL.
    ///
    /// ```
    /// use idem_runtime::Key;
    ///
    /// let key = Key::new("x".repeat(256))?;
    /// assert_eq!(Key::written(key.as_str())?, key);
    /// # Ok::<(), idem_runtime::KeyError>(())
    /// ```
    pub fn written(text: impl Into<Box<str>>) -> Result<Self, KeyError> {
        let text = text.into();
        if hash::is_hash(&text) {
            return Ok(Self(text));
        }
        if text.len() > Self::MAX_LEN {
            return Err(KeyError(Why::TooLong(text.len())));
        }
        Self::new(text)
    }

    /// The key of one part: its text as it is.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn of<P: KeyPart + ?Sized>(part: &P) -> Result<Self, KeyError> {
        part.to_key()
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

/// As [`Key::new`].
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

#[cfg(test)]
mod tests;
