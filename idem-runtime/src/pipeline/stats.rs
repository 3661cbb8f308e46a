//! Counters of a run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::packed::Budget;

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
    pub(crate) packed_asked: AtomicU64,
    pub(crate) packed_found: AtomicU64,
    pub(crate) packed_rows_joined: AtomicU64,
    pub(crate) packed_rows_forgotten: AtomicU64,
    pub(crate) packed_runs_written: AtomicU64,
}

/// What happened since the start, summed over all lanes of this process; and what packed markers have
/// in memory now. When the run has ended, that is nothing.
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
    /// Digests of packed markers that are in memory now, of all lanes of this process.
    pub packed_digests: u64,
    /// Runs of packed markers that are asked now, because their digests are not in memory: those of
    /// this process's lanes and those of a former layout, each once.
    pub packed_runs: u64,
    /// Those of [`packed_runs`](Self::packed_runs) without a filter in memory, for which there is no
    /// room: each new key is asked for in each of them. More `packed_memory` makes that cheaper.
    pub packed_runs_unfiltered: u64,
    /// Bytes of `packed_memory` that are used now, by digests and filters. What must be in memory is
    /// there also beyond the limit.
    pub packed_bytes: u64,
    /// `packed_memory`, in bytes.
    pub packed_bytes_limit: u64,
    /// Keys that were asked for in runs, in the database. One that is tried again counts again.
    pub packed_asked: u64,
    /// Those of [`packed_asked`](Self::packed_asked) that were in one. The others were false positives of
    /// a filter, or met a run without one.
    pub packed_found: u64,
    /// Rows of packed markers that were joined with others to a larger one.
    pub packed_rows_joined: u64,
    /// Rows of packed markers that were forgotten because they are out of date.
    pub packed_rows_forgotten: u64,
    /// Runs of packed markers that were written: because there was not memory enough, for a former
    /// layout, or in the place of others that were merged.
    pub packed_runs_written: u64,
}

impl Stats {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    /// What happened, and what packed markers have in memory.
    pub(crate) fn counts(&self, memory: &Budget) -> Counts {
        let now = memory.measure();
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
            packed_digests: now.digests,
            packed_runs: now.runs.len() as u64,
            packed_runs_unfiltered: now.runs.values().filter(|has_filter| !**has_filter).count()
                as u64,
            packed_bytes: memory.used() as u64,
            packed_bytes_limit: memory.limit() as u64,
            packed_asked: self.packed_asked.load(Relaxed),
            packed_found: self.packed_found.load(Relaxed),
            packed_rows_joined: self.packed_rows_joined.load(Relaxed),
            packed_rows_forgotten: self.packed_rows_forgotten.load(Relaxed),
            packed_runs_written: self.packed_runs_written.load(Relaxed),
        }
    }
}
