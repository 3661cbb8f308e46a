//! Effects outside of the database: a payment, a mail, a call of another service.
//!
//! No transaction holds them together with their marker. What can be had instead is to write down that
//! an attempt is begun, before it begins: then it is known afterwards which attempts have an end that
//! nobody knows, and there is somebody to decide what that means.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::key::Key;
use crate::state::{State, States};

/// What is done with an attempt whose end is not known: its process died, its handler took too long or
/// panicked, or the database could not be told that it succeeded.
///
/// An attempt whose handler returned an error has a known end: it failed, and is tried again as the
/// handler's [`Retry`](crate::Retry) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnknownEnd {
    /// The handler is run again. The effect happens at least once: give the remote service the key, so
    /// that it can tell.
    Retry,
    /// The same, but not sooner than this after the attempt was begun: when the remote side has
    /// finished, or given up, by then. The lane waits meanwhile.
    RetryAfter(Duration),
    /// The handler is not run again: the event is given up on, with the class
    /// [`UnknownEnd`](crate::FailureClass::UnknownEnd), and a person finds out. The effect happens at
    /// most once.
    Never,
    /// The handler's probe function finds out, by asking the remote side. The effect happens exactly
    /// once, if the probe tells the truth.
    Probe,
}

/// What a probe found out about an attempt whose end was not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Probed {
    /// The effect has happened: the event is marked as processed, and the handler is not run. What it
    /// would have written through its transaction is not written.
    Done,
    /// The effect has not happened, and will not happen any more: the handler is run again.
    NotDone,
    /// Nobody can tell: the event is given up on.
    Unknown,
}

/// An attempt that was begun and whose end is not known: what a probe is told.
#[derive(Clone)]
pub struct Begun {
    scope: &'static str,
    key: Key,
    at: SystemTime,
    states: States,
}

impl Begun {
    pub(crate) fn new(scope: &'static str, key: Key, at: SystemTime, states: States) -> Self {
        Self { scope, key, at, states }
    }

    /// The handler's scope.
    pub fn scope(&self) -> &str {
        self.scope
    }

    /// The key: what the remote service was given, if it understands one.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// When it was begun, by the database's clock.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// A value that was given with `.state(..)`, such as the client of the remote service.
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        self.states.get::<T>()
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, key, at, states: _ } = self;
        f.debug_struct("Begun")
            .field("scope", scope)
            .field("key", key)
            .field("at", at)
            .finish_non_exhaustive()
    }
}

/// What follows from an attempt that was found begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Begin another one.
    Again,
    /// Wait so long, and look again.
    Wait(Duration),
    /// Give up on the event.
    GiveUp,
    /// Ask the probe.
    Ask,
}

impl UnknownEnd {
    /// What follows for an attempt of this age; `None` when a clock was set back.
    pub(crate) fn verdict(self, age: Option<Duration>) -> Verdict {
        match self {
            Self::Retry => Verdict::Again,
            Self::RetryAfter(after) => match after.checked_sub(age.unwrap_or_default()) {
                Some(rest) if !rest.is_zero() => Verdict::Wait(rest),
                _ => Verdict::Again,
            },
            Self::Never => Verdict::GiveUp,
            Self::Probe => Verdict::Ask,
        }
    }
}

/// What is said of an attempt whose end is not known.
pub(crate) const UNKNOWN: &str =
    "an attempt with effects outside of the database was begun, and its end is not known";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_tried_again_when_it_is_old_enough() {
        let minute = Duration::from_secs(60);
        let after = UnknownEnd::RetryAfter(minute);
        assert_eq!(after.verdict(Some(minute / 3)), Verdict::Wait(minute * 2 / 3));
        assert_eq!(after.verdict(Some(minute)), Verdict::Again);
        assert_eq!(after.verdict(None), Verdict::Wait(minute));
        assert_eq!(UnknownEnd::Retry.verdict(None), Verdict::Again);
        assert_eq!(UnknownEnd::Never.verdict(Some(minute)), Verdict::GiveUp);
    }
}
