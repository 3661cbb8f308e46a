//! Counters of a run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of what happened, for a report and for tests.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) delivered: AtomicU64,
    pub(crate) processed: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) unmarked: AtomicU64,
    pub(crate) key_reused: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) parked: AtomicU64,
    pub(crate) released: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) fenced: AtomicU64,
    pub(crate) went_back: AtomicU64,
    pub(crate) rewinds: AtomicU64,
    pub(crate) unmatched: AtomicU64,
}

/// What happened since the start, summed over all lanes of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events that were worked to a confirmed commit. One read again counts again.
    pub delivered: u64,
    /// Handler runs whose effects are committed.
    pub processed: u64,
    /// Events, per handler, that had been processed before.
    pub duplicates: u64,
    /// Events, per handler, below the floor of a window of packed markers that passed, as their group
    /// says.
    pub stale: u64,
    /// Those of [`processed`](Self::processed) whose event has no key and whose handler asks for
    /// `process_without_guarantee`: delivered again, they are processed again.
    pub unmarked: u64,
    /// Events, per handler, that came with another payload than the one their key was processed
    /// with, to handlers that check it.
    pub key_reused: u64,
    /// Handler runs that failed and were tried again.
    pub retried: u64,
    /// Events, per handler, that were given up on and written down as dead letters.
    pub dead_lettered: u64,
    /// Events, per handler, that were parked, or wait behind a parked one.
    pub parked: u64,
    /// Events that had waited behind a parked one and were worked since.
    pub released: u64,
    /// Events that were given up on because their process had died with them time and again.
    pub quarantined: u64,
    /// Transactions that were repeated for a reason that passes by itself: a deadlock, a
    /// serialization failure, a lock timeout, a lost connection.
    pub repeated: u64,
    /// Transactions that were committed.
    pub batches: u64,
    /// How often another owner had taken a lane from under this process.
    pub fenced: u64,
    /// How often the database was found to have gone back to an earlier state.
    pub went_back: u64,
    /// How often an operator's rewind was followed.
    pub rewinds: u64,
    /// Events that no handler of their group wanted, whatever became of them then; one read again
    /// counts again.
    pub unmatched: u64,
}

impl Stats {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            delivered: self.delivered.load(Relaxed),
            processed: self.processed.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            stale: self.stale.load(Relaxed),
            unmarked: self.unmarked.load(Relaxed),
            key_reused: self.key_reused.load(Relaxed),
            retried: self.retried.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            parked: self.parked.load(Relaxed),
            released: self.released.load(Relaxed),
            quarantined: self.quarantined.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
            batches: self.batches.load(Relaxed),
            fenced: self.fenced.load(Relaxed),
            went_back: self.went_back.load(Relaxed),
            rewinds: self.rewinds.load(Relaxed),
            unmatched: self.unmatched.load(Relaxed),
        }
    }
}
