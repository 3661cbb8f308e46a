//! The marker: the row that says (scope, key) is processed.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use uuid::Uuid;

/// How a scope's markers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MarkerMode {
    /// A row for each key.
    Rows,
    /// The digests of a batch's keys in one row, and the window of them in the lane's memory.
    Packed,
    /// The lane's position is the marker.
    Offset,
}

impl MarkerMode {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Packed => "packed",
            Self::Offset => "offset",
        }
    }

    /// The mode for the word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "rows" => Some(Self::Rows),
            "packed" => Some(Self::Packed),
            "offset" => Some(Self::Offset),
            _ => None,
        }
    }
}

/// What a marker says of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MarkerState {
    /// Its effects are committed.
    Processed,
    /// It was given up on: there is a dead letter.
    Dead,
    /// It was given up on, or waits behind one of its message key that was.
    Parked,
    /// An attempt with effects outside of the database was begun, and its end is not known.
    Begun,
}

/// The first half of the SHA-256 of a payload's content ([`Key::content`](crate::Key::content)), or of its
/// bytes where it has no single content ([`Key::payload`](crate::Key::payload)); zeros for a tombstone. Tells
/// another payload under the same key.
pub type Fingerprint = [u8; 16];

impl MarkerState {
    /// Whether its event was given up on, or waits.
    pub(crate) const fn is_given_up(self) -> bool {
        matches!(self, Self::Dead | Self::Parked)
    }

    /// The number in the database.
    pub const fn as_i16(self) -> i16 {
        match self {
            Self::Processed => 0,
            Self::Dead => 1,
            Self::Parked => 2,
            Self::Begun => 3,
        }
    }

    /// The state for the number in the database.
    pub const fn from_i16(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::Processed),
            1 => Some(Self::Dead),
            2 => Some(Self::Parked),
            3 => Some(Self::Begun),
            _ => None,
        }
    }
}

/// A marker as the database has it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Marker {
    /// What it says.
    pub state: MarkerState,
    /// When it was written: the time of the transaction, by the database's clock.
    pub processed_at: SystemTime,
    /// How long that was before it was read, by the database's clock; zero if that was set back.
    pub age: Duration,
    /// Which event it was, if it came from Kafka.
    pub origin: Option<Origin>,
    /// What the caller kept beside it.
    pub metadata: Option<Value>,
    /// The call that wrote it, if it was one without Kafka; or the attempt that was begun.
    pub attempt: Option<Uuid>,
    /// What tells another payload under the same key, if the handler checks that.
    pub fingerprint: Option<Fingerprint>,
    /// Which chain of events it belongs to, if the event said so.
    pub correlation_id: Option<String>,
    /// Which event or command it was caused by, if the event said so.
    pub causation_id: Option<String>,
    /// What the handler returned, if its results are stored.
    pub result: Option<Value>,
}

impl Marker {
    /// A marker of a processed event.
    pub fn new(processed_at: SystemTime) -> Self {
        Self {
            state: MarkerState::Processed,
            processed_at,
            age: Duration::ZERO,
            origin: None,
            metadata: None,
            attempt: None,
            fingerprint: None,
            correlation_id: None,
            causation_id: None,
            result: None,
        }
    }
}

/// Where a processed event was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The consumer group that processed it.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}
