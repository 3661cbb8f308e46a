//! What a lane knows of the packed markers of a scope.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::asked::{Asked, RunFilter};
use super::budget::{Budget, Measure, Share};
use super::bytes;
use super::digest::Digest;
use super::filter::{FOLDS, Filter};
use super::pack::{Damaged, Pack};
use super::row::PackRow;
use super::table::Table;

/// About what a digest needs in a table, in bytes.
const DIGEST: usize = 24;

/// What a window says of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It was seen.
    Known,
    /// It was not.
    New,
    /// It may be in a run: the database knows.
    Ask,
}

/// The digests of a lane and scope, or of a slice: those of rows that are in no run, in memory; of the
/// others, and of what was written under a former layout, the filters of their runs; what is for all lanes
/// of the topic; and keys that were given up on, which never age. It changes only after what it is told
/// was committed.
#[derive(Debug)]
pub(crate) struct Window {
    /// The number of the lane's log.
    log: i32,
    eras: Eras,
    table: Table,
    /// Its own.
    runs: Vec<Run>,
    /// Of a former layout.
    foreign: Vec<Asked>,
    /// Of other lanes, and for this one as well.
    elsewhere: HashSet<Digest>,
    forever: HashSet<Digest>,
    /// What `elsewhere` and `forever` have of the budget.
    share: Share,
    /// How much memory its filters would have besides, if none were folded or missing.
    missing: usize,
    seen_to: Option<i64>,
    /// The time of the oldest that was learnt since [`note_learning`](Self::note_learning).
    learnt: Option<SystemTime>,
    budget: Arc<Budget>,
}

/// A run, with its filter if there was memory for it.
#[derive(Debug)]
struct Run {
    id: i64,
    /// How many digests.
    count: u64,
    /// For how many digests its filter was made, which it may not have.
    made_for: u64,
    filter: Option<(Filter, Share)>,
    /// Whether it has none for another reason.
    is_damaged: bool,
}

/// That there is not memory enough for filters of all runs, however often they are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lack {
    /// How many runs are asked for each new key.
    pub(crate) runs: usize,
    /// How many digests the window has, in memory and in runs.
    pub(crate) digests: u64,
    /// How many bytes all windows of the process may have.
    pub(crate) bytes: usize,
    /// How many they would need, so that no filter were folded.
    pub(crate) needed: usize,
}

impl Run {
    fn may_contain(&self, digest: Digest) -> bool {
        self.filter.as_ref().is_none_or(|(filter, _)| filter.may_contain(digest))
    }
}

impl Window {
    /// An empty window in this log of the lane; digests are in it for so long.
    pub(crate) fn new(budget: &Arc<Budget>, log: i32, length: Duration) -> Self {
        budget.enter();
        Self {
            log,
            eras: Eras::new(length),
            table: Table::new(budget),
            runs: Vec::new(),
            foreign: Vec::new(),
            elsewhere: HashSet::new(),
            forever: HashSet::new(),
            share: Share::new(Arc::clone(budget)),
            missing: 0,
            seen_to: None,
            learnt: None,
            budget: Arc::clone(budget),
        }
    }

    /// What is known of a digest.
    #[cfg(test)]
    pub(crate) fn look(&self, digest: Digest) -> Look {
        self.judge(digest, self.table.contains(digest))
    }

    /// The same for many: faster than one at a time.
    pub(crate) fn look_all(&self, digests: &[Digest]) -> Vec<Look> {
        let found = self.table.contains_all(digests);
        digests.iter().zip(found).map(|(digest, found)| self.judge(*digest, found)).collect()
    }

    fn judge(&self, digest: Digest, found: bool) -> Look {
        if found || self.forever.contains(&digest) || self.elsewhere.contains(&digest) {
            Look::Known
        } else if self.ask(digest).next().is_some() {
            Look::Ask
        } else {
            Look::New
        }
    }

    /// Whether this key was given up on, and its marker may still say so.
    pub(crate) fn was_given_up(&self, digest: Digest) -> bool {
        self.forever.contains(&digest)
    }

    /// All runs of its own.
    pub(crate) fn runs(&self) -> Vec<i64> {
        self.runs.iter().map(|run| run.id).collect()
    }

    /// The runs that this digest may be in, and then those of a former layout: those to ask.
    pub(crate) fn ask(&self, digest: Digest) -> impl Iterator<Item = i64> {
        let own = self.runs.iter().filter(move |run| run.may_contain(digest)).map(|run| run.id);
        let foreign = self.foreign.iter().filter(move |run| run.may_contain(digest));
        own.chain(foreign.map(|run| run.id))
    }

    /// From now on these are the runs of a former layout, and no others.
    pub(crate) fn ask_also(&mut self, foreign: Vec<Asked>) {
        self.foreign = foreign;
    }

    /// From now on these digests of other lanes are known here, and no others of them.
    pub(crate) fn know_also(&mut self, elsewhere: HashSet<Digest>) {
        self.elsewhere = elsewhere;
        self.take_share();
    }

    /// The run of a former layout with this number, if it is asked.
    pub(crate) fn asked(&self, id: i64) -> Option<Asked> {
        self.foreign.iter().find(|run| run.id == id).cloned()
    }

    /// These digests, with their offsets, were packed at this time, in the current log.
    pub(crate) fn learn(&mut self, entries: &[(i64, Digest)], time: SystemTime) {
        self.learn_late(entries, time);
        self.seen_to = self.seen_to.max(entries.iter().map(|(offset, _)| *offset).max());
    }

    /// These were delivered some time ago, perhaps in another log, and packed at this time: that says
    /// nothing of how far the lane is.
    pub(crate) fn learn_late(&mut self, entries: &[(i64, Digest)], time: SystemTime) {
        self.learnt = Some(self.learnt.map_or(time, |learnt| learnt.min(time)));
        self.table.insert_all(entries.iter().map(|(_, digest)| *digest), self.eras.of(time));
    }

    /// This key was given up on: it is known until somebody takes the lane again.
    pub(crate) fn learn_forever(&mut self, digest: Digest) {
        self.forever.insert(digest);
        self.take_share();
    }

    fn take_share(&mut self) {
        let slots = self.forever.capacity() + self.elsewhere.capacity();
        // A byte for each slot of the set, of which 7 of 8 can be used.
        self.share.resize(slots * (size_of::<Digest>() + 1) * 8 / 7);
    }

    /// What a row has; whether it is one of this window's own lane and slice, and says how far that is.
    pub(crate) fn load(&mut self, pack: &Pack, row: &PackRow, own: bool) {
        for (time, entries) in pack.by_time(row.last_at) {
            self.table.insert_all(entries.iter().map(|(_, digest)| *digest), self.eras.of(time));
        }
        if own && row.log == self.log && !pack.entries.is_empty() {
            self.seen_to = self.seen_to.max(Some(row.last_offset));
        }
    }

    /// Makes room for so many digests at once: before rows are loaded whose digests were counted.
    /// Not more than the budget has for all windows together.
    pub(crate) fn reserve(&mut self, digests: usize) {
        let digests = self.budget.room_for(digests, DIGEST);
        self.table.reserve(digests);
    }

    /// Forgets digests of before this time, except those that are known for ever. None is forgotten
    /// that was packed at this time or later; some that are up to an era older may stay. Answers how
    /// many were forgotten.
    pub(crate) fn evict_older_than(&mut self, time: SystemTime) -> usize {
        self.table.evict_before(self.eras.of(time))
    }

    /// From now on it is noted what is learnt.
    pub(crate) fn note_learning(&mut self) {
        self.learnt = None;
    }

    /// Forgets digests of before this time, which is that of the oldest row of all that were there after
    /// it was begun to note what is learnt: rows that were not yet may be older, if a clock went back.
    pub(crate) fn evict_unneeded(&mut self, oldest: SystemTime) -> usize {
        self.evict_older_than(self.learnt.map_or(oldest, |learnt| learnt.min(oldest)))
    }

    /// These digests, which are ascending, are in a run from now on: they are forgotten here, unless they
    /// were packed again in a later era than this time's.
    pub(crate) fn evict(&mut self, digests: &[Digest], newest: SystemTime) {
        self.table.evict(digests, self.eras.of(newest));
    }

    /// How long an era is.
    pub(crate) fn era(&self) -> Duration {
        Duration::from_micros(self.eras.granularity.unsigned_abs())
    }

    /// As [`put_run`](Self::put_run), with a filter as it is written.
    #[cfg(test)]
    pub(crate) fn add_run(&mut self, id: i64, filter: &[u8], count: u64) -> Result<(), Damaged> {
        let filter = RunFilter::read(id, filter, count);
        self.put_run(id, filter, count)
    }

    /// A run was written or found, with this filter (read by who did not hold a lock meanwhile), of so
    /// many digests. The filter is kept if the budget allows it; otherwise every digest that is not known
    /// is asked for.
    ///
    /// # Errors
    /// [`Damaged`] when the filter is: the run is added all the same, without it.
    pub(crate) fn put_run(
        &mut self,
        id: i64,
        filter: Result<RunFilter, Damaged>,
        count: u64,
    ) -> Result<(), Damaged> {
        self.drop_run(id);
        let (made_for, filter, result) = match filter {
            Ok(RunFilter(filter)) => (filter.count(), self.fitted(filter), Ok(())),
            Err(damaged) => (count, None, Err(damaged)),
        };
        self.runs.push(Run { id, count, made_for, filter, is_damaged: result.is_err() });
        self.note_missing();
        result
    }

    /// A run without a filter for which there is room meanwhile.
    pub(crate) fn has_room_for(&self) -> Option<i64> {
        let gain = self.gain();
        let fits = |run: &&Run| {
            let bytes = Filter::bytes_of(run.made_for, FOLDS);
            run.filter.is_none() && !run.is_damaged && self.budget.has_room(bytes, gain)
        };
        self.runs.iter().find(fits).map(|run| run.id)
    }

    /// What it lacks, if there is a run without a filter.
    pub(crate) fn lack(&self) -> Option<Lack> {
        let own = self.runs.iter().filter(|run| run.filter.is_none() && !run.is_damaged).count();
        let foreign =
            self.foreign.iter().filter(|run| run.filter.is_none() && run.count > 0).count();
        let of_runs = self.runs.iter().map(|run| run.count);
        let of_runs = of_runs.chain(self.foreign.iter().map(|run| run.count)).sum::<u64>();
        let missing = self.foreign.iter().map(Asked::missing).sum();
        (own + foreign > 0).then(|| Lack {
            runs: own + foreign,
            digests: self.len() as u64 + of_runs,
            bytes: self.budget.limit(),
            needed: self.budget.needed(missing),
        })
    }

    fn note_missing(&mut self) {
        let missing = self.runs.iter().map(|run| match &run.filter {
            Some((filter, _)) => filter.bytes_at(0) - filter.bytes().min(filter.bytes_at(0)),
            None if run.is_damaged => 0,
            None => Filter::bytes_of(run.made_for, 0),
        });
        let missing = missing.sum();
        self.budget.miss(self.missing, missing);
        self.missing = missing;
    }

    /// How much memory there would be if all filters were folded as often as they can be.
    fn gain(&self) -> usize {
        let held = self.runs.iter().filter_map(|run| run.filter.as_ref());
        held.map(|(it, _)| it.bytes().saturating_sub(it.bytes_at(FOLDS))).sum()
    }

    /// The filter, folded as often as it must be so that it fits into memory. Those that are there
    /// already are folded, too, before there is one too many: what a run without a filter costs is more.
    fn fitted(&mut self, mut filter: Filter) -> Option<(Filter, Share)> {
        if !self.budget.has_room(filter.bytes_at(FOLDS), self.gain()) {
            return None;
        }
        for folds in 0..=FOLDS {
            filter = filter.folded_to(folds);
            if let Some(share) = Share::within(&self.budget, filter.bytes()) {
                return Some((filter, share));
            }
            for (other, share) in self.runs.iter_mut().filter_map(|run| run.filter.as_mut()) {
                if other.folds() < folds {
                    other.fold();
                    share.resize(other.bytes());
                    if let Some(share) = Share::within(&self.budget, filter.bytes()) {
                        return Some((filter, share));
                    }
                }
            }
        }
        None
    }

    /// A run has the digests of these others, and takes their place.
    pub(crate) fn merge_runs(&mut self, of: &[(i64, u64)], id: i64, filter: Filter, count: u64) {
        self.runs.retain(|run| of.iter().all(|(it, _)| *it != run.id));
        // After that, so that there is memory for its filter.
        let made_for = filter.count();
        let filter = self.fitted(filter);
        self.runs.push(Run { id, count, made_for, filter, is_damaged: false });
        self.note_missing();
    }

    /// All runs of its own, each with how many digests it has.
    pub(crate) fn sizes(&self) -> Vec<(i64, u64)> {
        self.runs.iter().map(|run| (run.id, run.count)).collect()
    }

    /// A run is no longer there.
    pub(crate) fn drop_run(&mut self, id: i64) {
        self.runs.retain(|run| run.id != id);
        self.note_missing();
    }

    /// The highest offset of the current log that is known to be packed. Rows that are in runs are not
    /// loaded and do not count.
    pub(crate) const fn seen_to(&self) -> Option<i64> {
        self.seen_to
    }

    /// What it has, for those who count.
    pub(crate) fn measure(&self, measure: &mut Measure) {
        measure.digests += self.len() as u64;
        let own = self.runs.iter().map(|run| (run.id, run.filter.is_some()));
        let foreign = self.foreign.iter().map(|run| (run.id, run.filter.is_some()));
        for (run, has_filter) in own.chain(foreign) {
            *measure.runs.entry(run).or_insert(true) &= has_filter;
        }
    }

    /// How many digests are in memory, without those that are known for ever.
    pub(crate) const fn len(&self) -> usize {
        self.table.len()
    }

    /// The memory that it has alone, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let filters = self.runs.iter().filter_map(|run| run.filter.as_ref());
        self.table.bytes() + self.share.bytes() + filters.map(|(_, it)| it.bytes()).sum::<usize>()
    }

    /// Whether the windows of the process have more than they may, and this one more than its part: then
    /// some of its digests should become a run.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.budget.is_over(self.bytes())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.budget.miss(self.missing, 0);
        self.budget.leave();
    }
}

/// Times as a table keeps them: how many eras of a fixed length after the Unix era.
///
/// An era is the 512th part of the window's length, at least a second and at most a day. A table tells
/// 65536 of them apart: 128 lengths of the window. Digests that should have been forgotten are taken for
/// younger only when they are older than that, which cannot be when `evict_older_than` is called at
/// least for each eighth of the length, as it should be; and then they are kept, not forgotten.
#[derive(Debug, Clone, Copy)]
struct Eras {
    /// The length of one, in microseconds.
    granularity: i64,
}

impl Eras {
    const SECOND: u128 = 1_000_000;
    const DAY: u128 = 24 * 60 * 60 * Self::SECOND;

    fn new(length: Duration) -> Self {
        let granularity = (length.as_micros() / 512).clamp(Self::SECOND, Self::DAY);
        Self { granularity: granularity as i64 }
    }

    fn of(self, time: SystemTime) -> i64 {
        bytes::micros(time).div_euclid(self.granularity)
    }
}

#[cfg(test)]
mod tests;
