//! What the user decides once for a group: where to start, what to do when a log or the database
//! lost something, sizes and times. What is decided for a handler is in `crate::policy`.

use std::time::Duration;

/// Where a group starts in a topic it has no position in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the oldest event that is there.
    Earliest,
    /// At what is written from now on. Resolved once for all partitions of the topic; a partition
    /// that is added later starts at its beginning.
    ///
    /// In a group with topics by pattern it is resolved once for all topics that are found when the
    /// group begins. One that a pattern finds later starts at its beginning: also when it appeared
    /// while no member ran, and when a later release brought the pattern.
    Latest,
    /// At the offsets that the group committed before it used idem; where there is none, at the
    /// oldest event.
    Committed,
}

/// What to do when Kafka's log is not the one the position was taken from: the topic was created
/// again, retention deleted events that were not read, the log lost its tail, or the cluster is
/// another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LogChanged {
    /// Stop the lane with an error that names the gap.
    #[default]
    Stop,
    /// Start again at the oldest event that is there, and say so. Keys that were processed before are
    /// duplicates; a handler with `key = offset` has no keys, and after a lost tail or in a new log it
    /// does everything that is there.
    Earliest,
}

/// What to do when Kafka's commit says that this database had a position, and it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DatabaseLost {
    /// Stop the lane with an error that says so.
    #[default]
    Refuse,
    /// Start there. Markers that the database lost with the position cannot find duplicates.
    StartAt(Start),
}

/// What to do when a topic has another number of partitions than when packed markers were written, or
/// a lane another number of slices: a key may be elsewhere now than where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LayoutChanged {
    /// Stop the lane with an error that explains it.
    #[default]
    Stop,
    /// Also ask for what was seen in all partitions, or slices, of before, until it has aged out: in the
    /// database, so that it need not fit into memory. The first to do so writes 16 bytes for each digest.
    /// If events with one key wait in two partitions at the time of the change, both are worked.
    Widen,
}

/// What becomes of an event whose packed marker may have been forgotten already: it lies below the
/// window's floor, and comes again because somebody went back that far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stale {
    /// Stop the lane before it.
    Stop,
    /// A dead letter of the class `stale`.
    DeadLetter,
    /// It is counted and passes.
    Skip,
}

/// What a group was told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policies {
    pub(crate) start: Option<Start>,
    pub(crate) log_changed: LogChanged,
    pub(crate) database_lost: DatabaseLost,
    pub(crate) layout_changed: LayoutChanged,
    /// Also says that packed markers may be forgotten whose events Kafka could still deliver.
    pub(crate) stale: Option<Stale>,
}

/// How much of the packed markers is done at once. Tests have less of them, and the same happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portions {
    /// Rows with fewer digests are joined,
    pub(crate) small: u32,
    /// when there are so many of them,
    pub(crate) many: usize,
    /// to rows of about so many digests: of at least two rows, so more than `small`.
    pub(crate) joined: u64,
    /// A run is written of so many digests at least.
    pub(crate) least: u64,
    /// A run gets no further row when it has so many digests.
    pub(crate) run: u64,
    /// How many rows are loaded at once.
    pub(crate) page: u32,
    /// Runs of one size are merged when there are so many of them,
    pub(crate) runs: usize,
    /// into one that has at most so many digests,
    pub(crate) merged: u64,
    /// and of all that the window has in runs at most this part: digests that are out of date are known
    /// for as long as the youngest of their run.
    pub(crate) part: u64,
    /// How many digests are merged before the windows are tended to again.
    pub(crate) step: u64,
    /// So many digests more than rows have stay in memory when rows were forgotten by their count.
    pub(crate) spare: u64,
}

impl Default for Portions {
    fn default() -> Self {
        Self {
            small: 512,
            many: 32,
            joined: 4096,
            least: 1 << 18,
            run: 1 << 20,
            page: 128,
            runs: 8,
            // A filter of 40 MB, and twenty times as much as is written as one run.
            merged: 20_000_000,
            part: 4,
            step: 1 << 20,
            spare: 1 << 16,
        }
    }
}

/// Sizes and times of a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneSettings {
    /// The most events in one transaction.
    pub(crate) max_batch: usize,
    /// How long a batch that is not full waits for more.
    pub(crate) linger: Duration,
    /// How many processes an event may kill before it is given up on.
    pub(crate) quarantine_after: u32,
    /// How often a lane with parked keys looks whether one was released.
    pub(crate) release_interval: Duration,
    /// How often packed markers are tended to: small rows joined, old ones forgotten.
    pub(crate) tend_interval: Duration,
    pub(crate) portions: Portions,
    pub(crate) policies: Policies,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self {
            max_batch: 1000,
            linger: Duration::ZERO,
            quarantine_after: 3,
            release_interval: Duration::from_secs(1),
            tend_interval: Duration::from_secs(10),
            portions: Portions::default(),
            policies: Policies::default(),
        }
    }
}
