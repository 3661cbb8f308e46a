//! What can be a key or a part of one, and what the compiler says of what cannot.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::num::{NonZeroI32, NonZeroI64, NonZeroU32, NonZeroU64};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use uuid::Uuid;

use super::error::Why;
use super::{Key, KeyError, hash};

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

    /// The key that this is alone: its text, as [`Key::new`] takes it.
    ///
    /// # Errors
    /// As [`write`](Self::write) and [`Key::new`].
    #[doc(hidden)]
    fn to_key(&self) -> Result<Key, KeyError> {
        thread_local! {
            /// Room to write in, so that a key is one allocation, of its own length.
            static ROOM: Cell<String> = const { Cell::new(String::new()) };
        }
        let mut text = ROOM.take();
        text.clear();
        let key = self.write(&mut text).and_then(|()| Key::new(text.as_str()));
        // Not what one endless text has made of it.
        if text.capacity() <= 4 * Key::MAX_LEN {
            ROOM.set(text);
        }
        key
    }
}

/// What an `Option` would need to hold to be a key. No type implements it: it exists so that the
/// compiler can say why an `Option` is not a key, instead of that it is not.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`Option<{Self}>` cannot be an idempotency key: an event without it would have none",
    label = "may be missing",
    note = "make it a `{Self}`, so that an event without it is refused when it is decoded; or say \
            what becomes of such an event: `missing_key = \"dead_letter\"`, \"stop\", \
            \"process_without_guarantee\" or \"content_hash\""
)]
pub trait NeverMissing {}

/// Never usable: see [`NeverMissing`].
impl<T: NeverMissing> KeyPart for Option<T> {
    fn write(&self, _: &mut String) -> Result<(), KeyError> {
        Err(KeyError(Why::Absent))
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

/// What a collection without an order would need to be a key. Nothing implements it, as with
/// [`NeverMissing`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot be an idempotency key: it has no order, so that the same content is \
               written in another order each time",
    label = "has no order",
    note = "choose an identifier: a string, an integer, a `Uuid`; or hash what the event says: \
            `key = content_hash`"
)]
pub trait AlwaysInOrder<T> {}

/// What [`AlwaysInOrder`] is asked of.
#[doc(hidden)]
#[derive(Debug)]
pub struct Unordered;

/// Never usable: see `AlwaysInOrder`.
impl<K, V, S> KeyPart for HashMap<K, V, S>
where
    for<'a> &'a Unordered: AlwaysInOrder<HashMap<K, V, S>>,
{
    fn write(&self, _: &mut String) -> Result<(), KeyError> {
        Err(KeyError::new("the key is a map without an order"))
    }
}

/// Never usable: see `AlwaysInOrder`.
impl<T, S> KeyPart for HashSet<T, S>
where
    for<'a> &'a Unordered: AlwaysInOrder<HashSet<T, S>>,
{
    fn write(&self, _: &mut String) -> Result<(), KeyError> {
        Err(KeyError::new("the key is a set without an order"))
    }
}

/// What a time would need to be a key. Nothing implements it, as with [`NeverMissing`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot be an idempotency key: two events can have the same time, and a clock \
               can be read differently when an event is sent again",
    label = "a time",
    note = "choose an identifier: a string, an integer, a `Uuid`"
)]
pub trait AlwaysAnother<T> {}

/// What [`AlwaysAnother`] is asked of.
#[doc(hidden)]
#[derive(Debug)]
pub struct Clock;

macro_rules! time {
    ($($type:ty)*) => {$(
        /// Never usable: see `AlwaysAnother`.
        impl KeyPart for $type where for<'a> &'a Clock: AlwaysAnother<$type> {
            fn write(&self, _: &mut String) -> Result<(), KeyError> {
                Err(KeyError::new("the key is a time"))
            }
        }
    )*};
}

time! { SystemTime Instant }

/// A part of a key that may be missing, of a handler that says what becomes of the event then.
///
/// Methods tell what may be missing from what is always there, and not a trait: of a trait the compiler
/// would say that a float does not have it, whereas each method here asks for [`KeyPart`], which has words
/// for each mistake. A method of the type itself is found before one of what it derefs to.
#[doc(hidden)]
#[derive(Debug)]
pub struct Maybe<'a, T>(Present<'a, T>);

/// A part that is always there.
#[doc(hidden)]
#[derive(Debug)]
pub struct Present<'a, T>(&'a T);

impl<'a, T> Maybe<'a, T> {
    /// Of this part, which the compiler knows the type of.
    pub const fn of(part: &'a T) -> Self {
        Self(Present(part))
    }
}

impl<'a, P> Maybe<'a, Option<P>> {
    /// The part.
    ///
    /// # Errors
    /// [`KeyError`] when it is missing.
    pub fn key_part(&self) -> Result<&'a dyn KeyPart, KeyError>
    where
        P: KeyPart,
    {
        self.0.0.as_ref().map(|part| part as &dyn KeyPart).ok_or(KeyError(Why::Absent))
    }
}

/// What a key function returns that can fail.
impl<'a, P> Maybe<'a, Result<Option<P>, KeyError>> {
    /// The part.
    ///
    /// # Errors
    /// [`KeyError`] when it is missing, or the function's.
    pub fn key_part(&self) -> Result<&'a dyn KeyPart, KeyError>
    where
        P: KeyPart,
    {
        Maybe::of(self.0.0.as_ref().map_err(Clone::clone)?).key_part()
    }
}

impl<'a, T> Deref for Maybe<'a, T> {
    type Target = Present<'a, T>;

    fn deref(&self) -> &Present<'a, T> {
        &self.0
    }
}

impl<'a, T> Present<'a, T> {
    /// The part, which is there.
    ///
    /// # Errors
    /// None: it is a `Result` because that of an `Option` is.
    pub fn key_part(&self) -> Result<&'a dyn KeyPart, KeyError>
    where
        T: KeyPart,
    {
        Ok(self.0)
    }
}

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

display! { bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }
display! { NonZeroI32 NonZeroI64 NonZeroU32 NonZeroU64 }

impl KeyPart for str {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        text.push_str(self);
        Ok(())
    }

    fn to_key(&self) -> Result<Key, KeyError> {
        Key::new(self)
    }
}

/// With hyphens, in lower case.
impl KeyPart for Uuid {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        text.push_str(self.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        Ok(())
    }

    fn to_key(&self) -> Result<Key, KeyError> {
        Key::new(&*self.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

/// A key is what it is: a hash is not hashed again.
impl KeyPart for Key {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        self.as_str().write(text)
    }

    fn to_key(&self) -> Result<Key, KeyError> {
        Ok(self.clone())
    }
}

/// What a key function returns that can fail.
impl<P: KeyPart> KeyPart for Result<P, KeyError> {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        self.as_ref().map_err(Clone::clone)?.write(text)
    }

    fn to_key(&self) -> Result<Key, KeyError> {
        self.as_ref().map_err(Clone::clone)?.to_key()
    }
}

macro_rules! deref {
    ($($(#[$generic:ident])? $type:ty)*) => {$(
        impl$(<$generic: KeyPart + ?Sized>)? KeyPart for $type {
            fn write(&self, text: &mut String) -> Result<(), KeyError> {
                (**self).write(text)
            }

            fn to_key(&self) -> Result<Key, KeyError> {
                (**self).to_key()
            }
        }
    )*};
}

deref! { String Cow<'_, str> #[T] Box<T> #[T] Rc<T> #[T] Arc<T> #[T] &T }

/// Bytes are written in lower-case hexadecimal.
impl KeyPart for [u8] {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        hash::hex(self, text);
        Ok(())
    }
}

impl<const N: usize> KeyPart for [u8; N] {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        self.as_slice().write(text)
    }
}

deref! { Vec<u8> Bytes }
