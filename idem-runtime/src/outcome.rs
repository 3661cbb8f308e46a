//! How an event ended.

/// How an event ended for the caller of `process`.
///
/// ```
/// use idem_runtime::Outcome;
///
/// let outcome = Outcome::Processed("receipt 7");
/// assert!(outcome.is_processed());
/// assert_eq!(outcome.value(), Some("receipt 7"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use = "a duplicate is not an error, but the caller usually wants to know"]
pub enum Outcome<T = ()> {
    /// The handler ran and its effects are committed.
    Processed(T),
    /// The key was processed before; the handler did not run. Holds what the first run returned,
    /// where that is kept.
    Duplicate(Option<T>),
}

impl<T> Outcome<T> {
    /// Whether the effects were made by this call.
    pub fn is_processed(&self) -> bool {
        matches!(self, Self::Processed(_))
    }

    /// Whether the key had been processed before.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate(_))
    }

    /// What the handler returned, by this call or by the first one where that is kept.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Processed(value) => Some(value),
            Self::Duplicate(value) => value,
        }
    }
}

/// What became of one event for one scope in one attempt. Logged at debug level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// The handler ran and its effects are committed.
    Processed,
    /// The key was processed before; the handler did not run.
    Duplicate,
    /// It lies below the floor of a window: whether it was processed is not known any more, and it
    /// passes, as its group says.
    Stale,
    /// The handler failed; the event will be tried again.
    Retried,
    /// It was given up on and is a dead letter, in the transaction that marks it. Or it arrived
    /// under the key of a dead letter with another payload, and is kept beside that one.
    DeadLettered,
    /// It was given up on and holds its message key, or waits behind one that does.
    Parked,
}

impl Decision {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::Retried => "retried",
            Self::DeadLettered => "dead_lettered",
            Self::Parked => "parked",
        }
    }
}
