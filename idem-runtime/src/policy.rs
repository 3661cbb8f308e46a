//! What a handler asks for beside its key: how it is tried again, what becomes of an event that it
//! cannot finish, and the terms of its transaction.

use std::time::Duration;

use crate::backoff;
use crate::effects::UnknownEnd;

/// How a failed event is tried again.
///
/// The pauses double from the first to the longest. While an event waits, its lane waits with it,
/// so that order is kept; other lanes go on, and the consumer stays in its group.
///
/// ```
/// use std::time::Duration;
/// use idem_runtime::Retry;
///
/// let retry = Retry::new().max(5).backoff(Duration::from_millis(200), Duration::from_secs(30));
/// assert_eq!(retry.attempts(), Some(5));
/// assert_eq!(Retry::forever().attempts(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    max: Option<u32>,
    first: Duration,
    longest: Duration,
    jitter: bool,
    total: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

impl Retry {
    /// 10 attempts, with pauses from 200 ms to 30 s and jitter: a little over a minute in all.
    pub const fn new() -> Self {
        Self {
            max: Some(10),
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            jitter: true,
            total: None,
        }
    }

    /// Attempts without an end: a failing event holds its lane until it succeeds.
    pub const fn forever() -> Self {
        Self { max: None, ..Self::new() }
    }

    /// No second attempt.
    pub const fn never() -> Self {
        Self { max: Some(1), ..Self::new() }
    }

    /// How many attempts there are at most, the first included; at least one.
    #[must_use]
    pub const fn max(mut self, attempts: u32) -> Self {
        self.max = Some(if attempts == 0 { 1 } else { attempts });
        self
    }

    /// The first and the longest pause.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = if longest.as_nanos() < first.as_nanos() { first } else { longest };
        self
    }

    /// Whether each pause is shortened at random by up to a half, so that many lanes that failed
    /// together do not come back together. On unless turned off.
    #[must_use]
    pub const fn jitter(mut self, yes: bool) -> Self {
        self.jitter = yes;
        self
    }

    /// No attempt begins later than this after the first failure.
    #[must_use]
    pub const fn total(mut self, time: Duration) -> Self {
        self.total = Some(time);
        self
    }

    /// How many attempts there are at most; `None` when there is no end.
    pub const fn attempts(&self) -> Option<u32> {
        self.max
    }

    /// The pause after so many failures.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let full = backoff::growing(self.first, self.longest, failures.saturating_sub(1));
        if self.jitter { backoff::shortened(full) } else { full }
    }

    /// Whether another attempt may begin after this pause, `failures` attempts having failed and the
    /// first of them `since` ago.
    pub(crate) fn allows(&self, failures: u32, since: Duration, pause: Duration) -> bool {
        self.max.is_none_or(|max| failures < max)
            && self.total.is_none_or(|total| since.saturating_add(pause) <= total)
    }
}

/// What becomes of an event that failed for good: its attempts are used up, or its error is a
/// permanent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// It is written to the dead letters, in the transaction that also marks it, and the lane goes
    /// on.
    #[default]
    DeadLetter,
    /// As a dead letter, and later events of the same message key wait behind it, in their order,
    /// while other keys go on. They are worked when the dead letter was replayed or dropped. An
    /// event without a message key becomes a dead letter and holds up nobody.
    ParkKey {
        /// How many events can wait behind one key. At the bound nothing is dropped: the lane waits
        /// and says so, until the key was released.
        limit: u32,
    },
    /// The lane stops and says so. It starts again with the process, at this event.
    Stop,
}

impl OnFailure {
    /// [`ParkKey`](Self::ParkKey) with room for 1000 events behind each key.
    pub const PARK_KEY: Self = Self::ParkKey { limit: 1000 };
}

/// What becomes of an event whose key is missing: a field is `None`, a header, message key or payload
/// is absent, or one of them is empty. Not of one whose key is malformed.
///
/// A handler that does not say gives such an event up, as [`OnFailure`] says of one that failed for
/// good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissingKey {
    /// It is written to the dead letters, and the lane goes on.
    DeadLetter,
    /// The lane stops and says so.
    Stop,
    /// It is worked without a marker: nothing keeps it from being worked again when it is delivered
    /// again. [`Context::key`](crate::Context::key) is its place then. Not for a handler with effects
    /// outside of the database, whose attempts are written down in markers.
    ProcessWithoutGuarantee,
    /// Its key is the hash of what it says.
    ContentHash,
}

/// What becomes of an event that comes with another payload than the one its key was processed with:
/// somebody gave one key to two events, and the second would be swallowed as a duplicate.
///
/// What is compared is the content (of JSON: not the order of its fields, nor white space), by a
/// fingerprint beside the marker. A handler that asks for this pays for the hash of each payload, and
/// for a look at the markers of duplicates.
///
/// It is for what a lane is given. A call without Kafka ([`Processor`](crate::Processor)) has an event and
/// no payload: it neither compares one nor leaves a fingerprint to be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadCheck {
    /// It is a duplicate; it is counted, and a warning names both events.
    Warn,
    /// It is written to the dead letters.
    DeadLetter,
    /// The lane stops before it and says so.
    Stop,
}

/// What a transaction sees of others.
///
/// A level above the default turns every concurrent change of what it read, and every concurrent
/// duplicate, into a serialization failure. Those are tried again by themselves and counted, not
/// as attempts of an event; but what is tried again is a whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// Each statement sees what was committed before it.
    #[default]
    ReadCommitted,
    /// All statements see what was committed before the first.
    RepeatableRead,
    /// As if the transactions had run one after the other.
    Serializable,
}

/// How a handler's markers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Markers {
    /// A row for each key: finds a duplicate wherever it comes from.
    #[default]
    Rows,
    /// The digests of a batch's keys in one row, and a window of them in memory: finds a duplicate in
    /// the same partition of the topic, at a tenth of the price.
    Packed,
}

/// How long packed markers are kept: a marker is forgotten when it is older than this time, or when
/// so many are newer in its partition, whichever comes first; but none whose event Kafka could still
/// deliver, unless the group says what becomes of a delivery that is [stale](crate::Stale).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Window {
    /// For how long.
    pub time: Duration,
    /// How many, for each partition (or slice of one).
    pub events: Option<u64>,
}

impl Window {
    /// Seven days, however many.
    pub const DEFAULT: Self = Self::time(Duration::from_secs(7 * 24 * 60 * 60));

    /// For so long.
    pub const fn time(time: Duration) -> Self {
        Self { time, events: None }
    }

    /// And at most so many for each partition (or slice of one).
    #[must_use]
    pub const fn events(mut self, events: u64) -> Self {
        self.events = Some(events);
        self
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a handler's attribute says of failure, time and order. What it does not say comes from its
/// group, and then from the defaults.
///
/// ```
/// use std::time::Duration;
/// use idem_runtime::{OnFailure, Policy, Retry};
///
/// const POLICY: Policy = Policy::new()
///     .retry(Retry::new().max(5))
///     .on_failure(OnFailure::PARK_KEY)
///     .timeout(Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Policy {
    /// How a failed event is tried again.
    pub retry: Option<Retry>,
    /// What becomes of an event that failed for good.
    pub on_failure: Option<OnFailure>,
    /// What the handler's transaction sees of others. Handlers of one group share a transaction,
    /// which has the highest level that one of them asks for.
    pub isolation: Option<IsolationLevel>,
    /// How long one call of the handler may take.
    pub timeout: Option<Duration>,
    /// Into how many slices a partition is divided by a hash of the message key, each worked in
    /// order beside the others. A group has the highest number that one of its handlers asks for.
    pub slices: Option<u16>,
    /// What becomes of an event whose key is missing.
    pub missing_key: Option<MissingKey>,
    /// Whether payloads under one key are compared, and what becomes of one that differs.
    pub payload_check: Option<PayloadCheck>,
    /// That the handler's effects are outside of the database, and what is done with an attempt whose
    /// end is not known. Each event is a transaction of its own then, and another one that writes down
    /// that it is begun.
    pub unknown_end: Option<UnknownEnd>,
    /// How its markers are kept.
    pub markers: Option<Markers>,
    /// How long packed markers are kept.
    pub window: Option<Window>,
}

impl Policy {
    /// Says nothing.
    pub const fn new() -> Self {
        Self {
            retry: None,
            on_failure: None,
            isolation: None,
            timeout: None,
            slices: None,
            missing_key: None,
            payload_check: None,
            unknown_end: None,
            markers: None,
            window: None,
        }
    }

    /// Says how a failed event is tried again.
    #[must_use]
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Says what becomes of an event that failed for good.
    #[must_use]
    pub const fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// Says what the transaction sees of others.
    #[must_use]
    pub const fn isolation(mut self, level: IsolationLevel) -> Self {
        self.isolation = Some(level);
        self
    }

    /// Says how long one call of the handler may take: of a batch handler, one call for many
    /// events. It is a failure of the event, and the transaction is rolled back.
    #[must_use]
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// Says into how many slices a partition is divided.
    #[must_use]
    pub const fn slices(mut self, slices: u16) -> Self {
        self.slices = Some(slices);
        self
    }

    /// Says what becomes of an event whose key is missing.
    #[must_use]
    pub const fn missing_key(mut self, missing_key: MissingKey) -> Self {
        self.missing_key = Some(missing_key);
        self
    }

    /// Says what becomes of an event whose key belongs to another payload.
    #[must_use]
    pub const fn payload_check(mut self, check: PayloadCheck) -> Self {
        self.payload_check = Some(check);
        self
    }

    /// Says that the handler's effects are outside of the database, and what is done with an attempt
    /// whose end is not known.
    #[must_use]
    pub const fn unknown_end(mut self, unknown: UnknownEnd) -> Self {
        self.unknown_end = Some(unknown);
        self
    }

    /// Says how its markers are kept.
    #[must_use]
    pub const fn markers(mut self, markers: Markers) -> Self {
        self.markers = Some(markers);
        self
    }

    /// Says how long packed markers are kept.
    #[must_use]
    pub const fn window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// What two of its words make of each other that cannot be, if they do.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let unmarked = self.missing_key == Some(MissingKey::ProcessWithoutGuarantee);
        (unmarked && self.unknown_end.is_some()).then_some(
            "has effects outside of the database, and processes events without a key \
             (`missing_key`): an attempt is written down in the marker of its key, so that nobody would \
             know that such an event's effect may have happened; choose a dead letter, stop or a content \
             hash",
        )
    }

    /// This, and where it is silent, `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            retry: self.retry.or(other.retry),
            on_failure: self.on_failure.or(other.on_failure),
            isolation: self.isolation.or(other.isolation),
            timeout: self.timeout.or(other.timeout),
            slices: self.slices.or(other.slices),
            missing_key: self.missing_key.or(other.missing_key),
            payload_check: self.payload_check.or(other.payload_check),
            unknown_end: self.unknown_end.or(other.unknown_end),
            markers: self.markers.or(other.markers),
            window: self.window.or(other.window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn attempts_end_at_the_maximum() {
        let retry = Retry::new().max(3);
        assert!(retry.allows(2, SECOND, SECOND));
        assert!(!retry.allows(3, SECOND, SECOND));
        assert!(!Retry::never().allows(1, Duration::ZERO, Duration::ZERO));
        assert!(Retry::forever().allows(u32::MAX, SECOND * 1_000_000, SECOND));
    }

    #[test]
    fn no_attempt_begins_after_the_total_time() {
        let retry = Retry::forever().total(SECOND * 10);
        assert!(retry.allows(1, SECOND * 8, SECOND * 2));
        assert!(!retry.allows(1, SECOND * 8, SECOND * 3));
    }

    #[test]
    fn the_attribute_comes_before_the_group() {
        let attribute = Policy::new().on_failure(OnFailure::Stop);
        let group = Policy::new().on_failure(OnFailure::PARK_KEY).timeout(SECOND);
        let both = attribute.or(group);
        assert_eq!(both.on_failure, Some(OnFailure::Stop));
        assert_eq!(both.timeout, Some(SECOND));
    }
}
