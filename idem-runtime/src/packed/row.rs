//! Rows of packed markers, as pipeline and store speak of them.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::digest::Digest;
use crate::lane::{LaneId, Slice};
use crate::marker::MarkerMode;

/// How many digests a block of a run has at most: so many fit into a page of a table without being
/// moved out of it.
pub const BLOCK: usize = 112;

/// A window: the packed markers of a scope in a lane, or in a slice of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowId<'a> {
    /// The number of the lane.
    pub lane: i64,
    /// The scope.
    pub scope: &'a str,
    /// The slice, of a lane in slices.
    pub slice: Option<Slice>,
}

/// A row of a batch, to be written in its transaction.
#[derive(Debug, Clone, Copy)]
pub struct NewPack<'a> {
    /// The scope.
    pub scope: &'a str,
    /// How many partitions the topic has.
    pub partitions: i32,
    /// The lowest offset in it.
    pub first_offset: i64,
    /// The highest.
    pub last_offset: i64,
    /// How many digests.
    pub count: u32,
    /// Whether it is for every slice of the lane, and for every lane that widens its windows: it is of
    /// events that were delivered some time ago, perhaps under another layout.
    pub every_slice: bool,
    /// [`Pack::encode`](super::Pack::encode)d.
    pub data: &'a [u8],
}

/// A row as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// Its number in the database.
    pub id: i64,
    /// The number of its lane.
    pub lane: i64,
    /// The slice that wrote it; `None` for a lane without slices, and for one that is for every slice.
    pub slice: Option<Slice>,
    /// Whether it is for every slice: of events that were delivered some time ago.
    pub every_slice: bool,
    /// How many partitions the topic had; 0 when that is of no meaning.
    pub partitions: i32,
    /// Of which log of the lane its offsets are: one more each time that the topic was made anew.
    pub log: i32,
    /// The lowest offset in it.
    pub first_offset: i64,
    /// The highest.
    pub last_offset: i64,
    /// How many digests.
    pub count: u32,
    /// The time of its oldest digest, by the database's clock.
    pub first_at: SystemTime,
    /// The time of its newest.
    pub last_at: SystemTime,
    /// The run that its digests are in, too.
    pub run: Option<i64>,
    /// The digests, encoded.
    pub data: Vec<u8>,
}

/// A row that takes the place of others.
#[derive(Debug, Clone)]
pub struct Repack<'a> {
    /// Everything but its number, which is made by the database, and the run.
    pub row: &'a PackRow,
    /// Its scope.
    pub scope: &'a str,
}

/// What is known of a window as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRow {
    /// The number of the lane's log.
    pub log: i32,
    /// The lowest number of a log of which Kafka may still deliver something. Those up to the lane's own
    /// are what it was before it lost its tail.
    pub first_log: i32,
    /// Digests of offsets below it, in this log, may be forgotten.
    pub floor: i64,
    /// Whether some of them were forgotten though Kafka could still deliver their events.
    pub is_early: bool,
    /// What lies below it in this log was handled before, perhaps before somebody rewound the lane; in one
    /// of its slices at least.
    pub handled_to: i64,
    /// How long ago the scope began to keep its markers in another form than before, if it did.
    pub switched: Option<Duration>,
    /// How long the scope has its packed markers in the window at least, as the last release said that
    /// packed them.
    pub length: Option<Duration>,
    /// The time by the database's clock.
    pub now: SystemTime,
    /// How the scope keeps its markers, if that is recorded. A handler of another release may do otherwise, and
    /// a database that was put back may say what was before.
    pub mode: Option<MarkerMode>,
    /// Whether the scope is retired, and what it had packed is forgotten, or is being so.
    pub is_forgotten: bool,
    /// Which key the lane's digests are made with ([`DigestKey::id`](super::DigestKey::id)), if that is
    /// recorded.
    pub digest_key: Option<[u8; 8]>,
}

/// Below which offset packed markers are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The offset.
    pub offset: i64,
    /// Whether Kafka may still deliver events from below it.
    pub is_early: bool,
}

/// Packed markers of a scope that were written when the topic had another number of partitions, or the
/// lane another number of slices: what is in them can be read here now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Where they were written.
    pub id: LaneId,
    /// How many partitions the topic had.
    pub partitions: i32,
    /// Into how many slices the lane was divided; 0: into none.
    pub slices: u16,
    /// How many digests there are.
    pub count: u64,
    /// The time of the newest.
    pub last_at: SystemTime,
}

/// A run to be written: digests that do not fit into memory, in their order.
#[derive(Debug, Clone, Copy)]
pub struct NewRun<'a> {
    /// Its number, which no other run has, nor had ([`unused`](Self::unused)).
    pub id: i64,
    /// The window.
    pub window: WindowId<'a>,
    /// How many digests.
    pub count: u64,
    /// What tells, in memory, most of the digests that are not in it.
    pub filter: &'a [u8],
    /// The digests, 16 bytes each, ascending and without duplicates.
    pub digests: &'a [u8],
}

impl NewRun<'_> {
    /// A number for a run, made at random: a database that lost its last transactions gives the numbers
    /// of those again, and whoever knew a lost run would take another one for it.
    pub fn unused() -> i64 {
        Uuid::new_v4().as_u128() as i64 & i64::MAX
    }
}

/// A run as the database has it, without its digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number in the database.
    pub id: i64,
    /// How many digests.
    pub count: u64,
    /// Its filter.
    pub filter: Vec<u8>,
}

/// A part of a run that is to take the place of others.
#[derive(Debug, Clone, Copy)]
pub struct RunPart<'a> {
    /// The number of the run, which no other run has, nor had ([`NewRun::unused`]).
    pub id: i64,
    /// The window.
    pub window: WindowId<'a>,
    /// How many digests were written before; with 0 the run begins.
    pub had: u64,
    /// The next digests, 16 bytes each, ascending and without duplicates, and all above those before.
    pub digests: &'a [u8],
}

/// A run that was written in parts, and takes the place of others now.
#[derive(Debug, Clone, Copy)]
pub struct Merged<'a> {
    /// Its number.
    pub id: i64,
    /// The window.
    pub window: WindowId<'a>,
    /// How many digests were written.
    pub count: u64,
    /// What tells, in memory, most of the digests that are not in it.
    pub filter: &'a [u8],
    /// The others, each with how many digests it had when it was read.
    pub of: &'a [(i64, u64)],
}

/// A block of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunBlock {
    /// What it begins at: its first digest, or one that was before that and was forgotten.
    pub from: Digest,
    /// Its digests, 16 bytes each, ascending.
    pub data: Vec<u8>,
}
