//! Tending to windows, beside the work of their lane: joining small rows (`join`), forgetting what is out of
//! date (`forget`), moving what does not fit into memory into runs (`cool`), and merging these.
//!
//! Each of these is a transaction of its own that asks whether the lane is still held. None of them
//! changes which keys the database knows as seen, but for those that are out of date; so the lane's
//! batches go on meanwhile, and need not know.

mod cool;
mod forget;
mod join;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::task::JoinHandle;

pub(crate) use self::cool::{chunks, cool, write_run};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::lane::{Held, LaneId};
use crate::packed::{Budget, Damaged, Measure, Measured as _, PackRow};
use crate::pipeline::merge::{Merging, sweep};
use crate::pipeline::policy::Portions;
use crate::pipeline::source::{Seat, Source};
use crate::pipeline::widen::Widening;
use crate::pipeline::windows::{Open, Windows, lock};
use crate::store::Store;

/// After how many failures in a row a warning is logged.
const FAILURES: u32 = 3;

/// How many rows are asked for at once.
const PAGE: u32 = 1000;

/// Of how many rows the contents are asked for at once.
const CONTENTS: usize = 64;

/// Every how many rounds it is looked at what there is of partitions that are gone, and all rows are read
/// anew: one of a batch that took long has a lower number than others that were read before it was
/// committed. A round is an interval, less when somebody asks, or a step of a merge. What there is of a
/// former layout is looked at after so many intervals, and when a run of it is gone; what others pack for
/// all lanes, each time.
const FORMER: u32 = 60;

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
    /// Tells how far the lane is, and when to tend at once.
    pub(crate) seat: Arc<Seat>,
    /// The memory that all windows of this process share.
    pub(crate) budget: Arc<Budget>,
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
        let mut round = 0_u32;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failures = vec![0_u32; self.windows.iter().flat_map(Windows::all).count()];
        let (mut merging, mut calm) = (None, true);
        loop {
            // What is merged goes on at once, unless something failed; all else is tended to in between.
            if merging.is_none() || !std::mem::replace(&mut calm, true) {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = self.seat.asked_to_tend() => {}
                }
            }
            if round.is_multiple_of(FORMER) {
                self.windows.iter().flat_map(Windows::all).for_each(|open| open.doubt_rows());
            }
            // All of them before anything is changed: numbers of what was lost are given again, and what
            // a window asks is compared with rows that may say something else by now.
            let mut checked = Vec::with_capacity(failures.len());
            for open in self.windows.iter().flat_map(Windows::all) {
                match self.went_back(open).await {
                    Ok(false) => checked.push(Ok(())),
                    Ok(true) => {
                        self.seat.went_back();
                        return;
                    }
                    Err(error) => {
                        open.doubt_rows();
                        checked.push(Err(error));
                    }
                }
            }
            let is_known = checked.iter().all(Result::is_ok);
            let windows = self.windows.iter().flat_map(Windows::all);
            for ((open, checked), failed) in windows.zip(checked).zip(&mut failures) {
                let tended = match checked {
                    Ok(()) if !is_known => continue,
                    Ok(()) => {
                        let tended = self.tend(open, &mut merging).await;
                        if tended.is_err() {
                            // Whatever was read is read again.
                            lock(&open.rows).clear();
                        }
                        tended
                    }
                    Err(error) => Err(error),
                };
                let Err(error) = tended else {
                    *failed = 0;
                    continue;
                };
                *failed += 1;
                calm = false;
                let (lane, scope, report) = (&self.held.id, open.scope, error.report());
                let message = "the packed markers could not be tended to; tried again";
                match *failed == FAILURES {
                    true => tracing::warn!(%lane, scope, error = %report, "{message}"),
                    false => tracing::debug!(%lane, scope, error = %report, "{message}"),
                }
            }
            if !is_known {
                continue;
            }
            if round.is_multiple_of(FORMER)
                && let Err(error) = self.forget_gone().await
            {
                tracing::debug!(
                    lane = %self.held.id,
                    error = %error.report(),
                    "packed markers of partitions that are gone could not be looked at; tried again"
                );
            }
            round = round.wrapping_add(1);
        }
    }

    /// Whether the database lost what was done here: which moved no revision, so that the lane does not
    /// find out by itself. It loses its last transactions, so the newest row tells; and a run that is
    /// lost is missed when somebody asks it.
    async fn went_back(&self, open: &Open) -> Result<bool> {
        let id = open.id(self.held.number);
        // One for every slice may have been forgotten beside another slice.
        let of_window = |row: &&PackRow| row.slice == open.slice && !row.every_slice;
        let newest = lock(&open.rows).iter().filter(of_window).max_by_key(|row| row.id).cloned();
        if let Some(known) = newest {
            let now = self.group.store.pack_heads(&id, known.id - 1, 1).await?;
            let is_known = |row: &PackRow| {
                // A lane for which it is of a former layout may have put it into a run.
                *row == PackRow { run: known.run.or(row.run), ..known.clone() }
            };
            if !now.first().is_some_and(is_known) {
                return Ok(true);
            }
        }
        if open.takes_doubt_of_rows() {
            lock(&open.rows).clear();
        }
        self.read_rows(open).await?;
        let runs: BTreeSet<i64> = lock(&open.rows).iter().filter_map(|row| row.run).collect();
        Ok(open.window().runs().iter().any(|run| !runs.contains(run)))
    }

    async fn tend(&self, open: &Arc<Open>, merging: &mut Option<Merging>) -> Result<()> {
        if open.widens {
            let Self { group, budget, held, .. } = self;
            let widening = Widening { group, budget, held, open, most: self.portions.run };
            match open.takes_doubt(self.interval.saturating_mul(FORMER)) {
                true => widening.look().await?,
                false => widening.elsewhere().await?,
            }
        }
        self.read_rows(open).await?;
        // One that fails is no reason not to do the others, unless the rows are not those that were read.
        let joined = self.join(open).await;
        if joined.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced) {
            return joined;
        }
        let forgotten = match self.forget(open).await {
            Ok(()) => self.trim(open).await,
            failed => failed,
        };
        let mut rows = lock(&open.rows).clone();
        let cooled = cool(&self.group.store, (&self.held, self.portions), open, &mut rows).await;
        *lock(&open.rows) = rows;
        joined.and(forgotten).and(cooled)?;
        self.merge(open, merging).await?;
        self.fill(open).await?;
        self.say(open);
        Ok(())
    }

    /// Finds filters for runs that have none, if there is room meanwhile; and says so if there is not.
    async fn fill(&self, open: &Open) -> Result<()> {
        // Other windows may take what is there.
        let runs = open.window().runs().len();
        for _ in 0..runs {
            let Some(run) = open.window().has_room_for() else { break };
            let found = self.group.store.runs_of(&[run]).await?;
            let Some(found) = found.first() else { return Err(changed(&self.held)) };
            open.add_run(found, &self.held.id);
        }
        if let Some(lack) = open.takes_lack() {
            tracing::warn!(
                lane = %self.held.id,
                scope = open.scope,
                digests = lack.digests,
                runs = lack.runs,
                packed_memory = lack.bytes,
                needed = lack.needed,
                "`packed_memory` is too little for the filters of packed markers: each new key is asked \
                 for in the database, several times. So many bytes as are needed would be enough for \
                 all that this process has now, with those digests of this window in it"
            );
        }
        Ok(())
    }

    /// Merges runs, a part at a time, and deletes what is left of merges. There is one at a time, so
    /// nothing is deleted that somebody still writes.
    async fn merge(&self, open: &Arc<Open>, merging: &mut Option<Merging>) -> Result<()> {
        let (store, held) = (&self.group.store, &self.held);
        let Some(merge) = merging else {
            if !open.swept.load(SeqCst) {
                let swept = sweep(store, held, open.scope).await?;
                open.swept.store(swept, SeqCst);
            }
            *merging = Merging::begin(open, held.number, &self.portions, &self.budget);
            return Ok(());
        };
        if !merge.is_of(open) {
            return Ok(());
        }
        // A run of which no row is left was forgotten meanwhile.
        let ended = match merge.is_wanted() {
            true => merge.step(store, held, self.portions.step).await,
            false => Ok(true),
        };
        if !matches!(ended, Ok(false)) {
            *merging = None;
            open.swept.store(false, SeqCst);
        }
        ended.map(drop)
    }

    /// Says what there is now.
    fn say(&self, open: &Open) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let (rows, mut now) = (lock(&open.rows).len(), Measure::default());
        open.measure(&mut now);
        tracing::debug!(
            lane = %self.held.id,
            scope = open.scope,
            slice = open.slice.map(|slice| slice.index),
            rows,
            digests = now.digests,
            runs = now.runs.len(),
            runs_unfiltered = now.runs.values().filter(|has_filter| !**has_filter).count(),
            bytes = open.window().bytes(),
            bytes_of_all = self.budget.used(),
            "packed markers were tended to"
        );
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
        match is_first && open.widens {
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
            let rows = self.group.store.foreign_heads(&id, open.partitions, after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            left_over.extend(rows.into_iter().filter(is_left_over));
        }
        lock(&open.rows).extend(left_over);
        Ok(())
    }
}

pub(crate) fn changed(held: &Held) -> Error {
    Error::new(
        ErrorKind::Fenced,
        format!("{}: another owner took the lane, or its packed markers changed", held.id),
    )
}

pub(crate) fn damaged(lane: &LaneId, scope: &str, damaged: &Damaged) -> Error {
    Error::new(
        ErrorKind::Store,
        format!(
            "{lane}, scope {scope}: {damaged}. Nothing is worked on without it: put the database back \
             to a state that has it, or, if what it had may be processed again, delete the row"
        ),
    )
}
