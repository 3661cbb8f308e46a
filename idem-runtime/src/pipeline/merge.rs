//! Merging runs: a window that has many asks many filters for each new key, and many runs where there is
//! no memory for filters. So neighbours of one size become one, and those then the next larger one, up to
//! a bound.
//!
//! The digests are read from the runs and not from the rows, of which some may be forgotten while the run
//! still has what was in them (see `forget`). They are read page by page and written in parts, to a run
//! that is there for nobody; the last transaction puts it in the place of the others, if no key was
//! forgotten in them since they were read. Whoever dies before leaves the others, and an unfinished run
//! that the next owner deletes; whoever dies after leaves the new one, and unfinished the others.
//!
//! A merged run goes with the last of its rows, as any. What was in rows that went before stays known for
//! so much longer. That is bounded: only neighbours in time are merged, none of which something was
//! forgotten yet, into runs of at most a part of what the window has. So of all runs only those at the old
//! end of the window have digests that are out of date, and those are few.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::SystemTime;
use std::vec;

use crate::error::Result;
use crate::lane::Held;
use crate::packed::{
    Alone, BLOCK, Budget, Damaged, Digest, Filter, Merged, NewRun, RunBlock, RunPart,
};
use crate::pipeline::policy::Portions;
use crate::pipeline::stats::Stats;
use crate::pipeline::tend::{changed, damaged};
use crate::pipeline::windows::{Open, lock};
use crate::store::Store;

/// How many blocks of each run are read at once.
const PAGE: u32 = 64;

/// How many digests are written at once: the blocks of a transaction of some milliseconds.
const PART: usize = 1024 * BLOCK;

/// How many blocks of unfinished runs are deleted at once.
const SWEPT: u32 = 4096;

/// How often that is done before the windows are tended to again.
const SWEEPS: u32 = 16;

/// Runs of one window that are merged.
pub(crate) struct Merging {
    /// The window.
    open: Arc<Open>,
    /// The new one.
    id: i64,
    /// The others, each with how many digests it has.
    of: Vec<(i64, u64)>,
    sources: Vec<Source>,
    /// The next digest of each of them that has one.
    next: BinaryHeap<Reverse<(Digest, usize)>>,
    filter: Filter,
    last: Option<Digest>,
    /// What is not written yet, 16 bytes each.
    part: Vec<u8>,
    written: u64,
    _alone: Alone,
}

/// A run that is read.
struct Source {
    run: i64,
    read: u64,
    /// Where the next page begins.
    after: Option<Digest>,
    page: vec::IntoIter<Digest>,
}

impl Merging {
    /// Begins a merge of this window, if there is something to merge and nobody of the process does so.
    pub(crate) fn begin(
        open: &Arc<Open>,
        lane: i64,
        portions: &Portions,
        budget: &Arc<Budget>,
    ) -> Option<Self> {
        let of = candidates(open, lane, portions)?;
        let alone = budget.alone()?;
        let source = |&(run, _): &(i64, u64)| Source {
            run,
            read: 0,
            after: None,
            page: Vec::new().into_iter(),
        };
        Some(Self {
            open: Arc::clone(open),
            id: NewRun::unused(),
            sources: of.iter().map(source).collect(),
            next: BinaryHeap::new(),
            filter: Filter::of(of.iter().map(|(_, count)| count).sum()),
            last: None,
            part: Vec::new(),
            written: 0,
            of,
            _alone: alone,
        })
    }

    /// Whether it is of this window.
    pub(crate) fn is_of(&self, open: &Arc<Open>) -> bool {
        Arc::ptr_eq(&self.open, open)
    }

    /// Whether all the others are still there, as far as the window knows.
    pub(crate) fn is_wanted(&self) -> bool {
        let sizes = self.open.window().sizes();
        self.of.iter().all(|it| sizes.contains(it))
    }

    /// Merges so many digests; answers whether that was all, and the runs are one.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced) when the lane is not held any more, or a key was forgotten
    /// meanwhile. Otherwise when the database fails, or what it has is damaged. Then it cannot go on.
    pub(crate) async fn step<S: Store>(
        &mut self,
        store: &S,
        held: &Held,
        digests: u64,
    ) -> Result<bool> {
        if self.last.is_none() {
            for source in 0..self.sources.len() {
                self.advance(store, held, source).await?;
            }
        }
        for _ in 0..digests {
            let Some(Reverse((digest, source))) = self.next.pop() else {
                self.end(store, held).await?;
                return Ok(true);
            };
            self.advance(store, held, source).await?;
            if self.last.replace(digest) == Some(digest) {
                continue;
            }
            self.filter.insert(digest);
            self.part.extend_from_slice(&digest.to_bytes());
            if self.part.len() >= PART * 16 {
                self.write(store, held).await?;
            }
        }
        Ok(false)
    }

    /// Finds the next digest of a source.
    async fn advance<S: Store>(&mut self, store: &S, held: &Held, number: usize) -> Result<()> {
        let source = &mut self.sources[number];
        loop {
            if let Some(digest) = source.page.next() {
                source.read += 1;
                self.next.push(Reverse((digest, number)));
                return Ok(());
            }
            let blocks = store.run_blocks(source.run, source.after, PAGE).await?;
            if blocks.is_empty() {
                return Ok(());
            }
            let page = read(source.run, source.after, &blocks)
                .map_err(|it| damaged(&held.id, self.open.scope, &it))?;
            source.after = page.last().copied().max(blocks.last().map(|it| it.from));
            source.page = page.into_iter();
        }
    }

    async fn write<S: Store>(&mut self, store: &S, held: &Held) -> Result<()> {
        let window = self.open.id(held.number);
        let part = RunPart { id: self.id, window, had: self.written, digests: &self.part };
        if !store.extend_run(held, &part).await? {
            return Err(changed(held));
        }
        self.written += (self.part.len() / 16) as u64;
        self.part.clear();
        Ok(())
    }

    async fn end<S: Store>(&mut self, store: &S, held: &Held) -> Result<()> {
        let all_read = |(source, (_, count)): (&Source, &(i64, u64))| source.read == *count;
        if !self.sources.iter().zip(&self.of).all(all_read) {
            return Err(changed(held));
        }
        if !self.part.is_empty() {
            self.write(store, held).await?;
        }
        let (window, filter) = (self.open.id(held.number), self.filter.to_bytes());
        let Self { id, written: count, ref of, .. } = *self;
        if !store.merge_runs(held, &Merged { id, window, count, filter: &filter, of }).await? {
            return Err(changed(held));
        }
        let filter = std::mem::replace(&mut self.filter, Filter::of(0));
        self.open.merged(of, id, filter, count);
        Stats::add(&self.open.stats.packed_runs_written, 1);
        tracing::debug!(
            lane = %held.id,
            scope = self.open.scope,
            runs = of.len(),
            digests = count,
            "runs of packed markers were merged"
        );
        Ok(())
    }
}

/// The digests of a page, which are ascending and after those before.
fn read(run: i64, mut last: Option<Digest>, blocks: &[RunBlock]) -> Result<Vec<Digest>, Damaged> {
    let mut digests = Vec::with_capacity(blocks.len() * BLOCK);
    for block in blocks {
        let (all, rest) = block.data.as_chunks::<16>();
        for digest in all.iter().map(|it| Digest::from_bytes(*it)) {
            if !rest.is_empty() || digest < block.from || last.is_some_and(|last| digest <= last) {
                let from = block.from;
                return Err(Damaged(format!("the block of run {run} from {from:?} is damaged")));
            }
            last = Some(digest);
            digests.push(digest);
        }
    }
    Ok(digests)
}

/// Deletes what merges have left of a window's scope; answers whether nothing is left. Not while one is
/// under way.
pub(crate) async fn sweep<S: Store>(store: &S, held: &Held, scope: &str) -> Result<bool> {
    for _ in 0..SWEEPS {
        if !store.sweep_runs(held, scope, SWEPT).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which runs of a window to merge, with how many digests each has, if there are some.
fn candidates(open: &Open, lane: i64, portions: &Portions) -> Option<Vec<(i64, u64)>> {
    /// What is known of the rows of a run.
    struct Rows {
        newest: SystemTime,
        digests: u64,
        /// Whether nobody but this window asks it: none of its rows is of a former layout for others.
        own: bool,
    }
    let sizes = open.window().sizes();
    if sizes.len() < portions.runs {
        return None;
    }
    let mut rows = BTreeMap::<i64, Rows>::new();
    for row in lock(&open.rows).iter() {
        let Some(run) = row.run else { continue };
        let of = rows.entry(run).or_insert(Rows { newest: row.last_at, digests: 0, own: true });
        of.newest = of.newest.max(row.last_at);
        of.digests += u64::from(row.count);
        of.own &= row.lane == lane && row.slice == open.slice && row.partitions == open.partitions;
    }
    let all: u64 = sizes.iter().map(|(_, count)| count).sum();
    let mut runs: Vec<(SystemTime, i64, u64)> = sizes
        .into_iter()
        .filter_map(|(run, count)| {
            let rows = rows.get(&run)?;
            // With fewer digests in its rows than in itself it is at the old end of the window: its rows are
            // being forgotten, and it goes soon.
            let merges = rows.own && !open.is_warm(run) && count > 0 && rows.digests >= count;
            merges.then_some((rows.newest, run, count))
        })
        .collect();
    runs.sort_unstable();
    let runs: Vec<(i64, u64)> = runs.into_iter().map(|(_, run, count)| (run, count)).collect();
    choose(&runs, portions.merged.min(all / portions.part), portions.runs)
}

/// Of these runs in the order of their times, each with how many digests it has, neighbours to merge: so
/// many at least of the same size, with those between them that are smaller; the smallest first. Together
/// they have at most as many digests as the limit says.
fn choose(runs: &[(i64, u64)], limit: u64, many: usize) -> Option<Vec<(i64, u64)>> {
    // Eight of one size are one of the next.
    let size = |(_, count): &(i64, u64)| count.max(&1).ilog2() / 3;
    let mut sizes: Vec<u32> = runs.iter().map(size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes.into_iter().find_map(|wanted| {
        // One that is more than half of the limit is as large as it gets.
        let fits = |run: &(i64, u64)| size(run) <= wanted && run.1 <= limit / 2;
        let stretches = runs.chunk_by(|a, b| fits(a) == fits(b)).filter(|it| fits(&it[0]));
        stretches.into_iter().find_map(|stretch| {
            if stretch.iter().filter(|run| size(run) == wanted).count() < many {
                return None;
            }
            let mut sum = 0;
            let within = |run: &&(i64, u64)| {
                sum += run.1;
                sum <= limit
            };
            let chosen: Vec<(i64, u64)> = stretch.iter().take_while(within).copied().collect();
            (chosen.len() >= (many / 2).max(2)).then_some(chosen)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neighbours of these sizes, by their places.
    fn chosen(counts: &[u64], limit: u64, many: usize) -> Option<std::ops::Range<i64>> {
        let runs: Vec<(i64, u64)> = (0..).zip(counts.iter().copied()).collect();
        let chosen = choose(&runs, limit, many)?;
        let first = chosen[0].0;
        let range = first..first + i64::try_from(chosen.len()).unwrap();
        assert!(range.clone().eq(chosen.iter().map(|it| it.0)), "neighbours: {chosen:?}");
        Some(range)
    }

    #[test]
    fn neighbours_of_one_size_are_merged_when_there_are_many() {
        assert_eq!(chosen(&[100; 7], 10_000, 8), None);
        assert_eq!(chosen(&[100; 8], 10_000, 8), Some(0..8));
        assert_eq!(chosen(&[1000, 100, 64, 500, 100], 10_000, 4), Some(1..5));
        // The smallest first.
        assert_eq!(chosen(&[1000, 1000, 1000, 10, 10, 10], 10_000, 3), Some(3..6));
    }

    #[test]
    fn a_larger_one_between_them_parts_neighbours_until_it_is_merged_itself() {
        assert_eq!(chosen(&[100, 1000, 100, 1000, 100], 10_000, 3), None);
        assert_eq!(chosen(&[100, 1000, 100, 1000, 100, 1000, 100], 10_000, 3), Some(0..7));
    }

    #[test]
    fn a_merged_run_is_not_larger_than_the_limit() {
        assert_eq!(chosen(&[100; 20], 1000, 8), Some(0..10));
        assert_eq!(chosen(&[250; 20], 1000, 8), Some(0..4));
        assert_eq!(
            chosen(&[300; 20], 1000, 8),
            None,
            "three in the place of eight are not worth it"
        );
        assert_eq!(chosen(&[600, 100, 100, 100, 600], 1000, 3), Some(1..4));
        assert_eq!(chosen(&[100; 20], 0, 2), None);
        assert_eq!(chosen(&[], 1000, 2), None);
    }

    #[test]
    fn runs_that_come_one_after_the_other_become_few_and_each_digest_is_written_a_few_times() {
        let (mut runs, mut written) = (Vec::new(), 0);
        for run in 0..2000 {
            runs.push((run, 300));
            let all: u64 = runs.iter().map(|it| it.1).sum();
            while let Some(merged) = choose(&runs, (all / 4).min(20_000), 8) {
                let count = merged.iter().map(|it| it.1).sum();
                let place = runs.iter().position(|it| *it == merged[0]).unwrap();
                runs.splice(place..place + merged.len(), [(merged[0].0, count)]);
                written += count;
            }
        }
        let all: u64 = runs.iter().map(|it| it.1).sum();
        assert_eq!(all, 600_000);
        assert!(runs.len() < 60, "{runs:?}");
        assert!(written < 3 * all, "{written}");
        assert!(runs.iter().all(|it| it.1 <= 20_000));
    }

    #[test]
    fn a_block_that_is_not_in_its_order_is_damaged() {
        let block = |from, digests: &[u128]| RunBlock {
            from: Digest(from),
            data: digests.iter().flat_map(|it| Digest(*it).to_bytes()).collect(),
        };
        let digests = |blocks: &[RunBlock]| {
            let read = read(7, Some(Digest(2)), blocks).map_err(|it| it.to_string());
            read.map(|it| it.into_iter().map(|Digest(it)| it).collect::<Vec<_>>())
        };
        // The first of one block was forgotten, and all of another.
        let good = [block(3, &[4, 5]), block(6, &[]), block(9, &[9, 11])];
        assert_eq!(digests(&good), Ok(vec![4, 5, 9, 11]));
        for bad in [block(4, &[3]), block(1, &[2]), block(3, &[5, 5]), block(3, &[6, 5])] {
            assert!(digests(&[bad]).unwrap_err().contains("run 7"));
        }
        let mut cut = block(3, &[4, 5]);
        cut.data.pop();
        assert!(digests(&[cut]).is_err());
    }
}
