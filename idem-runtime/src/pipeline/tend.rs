//! Tending to windows, beside the work of their lane: joining small rows, forgetting what is out of
//! date, and moving what does not fit into memory into runs.
//!
//! Each of these is a transaction of its own that asks whether the lane is still held. None of them
//! changes which keys the database knows as seen, but for those that are out of date; so the lane's
//! batches go on meanwhile, and need not know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::lane::{Held, LaneId};
use crate::packed::{Damaged, Digest, Filter, NewRun, Pack, PackRow, Repack};
use crate::pipeline::policy::Portions;
use crate::pipeline::source::{Seat, Source};
use crate::pipeline::take::survey;
use crate::pipeline::windows::{Open, Windows, before, lock};
use crate::store::Store;

/// How many rows are asked for at once.
const PAGE: u32 = 1000;

/// Of how many rows the contents are asked for at once.
const CONTENTS: usize = 64;

/// What tends to the windows of a lane, for as long as it is kept.
pub(crate) struct Tender(JoinHandle<()>);

impl Drop for Tender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who tends.
pub(crate) struct Tending<S: Store> {
    pub(crate) group: Arc<Group<S>>,
    pub(crate) source: Arc<dyn Source>,
    /// The lane; its slice is of no meaning.
    pub(crate) held: Held,
    /// Those of the lane, or of each of its slices.
    pub(crate) windows: Vec<Windows>,
    /// Whether what Kafka could still deliver may be forgotten.
    pub(crate) early: bool,
    /// Tells how far the lane is.
    pub(crate) seat: Arc<Seat>,
    pub(crate) interval: Duration,
    pub(crate) portions: Portions,
}

impl<S: Store> Tending<S> {
    /// Begins, if there is something to tend to.
    pub(crate) fn begin(self) -> Option<Tender> {
        let any = self.windows.iter().any(|windows| windows.all().next().is_some());
        any.then(|| Tender(tokio::spawn(self.run())))
    }

    async fn run(self) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // All of them before anything is changed: numbers of what was lost are given again.
            for open in self.windows.iter().flat_map(Windows::all) {
                match self.went_back(open).await {
                    Ok(false) => {}
                    Ok(true) => {
                        self.seat.went_back();
                        return;
                    }
                    Err(_) => lock(&open.rows).clear(),
                }
            }
            for open in self.windows.iter().flat_map(Windows::all) {
                if let Err(error) = self.tend(open).await {
                    tracing::debug!(
                        lane = %self.held.id,
                        scope = open.scope,
                        error = %error.report(),
                        "the packed markers could not be tended to; tried again"
                    );
                    // Whatever was read is read again.
                    lock(&open.rows).clear();
                }
            }
        }
    }

    /// Whether the database lost what was done here: which moved no revision, so that the lane does not
    /// find out by itself. It loses its last transactions, so the last of each kind tells.
    async fn went_back(&self, open: &Open) -> Result<bool> {
        let id = open.id(self.held.number);
        let (newest, in_run) = {
            let rows = lock(&open.rows);
            let newest = rows.iter().max_by_key(|row| row.id).cloned();
            let in_runs = rows.iter().filter(|row| row.run.is_some());
            (newest, in_runs.max_by_key(|row| row.run).cloned())
        };
        let known: Vec<PackRow> = newest.into_iter().chain(in_run).collect();
        if !known.is_empty() {
            let ids: Vec<i64> = known.iter().map(|row| row.id).collect();
            let now = self.group.store.packs_of(&id, &ids).await?;
            let is_there = |row: &PackRow| {
                now.iter().any(|it| PackRow { data: Vec::new(), ..it.clone() } == *row)
            };
            if !known.iter().all(is_there) {
                return Ok(true);
            }
        }
        self.read_rows(open).await?;
        let runs: BTreeSet<i64> = lock(&open.rows).iter().filter_map(|row| row.run).collect();
        Ok(open.window().runs().iter().any(|run| !runs.contains(run)))
    }

    async fn tend(&self, open: &Open) -> Result<()> {
        self.read_rows(open).await?;
        self.join(open).await?;
        self.forget(open).await?;
        let mut rows = lock(&open.rows).clone();
        let cooled = cool(&self.group.store, (&self.held, self.portions), open, &mut rows).await;
        *lock(&open.rows) = rows;
        cooled
    }

    /// Reads which rows there are since the last time.
    async fn read_rows(&self, open: &Open) -> Result<()> {
        let id = open.id(self.held.number);
        let is_first = lock(&open.rows).is_empty();
        loop {
            let after = lock(&open.rows).iter().map(|row| row.id).max().unwrap_or(0);
            let rows = self.group.store.pack_heads(&id, after, PAGE).await?;
            let last = rows.len() < PAGE as usize;
            lock(&open.rows).extend(rows);
            if last {
                break;
            }
        }
        match is_first && open.is_wide {
            true => self.read_left_over(open).await,
            false => Ok(()),
        }
    }

    /// Reads which rows the lane has from when it was divided in another way: the first slice tends to
    /// them, or the lane itself.
    async fn read_left_over(&self, open: &Open) -> Result<()> {
        if open.slice.is_some_and(|slice| slice.index > 0) {
            return Ok(());
        }
        let id = open.id(self.held.number);
        let is_left_over = |row: &PackRow| {
            row.lane == self.held.number
                && row.slice.map(|slice| slice.of) != open.slice.map(|slice| slice.of)
        };
        let (mut left_over, mut after) = (Vec::new(), 0);
        loop {
            let limit = u32::try_from(CONTENTS).unwrap_or(u32::MAX);
            let rows = self.group.store.foreign_packs(&id, open.partitions, after, limit).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            let rows = rows.into_iter().filter(is_left_over);
            left_over.extend(rows.map(|row| PackRow { data: Vec::new(), ..row }));
        }
        lock(&open.rows).extend(left_over);
        Ok(())
    }

    /// Whether the lane has rows from when it was divided in another way.
    async fn has_left_over(&self, open: &Open) -> Result<bool> {
        let foreign = self.group.store.foreign(&open.id(self.held.number), open.partitions).await?;
        let slices = open.slice.map_or(0, |slice| slice.of);
        Ok(foreign.iter().any(|it| it.id == self.held.id && it.slices != slices))
    }

    /// Joins small rows, oldest first.
    async fn join(&self, open: &Open) -> Result<()> {
        let Portions { small, many, joined, .. } = self.portions;
        loop {
            let mut rows: Vec<PackRow> = lock(&open.rows)
                .iter()
                .filter(|row| row.run.is_none() && row.count < small)
                .filter(|row| !row.every_slice && row.slice == open.slice)
                .filter(|row| row.log == open.log && row.partitions == open.partitions)
                .cloned()
                .collect();
            if rows.len() < many {
                return Ok(());
            }
            rows.sort_by_key(|row| (row.first_at, row.id));
            let mut total = 0;
            rows.retain(|row| {
                let fits = total < joined;
                total += u64::from(row.count);
                fits
            });
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let rows = self.contents(open, &ids).await?;
            let joined = join(&rows).map_err(|it| damaged(&self.held.id, open, &it))?;
            let Some(joined) = joined else { return Ok(()) };
            let row = Repack { row: &joined, scope: open.scope };
            if !self.group.store.repack(&self.held, &ids, &row).await? {
                return Err(self.changed());
            }
            lock(&open.rows).retain(|row| !ids.contains(&row.id));
            tracing::debug!(
                lane = %self.held.id,
                scope = open.scope,
                rows = ids.len(),
                digests = joined.count,
                "small rows of packed markers were joined"
            );
            self.read_rows(open).await?;
        }
    }

    async fn contents(&self, open: &Open, ids: &[i64]) -> Result<Vec<PackRow>> {
        let rows = self.group.store.packs_of(&open.id(self.held.number), ids).await?;
        if rows.len() != ids.len() {
            return Err(self.changed());
        }
        debug_assert!(rows.iter().all(|row| row.slice == open.slice || row.every_slice));
        Ok(rows)
    }

    /// Forgets rows that are out of date.
    async fn forget(&self, open: &Open) -> Result<()> {
        let store = &self.group.store;
        let id = open.id(self.held.number);
        let now = store.window(&id).await?.now;
        let mut rows = lock(&open.rows).clone();
        rows.sort_by_key(|row| std::cmp::Reverse((row.last_at, row.id)));
        // What was seen again in the same era as what is in a run goes with the run: an era later.
        let outside = before(now, open.length.time + open.window().era());
        let mut kept = 0_u64;
        let is_old = |row: &PackRow, kept: &mut u64| {
            *kept += u64::from(row.count);
            row.last_at < outside
                || open.length.events.is_some_and(|most| *kept - u64::from(row.count) >= most)
        };
        let old: BTreeSet<i64> =
            rows.iter().filter(|row| is_old(row, &mut kept)).map(|row| row.id).collect();
        if old.is_empty() {
            return Ok(());
        }
        // What is read again before the lane is where it was is to be known.
        let Some(position) = self.position() else { return Ok(()) };
        let low = match self.early {
            true => position,
            false => position.min(survey(&*self.source, &self.held.id).await?.low),
        };
        let gone =
            |row: &&PackRow| old.contains(&row.id) && (row.log < open.log || row.last_offset < low);
        let gone: Vec<PackRow> = rows.iter().filter(gone).cloned().collect();
        if gone.len() < old.len() {
            tracing::debug!(
                lane = %self.held.id,
                scope = open.scope,
                rows = old.len() - gone.len(),
                "packed markers are older than their window and stay: Kafka can still deliver their \
                 events"
            );
        }
        if gone.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = gone.iter().map(|row| row.id).collect();
        let of_log = gone.iter().filter(|row| row.log == open.log);
        let floor = of_log.map(|row| row.last_offset.saturating_add(1)).max();
        if !store.forget_packs(&self.held, open.scope, &ids, floor).await? {
            return Err(self.changed());
        }
        rows.retain(|row| !ids.contains(&row.id));
        let oldest = rows.iter().map(|row| row.first_at).min().unwrap_or(outside);
        let runs: BTreeSet<i64> = rows.iter().filter_map(|row| row.run).collect();
        // What other slices wrote in this lane is not among the rows of each slice, and can be older.
        let has_more = open.is_wide && self.has_left_over(open).await?;
        {
            let mut window = open.window();
            if !has_more {
                window.evict_older_than(oldest.min(outside));
            }
            for run in window.runs() {
                if !runs.contains(&run) {
                    window.drop_run(run);
                }
            }
        }
        *lock(&open.rows) = rows;
        tracing::debug!(
            lane = %self.held.id,
            scope = open.scope,
            rows = ids.len(),
            floor,
            "packed markers that are out of date were forgotten"
        );
        Ok(())
    }

    /// The lane's committed position, as long as this one is its owner.
    fn position(&self) -> Option<i64> {
        let (held, _) = self.seat.held()?;
        (held.token == self.held.token).then_some(held.position.offset)
    }

    fn changed(&self) -> Error {
        Error::new(
            ErrorKind::Fenced,
            format!("{}: another owner took the lane, or its packed markers changed", self.held.id),
        )
    }
}

/// Moves the oldest rows of a window into runs, for as long as there is not memory enough. `rows` are
/// those that are in memory, at least.
pub(crate) async fn cool<S: Store>(
    store: &S,
    (held, portions): (&Held, Portions),
    open: &Open,
    rows: &mut [PackRow],
) -> Result<()> {
    while open.window().is_over_budget() {
        rows.sort_by_key(|row| (row.last_at, row.id));
        let mut count = 0_u64;
        let own = |row: &&mut PackRow| {
            row.run.is_none()
                && !row.every_slice
                && row.lane == held.number
                && row.slice == open.slice
        };
        let mut cooled: Vec<&mut PackRow> = Vec::new();
        for row in rows.iter_mut().filter(own) {
            if count >= portions.run {
                break;
            }
            count += u64::from(row.count);
            cooled.push(row);
        }
        let Some(newest) = cooled.iter().map(|row| row.last_at).max() else { return Ok(()) };
        let ids: Vec<i64> = cooled.iter().map(|row| row.id).collect();
        let mut digests: Vec<Digest> = Vec::new();
        for ids in ids.chunks(CONTENTS) {
            for row in store.packs_of(&open.id(held.number), ids).await? {
                let pack = Pack::decode(&row).map_err(|it| damaged(&held.id, open, &it))?;
                digests.extend(pack.entries.iter().map(|(_, digest)| *digest));
            }
        }
        digests.sort_unstable();
        digests.dedup();
        let filter = Filter::build(&digests).to_bytes();
        let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_bytes()).collect();
        let window = open.id(held.number);
        let count = digests.len() as u64;
        let run = NewRun { window, count, filter: &filter, digests: &bytes };
        let Some(run) = store.add_run(held, &ids, &run).await? else {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!("{}: another owner took the lane, or its packed markers changed", held.id),
            ));
        };
        for row in cooled {
            row.run = Some(run);
        }
        {
            let mut window = open.window();
            window.evict(&digests, newest);
            // After that, so that there is memory for its filter.
            if let Err(damaged) = window.add_run(run, &filter, count) {
                tracing::warn!(scope = open.scope, lane = %held.id, "{damaged}");
            }
        }
        tracing::info!(
            lane = %held.id,
            scope = open.scope,
            digests = count,
            "packed markers do not fit into memory: the oldest are asked for in the database"
        );
    }
    Ok(())
}

/// The row that takes the place of these, of one window.
fn join(rows: &[PackRow]) -> Result<Option<PackRow>, Damaged> {
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        parts.push((row.last_at, Pack::decode(row)?));
    }
    let pack = Pack::merge(parts);
    let (Some(first), Some((first_offset, last_offset))) = (rows.first(), pack.offsets()) else {
        return Ok(None);
    };
    Ok(Some(PackRow {
        first_offset,
        last_offset,
        count: u32::try_from(pack.entries.len()).unwrap_or(u32::MAX),
        first_at: rows.iter().map(|row| row.first_at).min().unwrap_or(first.first_at),
        last_at: rows.iter().map(|row| row.last_at).max().unwrap_or(first.last_at),
        data: pack.encode(),
        ..first.clone()
    }))
}

pub(crate) fn damaged(lane: &LaneId, open: &Open, damaged: &Damaged) -> Error {
    Error::new(
        ErrorKind::Store,
        format!(
            "{lane}, scope {}: {damaged}. Nothing is worked on without it: put the database back to a \
             state that has it, or, if what it had may be processed again, delete the row",
            open.scope
        ),
    )
}
