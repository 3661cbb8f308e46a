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
/// An attempt that is found begun is first given the time that it can take: the handler's timeout and 10
/// seconds, by the database's clock, and 70 seconds if there is no timeout; but none if it was begun by
/// a former owner of the same lane, which has ended.
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
    /// What follows for an attempt of this age that may go on until it has the age `can_take`.
    pub(crate) fn verdict(self, age: Duration, can_take: Duration) -> Verdict {
        let wait = match self {
            Self::RetryAfter(after) => can_take.max(after),
            _ => can_take,
        };
        let rest = wait.saturating_sub(age);
        match self {
            _ if !rest.is_zero() => Verdict::Wait(rest),
            Self::Retry | Self::RetryAfter(_) => Verdict::Again,
            Self::Never => Verdict::GiveUp,
            Self::Probe => Verdict::Ask,
        }
    }
}

/// What a handler without a timeout is taken to need at most.
const UNBOUNDED: Duration = Duration::from_secs(60);
/// What the database may need before and after a handler is run.
const MARGIN: Duration = Duration::from_secs(10);
/// The shortest pause between two looks at an attempt.
const LOOK: Duration = Duration::from_millis(100);

/// How old an attempt is when it cannot go on any more: longer than a call of its handler may take.
pub(crate) fn can_take(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(UNBOUNDED).saturating_add(MARGIN)
}

/// How long to wait before an attempt of this age is looked at again: as long as it has taken so far,
/// and no longer than the rest.
pub(crate) fn pause(age: Duration, rest: Duration) -> Duration {
    age.max(LOOK).min(rest)
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
        let (after, over) = (UnknownEnd::RetryAfter(minute), Duration::ZERO);
        assert_eq!(after.verdict(minute / 3, over), Verdict::Wait(minute * 2 / 3));
        assert_eq!(after.verdict(minute, over), Verdict::Again);
        assert_eq!(UnknownEnd::Retry.verdict(over, over), Verdict::Again);
        assert_eq!(UnknownEnd::Never.verdict(minute, over), Verdict::GiveUp);
    }

    #[test]
    fn whatever_is_said_of_unknown_ends_an_attempt_is_given_its_time() {
        let second = Duration::from_secs(1);
        let (after, later) = (UnknownEnd::RetryAfter(second), UnknownEnd::RetryAfter(second * 60));
        for unknown in [UnknownEnd::Retry, UnknownEnd::Never, UnknownEnd::Probe, after] {
            assert_eq!(unknown.verdict(second * 9, second * 10), Verdict::Wait(second));
            assert!(!matches!(unknown.verdict(second * 10, second * 10), Verdict::Wait(_)));
        }
        assert_eq!(later.verdict(second * 10, second * 10), Verdict::Wait(second * 50));
        assert!(can_take(Some(second)) > second && can_take(None) > can_take(Some(second)));
    }

    #[test]
    fn an_attempt_is_looked_at_ever_more_seldom() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(Duration::ZERO, second), LOOK);
        assert_eq!(pause(second, second * 9), second);
        assert_eq!(pause(second * 5, second), second);
    }
}
