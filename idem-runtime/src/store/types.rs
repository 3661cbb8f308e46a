//! The words in which the pipeline asks.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::dead_letter::LetterAction;
use crate::error::{Error, ErrorKind};
use crate::event::Headers;
use crate::key::Key;
use crate::lane::{Held, LogIdentity, Position};
use crate::marker::{Fingerprint, MarkerState};
use crate::policy::IsolationLevel;

/// Who writes a transaction.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Writer<'a> {
    /// The owner of a lane.
    Lane(&'a Held),
    /// A call without Kafka. Its number is kept in the marker, so that the caller of a commit with
    /// an unknown end can find out that it was its own.
    Direct {
        /// The number of this call.
        attempt: Uuid,
    },
}

/// A marker to insert.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Whose memory of the key it is.
    pub scope: &'a str,
    /// The key.
    pub key: &'a Key,
    /// The offset of the event, within the lane that writes.
    pub offset: Option<i64>,
    /// What the caller wants to keep beside it.
    pub metadata: Option<&'a Value>,
    /// What tells another payload under the same key.
    pub fingerprint: Option<Fingerprint>,
    /// Which chain of events it belongs to.
    pub correlation: Option<&'a str>,
    /// Which event or command it was caused by.
    pub causation: Option<&'a str>,
    /// The attempt that is begun with it, for [`MarkerState::Begun`].
    pub attempt: Option<Uuid>,
    /// What the marker is to say.
    pub state: MarkerState,
    /// Whether a marker that says dead or parked is taken over, and the key new then. Its origin and
    /// what is beside it stay what they were, but for the fingerprint, which is what is given here, or
    /// none: it is of the payload that is worked now.
    pub reclaim: bool,
    /// Takes over the marker of this attempt, which was begun, and of no other; nothing is inserted
    /// then. The key is new if the marker was there. Its origin and what is beside it stay what they
    /// were, but for metadata and a fingerprint that are given here.
    pub over: Option<Uuid>,
}

impl<'a> Claim<'a> {
    /// A claim of a key that is processed in this transaction.
    pub fn new(scope: &'a str, key: &'a Key) -> Self {
        Self {
            scope,
            key,
            offset: None,
            metadata: None,
            fingerprint: None,
            correlation: None,
            causation: None,
            attempt: None,
            state: MarkerState::Processed,
            reclaim: false,
            over: None,
        }
    }
}

/// The terms of a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// What it sees of others.
    pub isolation: IsolationLevel,
    /// How long a statement in it may run, where the store's own limit is not shorter.
    pub statement_timeout: Option<Duration>,
    /// Whether its handler works outside of the database, so that nothing is heard of it for as long
    /// as that takes.
    pub outside: bool,
}

/// A known key whose event was not processed: it was given up on, or only begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// Dead, parked or begun.
    pub state: MarkerState,
    /// The lane of its event.
    pub lane: Option<i64>,
    /// The offset of its event.
    pub offset: Option<i64>,
}

/// What a person did with a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct Settlement<'a> {
    /// What.
    pub action: LetterAction,
    /// Who.
    pub by: &'a str,
    /// Why, or with what result.
    pub note: Option<&'a str>,
    /// What is put in place, for [`LetterAction::Edited`]. What the event came with is kept.
    pub edit: Option<Edit<'a>>,
}

/// What a person puts in place of parts of an event. What is `None` stays as it is, and that is as it
/// was edited last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Edit<'a> {
    /// The new payload; `None` within is a tombstone.
    pub payload: Option<Option<&'a [u8]>>,
    /// All headers, in place of all there were.
    pub headers: Option<&'a Headers>,
    /// The new message key; `None` within is none. The key by which the event is parked, or waits, or has
    /// been, is the one that it came with: neither is in another line for this. It is undone when the
    /// letter is opened again.
    pub message_key: Option<Option<&'a [u8]>>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claimed {
    /// For each claim, in order: whether the key was new.
    Keys(Vec<bool>),
    /// The lane has another token: nothing was inserted.
    Fenced,
}

/// Where the lane is after a batch.
#[derive(Debug, Clone)]
pub struct Seal<'a> {
    /// The next offset.
    pub position: Position,
    /// Scopes in offset mode, which have handled everything below the position.
    pub offset_scopes: &'a [&'a str],
}

/// The answer to a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// The lane was moved; commit.
    Yes,
    /// The lane's row is not the writer's any more, or the transaction is not the one that was
    /// begun: roll back and read the row, which tells which of the two.
    No,
}

/// Where to move a lane, outside a batch.
#[derive(Debug, Clone)]
pub struct Reposition<'a> {
    /// The next offset.
    pub position: Position,
    /// The identity of the log the position belongs to.
    pub identity: &'a LogIdentity,
    /// Whether offsets are of other events than before, so that what offset mode remembers is void.
    pub new_log: Option<NewLog>,
    /// Only if each of the lane's slices, in order, has at least this revision: a database that
    /// went back has lost what it did. Empty for a lane without slices.
    pub slices: &'a [i64],
}

/// Why a lane's offsets are of other events than before. Its log has the next number from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewLog {
    /// It is another one: Kafka delivers nothing of the one before any more.
    Another,
    /// It lost its tail. What is below this offset is what it was: floors of packed markers hold up to
    /// there.
    Shorter(i64),
}

/// An instance of a group that reads everything in each of its instances.
#[derive(Debug, Clone, Copy)]
pub struct Instance<'a> {
    /// The group as all its instances call it.
    pub broadcast: &'a str,
    /// The consumer group of this instance, which its lanes and scopes belong to.
    pub group: &'a str,
    /// Other instances that were not heard of for longer are forgotten; `None`: none is, now.
    pub forget_after: Option<Duration>,
}

impl Instance<'_> {
    /// The error for a group that is no instance of this broadcast group any more.
    pub fn is_another(&self) -> Error {
        let Self { group, broadcast, .. } = self;
        Error::new(
            ErrorKind::Scope,
            format!(
                "`{group}` is no instance of the group `{broadcast}`: meanwhile another group was \
                 started that is called so. Give one of them another name, or stop this one"
            ),
        )
    }
}

/// The lanes of a topic to create.
#[derive(Debug, Clone)]
pub struct Opening<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The identity of the log.
    pub identity: &'a LogIdentity,
    /// Partitions and where each starts.
    pub lanes: &'a [(i32, Position)],
}

/// What kind of fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It passes by itself, and is not the handler's: a deadlock, a serialization failure, a lock
    /// timeout.
    Transient,
    /// The connection is lost. It passes by itself; but a handler can be what breaks it.
    Lost,
    /// The handler's own, and trying again is of no use: the data is not what the database takes.
    Permanent,
    /// The handler ended or broke its transaction.
    HandlerBroke,
    /// The handler's own.
    Handler,
}
