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

/// How deep a result is nested at most. `serde_json` reads 127 levels, and the rest is for what a store
/// puts around it.
const MAX_DEPTH: usize = 120;

/// Where what a handler returns is put.
#[derive(Debug)]
pub struct Slot<'a>(pub(crate) &'a mut Option<Value>);

impl Slot<'_> {
    /// Keeps a value that has at most so many bytes as JSON.
    ///
    /// # Errors
    /// [`Failure`], which trying again does not cure, when it has more, cannot be written as JSON, has a
    /// NUL in a text, or is nested deeper than 120 levels: not every store could keep it, or read it
    /// again.
    pub fn keep<T: Answer>(self, value: &T, max_bytes: usize) -> std::result::Result<(), Failure> {
        let value = value.to_json().map_err(|error| {
            Failure::unstored(format!("the handler's result cannot be stored as JSON: {error}"))
        })?;
        if let Some(why) = unreadable(&value) {
            return Err(Failure::unstored(format!("the handler's result cannot be stored: {why}")));
        }
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

/// Why a value cannot be kept by each store and read again as it was.
fn unreadable(value: &Value) -> Option<&'static str> {
    const NUL: &str = "it has a text with a NUL in it, which not every database takes";
    const DEEP: &str = "it is nested deeper than 120 levels";
    // Not by recursion: it may be too deep for that.
    let mut rest = vec![(value, 0)];
    while let Some((value, depth)) = rest.pop() {
        match value {
            Value::String(text) if text.contains('\0') => return Some(NUL),
            Value::Array(_) | Value::Object(_) if depth == MAX_DEPTH => return Some(DEEP),
            Value::Array(items) => rest.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => {
                if fields.keys().any(|name| name.contains('\0')) {
                    return Some(NUL);
                }
                rest.extend(fields.values().map(|field| (field, depth + 1)));
            }
            _ => {}
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(value: &Value) -> std::result::Result<Value, Failure> {
        let mut slot = None;
        Slot(&mut slot).keep(value, 1 << 20)?;
        Ok(slot.unwrap())
    }

    /// `levels` arrays or objects, one within another.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, level| match level % 2 {
            0 => json!([inner]),
            _ => json!({ "in": inner }),
        })
    }

    #[test]
    fn a_result_with_a_nul_in_it_is_refused_wherever_it_is() {
        for bad in [json!("a\0"), json!([1, { "deep": ["\0"] }]), json!([{ "na\0me": 1 }])] {
            let failure = kept(&bad).unwrap_err();
            assert!(failure.is_permanent() && failure.is_unstored(), "{failure:?}");
            assert!(failure.to_string().contains("NUL"), "{failure}");
        }
        // The six characters of an escape are no NUL.
        for good in [json!("\u{1}\u{7f}\\u0000"), json!({ "": null })] {
            assert_eq!(kept(&good).unwrap(), good);
        }
    }

    #[test]
    fn a_result_is_as_deep_as_can_be_read_again() {
        let deep = kept(&nested(MAX_DEPTH)).unwrap();
        // As within what a store may put around it.
        let text = format!("[[[[{deep}]]]]");
        assert!(serde_json::from_str::<Value>(&text).is_ok());
        for levels in [MAX_DEPTH + 1, 128, 1000] {
            let failure = kept(&nested(levels)).unwrap_err();
            assert!(failure.to_string().contains("120 levels"), "{failure}");
        }
    }
}
