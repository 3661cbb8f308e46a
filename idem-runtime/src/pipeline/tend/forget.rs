//! Forgetting what is out of date: its rows, and what the memory has of them.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::{Tending, changed};
use crate::error::Result;
use crate::packed::{Floor, PackRow};
use crate::pipeline::stats::Stats;
use crate::pipeline::take::survey;
use crate::pipeline::windows::{Open, before, lock};
use crate::store::Store;

impl<S: Store> Tending<S> {
    /// Forgets rows that are out of date.
    pub(super) async fn forget(&self, open: &Open) -> Result<()> {
        let store = &self.group.store;
        let now = self.now(open).await?;
        let mut rows = lock(&open.rows).clone();
        rows.sort_by_key(|row| std::cmp::Reverse((row.last_at, row.id)));
        // What was seen again in the same era as what is in a run goes with the run: an era later.
        let outside = before(now, open.length.time + open.window().era());
        let mut kept = 0_u64;
        let is_old = |row: &PackRow, kept: &mut u64| {
            if row.every_slice {
                // It does not count: each slice has others beside it.
                return row.last_at < outside;
            }
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
        // By count, what was seen again in the same era can stay, and is in the run alone.
        //
        // A row that stays and is in no run can have such digests only if it is of the era of the newest row
        // that was in the run when the digests left the memory, or older. While there is such a row, no row
        // of the run goes, so that one is still there. In a run that others were merged into the newest of
        // all rows counts, which is no older than the newest of each of them: it is kept for as long as
        // each of them would be, and longer.
        let era = open.window().era();
        let stays = |row: &&PackRow| row.run.is_none() && !old.contains(&row.id);
        let stays = rows.iter().filter(stays).map(|row| row.first_at).min();
        let needed = |run: i64| {
            let newest =
                rows.iter().filter(|row| row.run == Some(run)).map(|row| row.last_at).max();
            stays.zip(newest).is_some_and(|(stays, newest)| stays <= newest + era)
        };
        let runs = rows.iter().filter(|_| open.length.events.is_some());
        let runs: BTreeSet<i64> = runs.filter_map(|row| row.run).collect();
        let needed: BTreeSet<i64> = runs.into_iter().filter(|run| needed(*run)).collect();
        let gone = |row: &&PackRow| {
            old.contains(&row.id)
                && (row.log < open.first_log || row.last_offset < low)
                && row.run.is_none_or(|run| !needed.contains(&run))
        };
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
        // None of them lies above the position: what a log was before it lost its tail is below.
        let of_log = gone.iter().filter(|row| row.log >= open.first_log);
        let floor = of_log.map(|row| row.last_offset.saturating_add(1)).max();
        let floor = floor.map(|offset| Floor { offset, is_early: self.early });
        if !store.forget_packs(&self.held, open.scope, &ids, floor).await? {
            return Err(changed(&self.held));
        }
        Stats::add(&open.stats.packed_rows_forgotten, ids.len());
        rows.retain(|row| !ids.contains(&row.id));
        // One for every slice may never go: it may be of another log than it says. Should its event be
        // delivered again, then to who has loaded it anew.
        let counts = |row: &&PackRow| !row.every_slice || row.last_at >= outside;
        let oldest = rows.iter().filter(counts).map(|row| row.first_at).min().unwrap_or(outside);
        let runs: BTreeSet<i64> = rows.iter().filter_map(|row| row.run).collect();
        {
            let mut window = open.window();
            window.evict_older_than(oldest.min(outside));
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
            floor = floor.map(|it| it.offset),
            "packed markers that are out of date were forgotten"
        );
        Ok(())
    }

    /// Lets go of digests of rows that were forgotten because there are so many newer ones: their time tells
    /// that they are older than all that is left.
    pub(super) async fn trim(&self, open: &Open) -> Result<()> {
        // What is in a run that is asked need not be in memory.
        let runs: BTreeSet<i64> = open.window().runs().into_iter().collect();
        let in_memory = |row: &&PackRow| row.run.is_none_or(|run| !runs.contains(&run));
        let needed =
            lock(&open.rows).iter().filter(in_memory).map(|row| u64::from(row.count)).sum::<u64>();
        let has = open.window().len() as u64;
        if open.length.events.is_none() || has <= needed + needed / 4 + self.portions.spare {
            return Ok(());
        }
        // All rows anew, as one may have been committed after others with higher numbers.
        open.window().note_learning();
        lock(&open.rows).clear();
        self.read_rows(open).await?;
        let outside = before(self.now(open).await?, open.length.time);
        let counts = |row: &&PackRow| match row.every_slice {
            true => row.last_at >= outside,
            false => in_memory(row),
        };
        let oldest = lock(&open.rows).iter().filter(counts).map(|row| row.first_at).min();
        if let Some(oldest) = oldest {
            open.window().evict_unneeded(oldest);
        }
        Ok(())
    }

    /// The time by the database's clock.
    async fn now(&self, open: &Open) -> Result<SystemTime> {
        Ok(self.group.store.window(&open.id(self.held.number)).await?.now)
    }

    /// The lane's committed position, as long as this one is its owner.
    fn position(&self) -> Option<i64> {
        let (held, _) = self.seat.held()?;
        (held.token == self.held.token).then_some(held.position.offset)
    }
}
