//! The lane: an ordered stream of events and the one row that keeps its promises.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// Which lane: a partition of a topic as one group reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The consumer group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}, partition {} (group {})", self.topic, self.partition, self.group)
    }
}

/// A place in a log: the next offset to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next offset.
    pub offset: i64,
    /// The leader epoch of the event before it, if known: a log that does not know the epoch is
    /// not the log the position was taken from.
    pub leader_epoch: Option<i32>,
}

impl Position {
    /// A position whose leader epoch is not known.
    pub const fn at(offset: i64) -> Self {
        Self { offset, leader_epoch: None }
    }
}

/// Which log in Kafka: a topic that is deleted and created again is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster's id, if the broker tells.
    pub cluster_id: Option<String>,
    /// The topic's id, if the broker tells.
    pub topic_id: Option<String>,
}

impl LogIdentity {
    /// This identity, with what it does not know from `before`.
    pub(crate) fn or(&self, before: &Self) -> Self {
        Self {
            cluster_id: self.cluster_id.clone().or_else(|| before.cluster_id.clone()),
            topic_id: self.topic_id.clone().or_else(|| before.topic_id.clone()),
        }
    }

    /// What is different in `now`, or `None`. An id that one side does not know is not compared.
    pub fn difference(&self, now: &Self) -> Option<String> {
        let differ = |what: &str, was: &Option<String>, is: &Option<String>| match (was, is) {
            (Some(was), Some(is)) if was != is => Some(format!("{what} {was} is now {is}")),
            _ => None,
        };
        differ("the topic's id", &self.topic_id, &now.topic_id)
            .or_else(|| differ("the cluster's id", &self.cluster_id, &now.cluster_id))
    }
}

/// Which process holds lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The number of this run of the process.
    pub id: Uuid,
    /// A name for people: the instance's, or the host's with the process id.
    pub name: String,
    /// How old the last heartbeat of a former owner is when it is taken for dead. One that has this
    /// name is dead: its successor is here.
    pub dead_after: Duration,
}

/// A lane's row as the database has it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LaneRow {
    /// Which lane.
    pub id: LaneId,
    /// Its number in the database.
    pub number: i64,
    /// The next offset.
    pub position: Position,
    /// The fence: random for each acquisition. Nil when nobody took the lane yet.
    pub token: Uuid,
    /// Its revision: one more with every change.
    pub revision: i64,
    /// Deliveries below it are stale: their markers may be forgotten.
    pub floor: i64,
    /// What lies below it was handled before the position was moved back, in this log.
    pub handled_to: i64,
    /// The log the position belongs to.
    pub identity: LogIdentity,
    /// For each scope in offset mode: the next offset it has not handled.
    pub offset_marks: HashMap<String, i64>,
    /// How many owners in a row died holding the lane, without progress in between.
    pub deaths: u32,
    /// What is known of attempts at events that are not done.
    pub attempts: Vec<AttemptRow>,
    /// Message keys behind which events wait, each with its scope.
    pub parked: Vec<(String, Vec<u8>)>,
}

/// What is known of the attempts at one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Of which handler; empty for the event as a whole.
    pub scope: String,
    /// The event.
    pub offset: i64,
    /// How many attempts failed.
    pub failures: u32,
    /// When the first of them did.
    pub first_failed_at: SystemTime,
    /// Whether an attempt was begun, with the event alone in flight in its process, and its end was
    /// not recorded.
    pub open: bool,
    /// How many owners died with such an attempt open.
    pub deaths: u32,
}

/// Which part of a lane, by a hash of the message key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Which one, from 0.
    pub index: u16,
    /// Of how many.
    pub of: u16,
}

impl LaneRow {
    /// A row with this number, at revision 0 and nobody's.
    pub fn new(id: LaneId, number: i64, position: Position, identity: LogIdentity) -> Self {
        Self {
            id,
            number,
            position,
            token: Uuid::nil(),
            revision: 0,
            floor: 0,
            handled_to: 0,
            identity,
            offset_marks: HashMap::new(),
            deaths: 0,
            attempts: Vec::new(),
            parked: Vec::new(),
        }
    }

    /// Up to where events were handled, whether the position was moved back since or not: a log that ends
    /// before that gives those offsets to others.
    pub(crate) fn reach(&self) -> i64 {
        let marks = self.offset_marks.values().copied();
        marks.chain([self.handled_to, self.position.offset]).max().unwrap_or_default()
    }

    /// The lane as its owner knows it.
    pub fn held(&self) -> Held {
        Held {
            id: self.id.clone(),
            number: self.number,
            token: self.token,
            revision: self.revision,
            position: self.position,
            slice: None,
        }
    }
}

/// A lane as its owner knows it. Changes only after a confirmed commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Which lane.
    pub id: LaneId,
    /// Its number in the database.
    pub number: i64,
    /// The owner's token.
    pub token: Uuid,
    /// The revision the owner expects.
    pub revision: i64,
    /// The next offset.
    pub position: Position,
    /// The slice, of which revision and position are then; the token is the lane's.
    pub slice: Option<Slice>,
}

/// What a look at a lane's row found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The lane's number.
    pub number: i64,
    /// Its token.
    pub token: Uuid,
    /// Its revision, and those of its slices added to it.
    pub revision: i64,
}

/// How a lane's row stands to what its owner knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As expected.
    Held,
    /// Another owner took the lane.
    Fenced,
    /// A commit whose end was unknown had landed.
    Ahead,
    /// The database went back to an earlier state.
    WentBack,
    /// The row is gone.
    Gone,
}

impl Held {
    /// Compares what the owner knows with the row.
    pub fn standing(&self, row: Option<(Uuid, i64)>) -> Standing {
        match row {
            None => Standing::Gone,
            Some((token, _)) if token != self.token => Standing::Fenced,
            Some((_, revision)) if revision > self.revision => Standing::Ahead,
            Some((_, revision)) if revision < self.revision => Standing::WentBack,
            Some(_) => Standing::Held,
        }
    }
}
