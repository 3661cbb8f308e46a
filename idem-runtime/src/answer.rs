//! What a handler returned, kept beside the marker: a duplicate is answered as the first delivery was.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::handler::Handler;
use crate::outcome::Outcome;

/// A handler whose results are stored (`store_result` in its attribute).
#[diagnostic::on_unimplemented(
    message = "the results of `{Self}` are not stored",
    note = "add `store_result` to its `#[idempotent(..)]`"
)]
pub trait Answers: Handler {
    /// What it returns when it succeeds.
    type Answer: Answer;
}

/// A type whose values can be stored beside a marker, as JSON, and be read again.
#[diagnostic::on_unimplemented(
    message = "a result of type `{Self}` cannot be stored",
    label = "not `serde::Serialize` and `serde::Deserialize`",
    note = "derive both for it: it is kept as JSON beside the marker, and given to duplicates"
)]
pub trait Answer: Sized + Send {
    /// The value as it is stored.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn to_json(&self) -> serde_json::Result<Value>;

    /// The value as it was stored.
    ///
    /// # Errors
    /// When what was stored is not such a value.
    fn from_json(value: Value) -> serde_json::Result<Self>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send> Answer for T {
    fn to_json(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn from_json(value: Value) -> serde_json::Result<Self> {
        serde_json::from_value(value)
    }
}

/// Where what a handler returns is put.
#[derive(Debug)]
pub struct Slot<'a>(pub(crate) &'a mut Option<Value>);

impl Slot<'_> {
    /// Keeps a value that has at most so many bytes as JSON.
    ///
    /// # Errors
    /// [`Failure`], which trying again does not cure, when it has more or cannot be written as JSON.
    pub fn keep<T: Answer>(self, value: &T, max_bytes: usize) -> std::result::Result<(), Failure> {
        let value = value.to_json().map_err(|error| {
            Failure::unstored(format!("the handler's result cannot be stored as JSON: {error}"))
        })?;
        let bytes = value.to_string().len();
        if bytes > max_bytes {
            return Err(Failure::unstored(format!(
                "the handler's result has {bytes} bytes as JSON, and {max_bytes} are stored at most: \
                 return less, such as an id of what was made, or allow more with \
                 `store_result = {bytes}`"
            )));
        }
        *self.0 = Some(value);
        Ok(())
    }
}

/// The outcome with the value in place of its JSON.
pub(crate) fn typed<H: Answers>(outcome: Outcome<Option<Value>>) -> Result<Outcome<H::Answer>> {
    let read = |value: Value| {
        H::Answer::from_json(value).map_err(|error| {
            let message = format!(
                "scope {}: the stored result is not what this release of the handler returns; its \
                 effects were kept. Let the type read what former releases wrote",
                H::SCOPE
            );
            Error::new(ErrorKind::Store, message).with_source(error)
        })
    };
    match outcome {
        Outcome::Processed(Some(value)) => Ok(Outcome::Processed(read(value)?)),
        // A probe found that the effects had happened: what was returned then is not known.
        Outcome::Processed(None) => Ok(Outcome::Duplicate(None)),
        Outcome::Settled => Ok(Outcome::Settled),
        Outcome::Duplicate(value) => Ok(Outcome::Duplicate(value.flatten().map(read).transpose()?)),
    }
}
