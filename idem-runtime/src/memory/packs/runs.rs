//! Runs, in memory.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::{Packs, slice_of, wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Held;
use crate::memory::data::Data;
use crate::memory::state::State;
use crate::packed::{BLOCK, Digest, Merged, NewRun, Run, RunBlock, RunPart, WindowId};

#[derive(Debug, Clone)]
pub(in crate::memory) struct RunRow {
    pub(super) lane: i64,
    pub(super) scope: String,
    pub(super) slice: Option<(u16, u16)>,
    pub(super) run: Run,
    pub(super) digests: BTreeSet<u128>,
    /// Whether it is there for all; otherwise somebody writes it, or has left it behind.
    pub(in crate::memory) is_finished: bool,
}

fn digests_of(bytes: &[u8]) -> impl Iterator<Item = u128> {
    bytes.as_chunks::<16>().0.iter().map(|it| Digest::from_bytes(*it).0)
}

impl Data {
    pub(in crate::memory) fn runs(
        &self,
        window: &WindowId<'_>,
        but: &[i64],
        limit: u32,
    ) -> Vec<Run> {
        let used = self.packs.used_runs();
        let runs = self
            .packs
            .runs
            .values()
            .filter(|it| it.is_of(window) && it.is_finished && !but.contains(&it.run.id))
            .filter(|it| used.contains(&it.run.id));
        let runs = runs.map(|it| it.run.clone());
        runs.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
    }

    pub(in crate::memory) fn runs_of(&self, runs: &[i64]) -> Vec<Run> {
        let runs = runs.iter().filter_map(|id| self.packs.runs.get(id));
        runs.filter(|it| it.is_finished).map(|it| it.run.clone()).collect()
    }

    pub(in crate::memory) fn run_blocks(
        &self,
        run: i64,
        after: Option<Digest>,
        limit: u32,
    ) -> Vec<RunBlock> {
        let Some(run) = self.packs.runs.get(&run) else { return Vec::new() };
        let after = after.map_or(Bound::Unbounded, |Digest(after)| Bound::Excluded(after));
        let digests: Vec<u128> = run.digests.range((after, Bound::Unbounded)).copied().collect();
        let block = |digests: &[u128]| RunBlock {
            from: Digest(digests[0]),
            data: digests.iter().flat_map(|it| Digest(*it).to_bytes()).collect(),
        };
        let blocks = digests.chunks(BLOCK).map(block);
        blocks.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
    }

    pub(in crate::memory) fn add_run(
        &mut self,
        held: &Held,
        rows: &[i64],
        new: &NewRun<'_>,
    ) -> Result<bool> {
        let of_window = |id: &i64| {
            let row = self.packs.rows.get(id);
            row.is_some_and(|(_, row)| !row.every_slice && slice_of(row) == wanted(&new.window))
        };
        if !self.is_held(held)
            || !self.are_there(new.window.lane, new.window.scope, rows)
            || !rows.iter().all(of_window)
        {
            return Ok(false);
        }
        let id = new.id;
        if self.packs.runs.contains_key(&id) {
            let message = format!("there is a run {id} of packed markers already");
            return Err(Error::new(ErrorKind::Store, message));
        }
        let run = RunRow {
            run: Run { id, count: new.count, filter: new.filter.to_vec() },
            digests: digests_of(new.digests).collect(),
            is_finished: true,
            ..RunRow::begun(id, &new.window)
        };
        self.packs.runs.insert(id, run);
        for row in rows {
            if let Some((_, row)) = self.packs.rows.get_mut(row) {
                row.run = Some(id);
            }
        }
        Ok(true)
    }

    pub(in crate::memory) fn extend_run(
        &mut self,
        held: &Held,
        part: &RunPart<'_>,
    ) -> Result<bool> {
        if !self.is_held(held) {
            return Ok(false);
        }
        if part.had == 0 {
            if self.packs.runs.contains_key(&part.id) {
                let message = format!("there is a run {} of packed markers already", part.id);
                return Err(Error::new(ErrorKind::Store, message));
            }
            self.packs.runs.insert(part.id, RunRow::begun(part.id, &part.window));
        }
        let run = self
            .packs
            .runs
            .get_mut(&part.id)
            .filter(|it| it.is_of(&part.window) && !it.is_finished && it.run.count == part.had);
        let Some(run) = run else { return Ok(false) };
        let before = run.digests.len();
        run.digests.extend(digests_of(part.digests));
        run.run.count += (run.digests.len() - before) as u64;
        Ok(true)
    }

    pub(in crate::memory) fn merge_runs(&mut self, held: &Held, merged: &Merged<'_>) -> bool {
        let is_there = |(id, count): (i64, u64), is_finished| {
            self.packs.runs.get(&id).is_some_and(|it| {
                it.is_of(&merged.window) && it.is_finished == is_finished && it.run.count == count
            })
        };
        if !self.is_held(held)
            || !is_there((merged.id, merged.count), false)
            || !merged.of.iter().all(|it| is_there(*it, true))
        {
            return false;
        }
        let is_old = |id: i64| merged.of.iter().any(|(it, _)| *it == id);
        for run in self.packs.runs.values_mut() {
            if run.run.id == merged.id {
                run.run.filter = merged.filter.to_vec();
                run.is_finished = true;
            } else if is_old(run.run.id) {
                run.is_finished = false;
            }
        }
        for (_, row) in self.packs.rows.values_mut() {
            if row.run.is_some_and(is_old) {
                row.run = Some(merged.id);
            }
        }
        true
    }

    pub(in crate::memory) fn sweep_runs(&mut self, held: &Held, scope: &str) -> bool {
        if !self.is_held(held) {
            return false;
        }
        let used = self.packs.used_runs();
        let runs = &mut self.packs.runs;
        let before = runs.len();
        runs.retain(|id, it| {
            (it.lane, &*it.scope) != (held.number, scope) || it.is_finished && used.contains(id)
        });
        runs.len() < before
    }
}

impl Packs {
    /// The runs that rows are in.
    fn used_runs(&self) -> BTreeSet<i64> {
        self.rows.values().filter_map(|(_, row)| row.run).collect()
    }

    pub(in crate::memory) fn drop_empty_runs(&mut self, lane: i64, scope: &str) {
        let used = self.used_runs();
        self.runs.retain(|id, run| {
            (run.lane, &*run.scope) != (lane, scope) || !run.is_finished || used.contains(id)
        });
    }

    /// What merges have left in a lane of which no row of the scope is there any more.
    pub(in crate::memory) fn drop_left_over(&mut self, lane: i64, scope: &str) {
        if !self.rows.values().any(|(of, row)| of == scope && row.lane == lane) {
            self.runs.retain(|_, run| (run.lane, &*run.scope) != (lane, scope));
        }
    }
}

impl State {
    pub(in crate::memory) fn in_runs(
        &mut self,
        id: u64,
        asked: &[(i64, Digest)],
    ) -> Result<Vec<bool>> {
        self.tx(id)?;
        let runs = &self.data.packs.runs;
        let run = |id| runs.get(id).filter(|run| run.is_finished);
        let known = asked.iter().map(|(id, digest)| match run(id) {
            Some(run) => Ok(run.digests.contains(&digest.0)),
            None => {
                let message = format!("run {id} of packed markers is not there");
                Err(Error::new(ErrorKind::Transient, message))
            }
        });
        let known: Vec<bool> = known.collect::<Result<_>>()?;
        self.counts.asks += 1;
        self.counts.answers += known.iter().filter(|known| **known).count();
        Ok(known)
    }
}

impl RunRow {
    /// One that has nothing yet.
    fn begun(id: i64, window: &WindowId<'_>) -> Self {
        Self {
            lane: window.lane,
            scope: window.scope.to_owned(),
            slice: wanted(window),
            run: Run { id, count: 0, filter: Vec::new() },
            digests: BTreeSet::new(),
            is_finished: false,
        }
    }

    fn is_of(&self, window: &WindowId<'_>) -> bool {
        self.lane == window.lane && self.scope == window.scope && self.slice == wanted(window)
    }
}
