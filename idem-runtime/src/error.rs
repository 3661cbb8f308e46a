//! The error of idem: one opaque type with predicates.
//!
//! Not here: what a *handler* returns ([`Failure`](crate::Failure)) and why a key or a payload was
//! refused ([`KeyError`](crate::KeyError), [`DecodeError`](crate::DecodeError)).

use std::error::Error as StdError;
use std::fmt;

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What kind of thing went wrong: enough to decide what to do, not to parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something was configured in a way that cannot work. Fix the program or its settings.
    Config,
    /// The database's schema is missing, behind this program, ahead of it, or was changed; or a lane's
    /// packed markers were made with another digest key than the one that the database has now.
    Migration,
    /// The database could not be reached, or refused the credentials.
    Connection,
    /// The database answered with an error.
    Store,
    /// The database or the connection failed in a way that passes by itself: a deadlock, a lock
    /// timeout, a serialization failure, a lost connection, an exhausted pool.
    Transient,
    /// A commit was sent and its answer never arrived: it may or may not have happened. Claiming
    /// the key again tells.
    UnknownCommit,
    /// The key is missing or empty, or not text that every store can keep.
    Key,
    /// The payload did not decode.
    Decode,
    /// The handler returned an error or panicked.
    Handler,
    /// An event failed for good, and its handler says that this stops the lane.
    Stopped,
    /// The key's event was given up on: it is a dead letter, or waits behind one.
    GivenUp,
    /// An attempt with effects outside of the database was begun, and its end is not known.
    UnknownEnd,
    /// The handler ended or broke the transaction it was lent. That is a bug in the handler;
    /// nothing of the attempt was kept.
    HandlerBroke,
    /// A scope cannot be used in this way. At start: it belongs to another group, or has packed markers in
    /// another group's lanes; it seems renamed; its markers are kept in another way than the handler asks
    /// for; or it was retired, and what it had packed is being deleted. While running: it was retired by
    /// another release, and what it had packed is deleted. Without Kafka: its markers are packed. And when
    /// a group's name is one that Kafka takes for another group's.
    Scope,
    /// The log in Kafka is not the one the position was taken from, or lost a part of it.
    Log,
    /// The number of partitions, or of slices, is another one than when packed markers were written.
    LayoutChanged,
    /// The database lost what Kafka's commit says it had.
    DatabaseLost,
    /// Kafka refused or failed a request.
    Kafka,
    /// Another owner holds the lane.
    Fenced,
    /// The schema registry is away, or answers something else.
    SchemaRegistry,
}

/// An error of idem.
///
/// Messages are lower-case and name scope, topic, partition and offset where there are any; they do
/// not repeat their source, which [`source`](StdError::source) gives.
///
/// ```
/// use idem_runtime::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Config, "topic `orders` has no handler");
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

/// A result of idem.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind with this message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// The same error, caused by `source`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error, with `context` (what was being done) before its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Transient
                | ErrorKind::UnknownCommit
                | ErrorKind::Connection
                | ErrorKind::Kafka
                | ErrorKind::Handler
                | ErrorKind::SchemaRegistry
        )
    }

    /// The message and those of all its sources, in one line, for a log.
    ///
    /// ```
    /// use idem_runtime::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Store, "claim failed").with_source("disk full");
    /// assert_eq!(error.report(), "claim failed: disk full");
    /// ```
    pub fn report(&self) -> String {
        report(self)
    }
}

/// `error` and its sources in one line.
pub(crate) fn report(error: &(dyn StdError + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Many libraries repeat their source in their own message; once is enough.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = error.source();
    }
    line
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `fn main() -> Result<(), Error>` prints this: it must read like a sentence.
        write!(f, "{} ({:?})", self.report(), self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_each_source_once() {
        let inner = Error::new(ErrorKind::Store, "disk full");
        let outer = Error::new(ErrorKind::Store, "claim failed: disk full").with_source(inner);
        assert_eq!(outer.report(), "claim failed: disk full");
    }
}
