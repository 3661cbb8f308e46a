//! Packed markers: rows of digests, runs of them, and windows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, SystemTime};

use super::data::{Data, Lane};
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::lane::{Held, LaneId, LaneRow};
use crate::marker::MarkerState;
use crate::packed::{
    BLOCK, Digest, Floor, Foreign, Merged, NewPack, NewRun, PackRow, Repack, Run, RunBlock,
    RunPart, WindowId, WindowRow, check_settled, has, may_have, only, without,
};
use crate::store::RELOAD;

#[derive(Debug, Clone, Default)]
pub(super) struct Packs {
    /// With the scope of each.
    pub(super) rows: BTreeMap<i64, (String, PackRow)>,
    pub(super) runs: BTreeMap<i64, RunRow>,
    /// The floors of windows, by lane and scope, each with the log that its offsets are of.
    pub(super) floors: BTreeMap<(i64, String), (i32, Floor)>,
    pub(super) next_row: i64,
}

#[derive(Debug, Clone)]
pub(super) struct RunRow {
    lane: i64,
    scope: String,
    slice: Option<(u16, u16)>,
    run: Run,
    digests: BTreeSet<u128>,
    /// Whether it is there for all; otherwise somebody writes it, or has left it behind.
    pub(super) is_finished: bool,
}

fn digests_of(bytes: &[u8]) -> impl Iterator<Item = u128> {
    bytes.as_chunks::<16>().0.iter().map(|it| Digest::from_bytes(*it).0)
}

/// Which slice a row is of; a lane without slices has none.
fn slice_of(row: &PackRow) -> Option<(u16, u16)> {
    row.slice.map(|it| (it.index, it.of))
}

fn wanted(window: &WindowId<'_>) -> Option<(u16, u16)> {
    window.slice.map(|it| (it.index, it.of))
}

impl Data {
    pub(super) fn is_held(&self, held: &Held) -> bool {
        self.lanes.get(&held.number).is_some_and(|lane| lane.row.token == held.token)
    }

    /// All lanes of this one's group and topic.
    pub(super) fn of_topic(&self, lane: i64) -> Vec<i64> {
        let Some(own) = self.lanes.get(&lane) else { return Vec::new() };
        let of_topic = |lane: &&Lane| {
            lane.row.id.group == own.row.id.group && lane.row.id.topic == own.row.id.topic
        };
        self.lanes.values().filter(of_topic).map(|it| it.row.number).collect()
    }

    /// The lanes for which this row is of a former layout, if it is, or that it is for: they may have
    /// just asked for it, or have it in mind.
    fn asking(&self, row: &PackRow) -> Vec<i64> {
        let all = self.of_topic(row.lane);
        if row.every_slice || is_former(row, all.len()) { all } else { Vec::new() }
    }

    /// The lanes that may be asked for a key that is packed from outside of this one.
    fn concerned(&self, lane: i64, scope: &str) -> Vec<i64> {
        let all = self.of_topic(lane);
        let is_former = |(of, row): &(String, PackRow)| {
            of == scope && all.contains(&row.lane) && is_former(row, all.len())
        };
        // One of a partition that is gone is still of the topic that was made anew since.
        let topic = |lane: &i64| self.lanes.get(lane).map(|it| &it.row.identity.topic_id);
        let is_anew = all.iter().any(|it| topic(it) != topic(&lane));
        if is_anew || self.packs.rows.values().any(is_former) { all } else { vec![lane] }
    }

    fn of_window<'a>(&'a self, window: &'a WindowId<'_>) -> impl Iterator<Item = &'a PackRow> + 'a {
        self.packs
            .rows
            .values()
            .filter(|(scope, row)| *scope == window.scope && row.lane == window.lane)
            .map(|(_, row)| row)
    }

    pub(super) fn packs(&self, window: &WindowId<'_>, after: i64, limit: u32) -> Vec<PackRow> {
        let rows = self.of_window(window).filter(|row| {
            row.id > after
                && row.run.is_none()
                && (row.every_slice || slice_of(row) == wanted(window))
        });
        rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).cloned().collect()
    }

    pub(super) fn pack_heads(&self, window: &WindowId<'_>, after: i64, limit: u32) -> Vec<PackRow> {
        let rows = self
            .of_window(window)
            .filter(|row| row.id > after && (row.every_slice || slice_of(row) == wanted(window)));
        let rows = rows.map(|row| PackRow { data: Vec::new(), ..row.clone() });
        rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
    }

    pub(super) fn packs_of(&self, window: &WindowId<'_>, rows: &[i64]) -> Vec<PackRow> {
        self.of_window(window).filter(|row| rows.contains(&row.id)).cloned().collect()
    }

    pub(super) fn runs(&self, window: &WindowId<'_>, but: &[i64], limit: u32) -> Vec<Run> {
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

    pub(super) fn runs_of(&self, runs: &[i64]) -> Vec<Run> {
        let runs = runs.iter().filter_map(|id| self.packs.runs.get(id));
        runs.filter(|it| it.is_finished).map(|it| it.run.clone()).collect()
    }

    pub(super) fn run_blocks(&self, run: i64, after: Option<Digest>, limit: u32) -> Vec<RunBlock> {
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

    pub(super) fn window(&self, window: &WindowId<'_>, now: SystemTime) -> WindowRow {
        let log = self.lanes.get(&window.lane).map_or(0, |lane| lane.log);
        let first_log = self.lanes.get(&window.lane).map_or(0, |lane| lane.first_log);
        let floor = self.packs.floors.get(&(window.lane, window.scope.to_owned()));
        let floor = floor.filter(|(of, _)| *of == log).map(|(_, floor)| *floor);
        let (floor, is_early) = floor.map_or((0, false), |it| (it.offset, it.is_early));
        let handled_to = self.lanes.get(&window.lane).map_or(0, Lane::handled_to);
        let length = self.lengths.get(window.scope).copied();
        let switched = self.switched.get(window.scope);
        let switched = switched.map(|at| now.duration_since(*at).unwrap_or_default());
        let mode = self.mode_of(window.scope);
        let is_forgotten = self.retired.get(window.scope).is_some_and(|row| row.is_forgotten);
        let digest_key = self.lanes.get(&window.lane).and_then(|lane| lane.digest_key);
        WindowRow {
            log,
            first_log,
            floor,
            is_early,
            handled_to,
            switched,
            length,
            now,
            mode,
            is_forgotten,
            digest_key,
        }
    }

    fn is_foreign(
        &self,
        window: &WindowId<'_>,
        partitions: i32,
        scope: &str,
        row: &PackRow,
    ) -> bool {
        let (Some(here), Some(there)) = (self.lanes.get(&window.lane), self.lanes.get(&row.lane))
        else {
            return false;
        };
        let (here, there) = (&here.row.id, &there.row.id);
        let own_slices = row.slice.map(|it| it.of) == window.slice.map(|it| it.of);
        scope == window.scope
            && row.partitions != 0
            && (&here.group, &here.topic) == (&there.group, &there.topic)
            && (row.partitions != partitions
                || row.lane == window.lane && !row.every_slice && !own_slices)
    }

    pub(super) fn foreign(&self, window: &WindowId<'_>, partitions: i32) -> Vec<Foreign> {
        let mut foreign = BTreeMap::<(i64, i32, u16), Foreign>::new();
        for (scope, row) in self.packs.rows.values() {
            if !self.is_foreign(window, partitions, scope, row) {
                continue;
            }
            let Some(lane) = self.lanes.get(&row.lane) else { continue };
            let slices = row.slice.map_or(0, |it| it.of);
            let of = foreign.entry((row.lane, row.partitions, slices)).or_insert_with(|| Foreign {
                id: lane.row.id.clone(),
                partitions: row.partitions,
                slices,
                count: 0,
                last_at: row.last_at,
            });
            of.count += u64::from(row.count);
            of.last_at = of.last_at.max(row.last_at);
        }
        foreign.into_values().collect()
    }

    pub(super) fn foreign_heads(
        &self,
        window: &WindowId<'_>,
        partitions: i32,
        after: i64,
        limit: u32,
    ) -> Vec<PackRow> {
        let rows = self.packs.rows.values();
        let rows = rows.filter(|(scope, row)| {
            row.id > after && !row.every_slice && self.is_foreign(window, partitions, scope, row)
        });
        let rows = rows.map(|(_, row)| PackRow { data: Vec::new(), ..row.clone() });
        rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
    }

    pub(super) fn packs_elsewhere(
        &self,
        window: &WindowId<'_>,
        after: i64,
        limit: u32,
    ) -> Vec<PackRow> {
        let others = self.others(window.lane);
        let rows = self.packs.rows.values().filter(|(scope, row)| {
            scope == window.scope && row.id > after && row.every_slice && others.contains(&row.lane)
        });
        let rows = rows.map(|(_, row)| row.clone());
        rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
    }

    pub(super) fn given_up_elsewhere(&self, lane: i64, scope: &str) -> Vec<Key> {
        let others = self.others(lane).into_iter();
        others.flat_map(|lane| self.given_up_keys(lane, scope)).collect()
    }

    fn others(&self, lane: i64) -> Vec<i64> {
        let mut all = self.of_topic(lane);
        all.retain(|it| *it != lane);
        all
    }

    pub(super) fn given_up_keys(&self, lane: i64, scope: &str) -> Vec<Key> {
        let Some(lane) = self.lanes.get(&lane) else { return Vec::new() };
        let LaneRow { id: LaneId { group, topic, partition }, .. } = &lane.row;
        let of_lane = |origin: &crate::marker::Origin| {
            *origin.group == **group && *origin.topic == **topic && origin.partition == *partition
        };
        let markers = self.markers.iter().filter(|((it, _), marker)| {
            it == scope
                && marker.state != MarkerState::Processed
                && marker.origin.as_ref().is_some_and(of_lane)
        });
        markers.map(|((_, key), _)| key.clone()).collect()
    }

    /// Whether the rows are this scope's, of this lane, and in no run.
    fn are_there(&self, lane: i64, scope: &str, rows: &[i64]) -> bool {
        rows.iter().all(|id| {
            self.packs
                .rows
                .get(id)
                .is_some_and(|(of, row)| of == scope && row.lane == lane && row.run.is_none())
        })
    }

    pub(super) fn repack(&mut self, held: &Held, remove: &[i64], insert: &Repack<'_>) -> bool {
        if !self.is_held(held) || !self.are_there(held.number, insert.scope, remove) {
            return false;
        }
        for id in remove {
            self.packs.rows.remove(id);
        }
        let row = PackRow { lane: held.number, run: None, ..insert.row.clone() };
        self.packs.insert(insert.scope, row);
        true
    }

    pub(super) fn add_run(&mut self, held: &Held, rows: &[i64], new: &NewRun<'_>) -> Result<bool> {
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

    pub(super) fn extend_run(&mut self, held: &Held, part: &RunPart<'_>) -> Result<bool> {
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

    pub(super) fn merge_runs(&mut self, held: &Held, merged: &Merged<'_>) -> bool {
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

    pub(super) fn sweep_runs(&mut self, held: &Held, scope: &str) -> bool {
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

    pub(super) fn forget_packs(
        &mut self,
        held: &Held,
        scope: &str,
        rows: &[i64],
        floor: Option<Floor>,
    ) -> bool {
        let there = |id: &i64| {
            let row = self.packs.rows.get(id);
            row.is_some_and(|(of, row)| of == scope && row.lane == held.number)
        };
        if !self.is_held(held) || !rows.iter().all(there) {
            return false;
        }
        let logs = rows.iter().filter_map(|id| self.packs.rows.get(id)).map(|(_, row)| row.log);
        let lane = self.lanes.get(&held.number);
        let of_lane = lane.map(|lane| (lane.first_log, lane.log));
        let log = match (logs.max(), of_lane) {
            (Some(log), Some((first, _))) if log < first => Some(log),
            (_, of_lane) => of_lane.map(|(_, log)| log),
        };
        for id in rows {
            self.packs.rows.remove(id);
        }
        self.packs.drop_empty_runs(held.number, scope);
        if let (Some(floor), Some(log)) = (floor, log) {
            let place = (held.number, scope.to_owned());
            let known = self.packs.floors.entry(place).or_insert((log, floor));
            let is_early = floor.is_early || known.1.is_early;
            if log > known.0 {
                *known = (log, floor);
            } else if log == known.0 {
                known.1 = Floor { offset: known.1.offset.max(floor.offset), is_early };
            }
        }
        true
    }

    pub(super) fn find_packed(
        &self,
        scope: &str,
        digest: Digest,
    ) -> Result<Vec<(LaneId, PackRow)>> {
        let rows = self.packs.rows.values();
        let rows = rows.filter(|(of, row)| of == scope && may_have(&row.data, digest));
        let at = |(_, row): &(String, PackRow)| {
            let lane = self.lanes.get(&row.lane)?;
            let row = only(row.clone(), digest).transpose()?;
            Some(row.map(|row| (lane.row.id.clone(), row)))
        };
        rows.filter_map(at).collect()
    }
}

impl Packs {
    pub(super) fn insert(&mut self, scope: &str, row: PackRow) {
        self.next_row += 1;
        let id = self.next_row;
        self.rows.insert(id, (scope.to_owned(), PackRow { id, ..row }));
    }

    /// The runs that rows are in.
    fn used_runs(&self) -> BTreeSet<i64> {
        self.rows.values().filter_map(|(_, row)| row.run).collect()
    }

    pub(super) fn drop_empty_runs(&mut self, lane: i64, scope: &str) {
        let used = self.used_runs();
        self.runs.retain(|id, run| {
            (run.lane, &*run.scope) != (lane, scope) || !run.is_finished || used.contains(id)
        });
    }

    /// What merges have left in a lane of which no row of the scope is there any more.
    pub(super) fn drop_left_over(&mut self, lane: i64, scope: &str) {
        if !self.rows.values().any(|(of, row)| of == scope && row.lane == lane) {
            self.runs.retain(|_, run| (run.lane, &*run.scope) != (lane, scope));
        }
    }

    /// How long ago the newest row of the scope was written.
    pub(super) fn age(&self, scope: &str, now: SystemTime) -> Option<Duration> {
        let of_scope = self.rows.values().filter(|(it, _)| it == scope);
        let newest = of_scope.map(|(_, row)| row.last_at).max()?;
        Some(now.duration_since(newest).unwrap_or_default())
    }

    /// The lanes that have something of a scope.
    pub(super) fn lanes_of(&self, scope: &str) -> BTreeSet<i64> {
        let rows = self.rows.values().filter(|(of, _)| of == scope).map(|(_, row)| row.lane);
        let runs = self.runs.values().filter(|run| run.scope == scope).map(|run| run.lane);
        let floors = self.floors.keys().filter(|(_, of)| of == scope).map(|(lane, _)| *lane);
        rows.chain(runs).chain(floors).collect()
    }

    /// The log of a lane has this number from now on, and is what it was below this offset.
    pub(super) fn cut_floors(&mut self, lane: i64, log: i32, high: i64) {
        for ((of, _), (number, floor)) in &mut self.floors {
            if *of == lane && *number == log - 1 {
                *number = log;
                // What is below another one Kafka does not have, if it is that log.
                floor.offset = if floor.is_early { floor.offset.min(high) } else { 0 };
            }
        }
    }

    /// Everything of a scope.
    pub(super) fn drop_scope(&mut self, scope: &str) {
        self.rows.retain(|_, (of, _)| of != scope);
        self.runs.retain(|_, run| run.scope != scope);
        self.floors.retain(|(_, of), _| of != scope);
    }

    /// What a lane that is dropped takes with it.
    pub(super) fn drop_lane(&mut self, lane: i64) {
        self.runs.retain(|_, run| run.lane != lane);
        self.floors.retain(|(of, _), _| *of != lane);
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

impl Lane {
    /// What lies below it was handled before.
    pub(super) fn handled_to(&self) -> i64 {
        let slices = self.slices.iter().map(|slice| slice.position.offset);
        slices.chain([self.row.handled_to, self.row.position.offset]).max().unwrap_or_default()
    }

    /// Whoever owns it commits nothing before it has taken it again.
    pub(super) fn unsettle(&mut self) {
        self.row.revision += RELOAD;
        for slice in &mut self.slices {
            slice.revision += RELOAD;
        }
    }
}

impl State {
    pub(super) fn pack(
        &mut self,
        id: u64,
        held: &Held,
        packs: &[NewPack<'_>],
    ) -> Result<Option<SystemTime>> {
        self.counts.packs += 1;
        self.version += 1;
        let Some(lane) = self.data.lanes.get(&held.number) else { return Ok(None) };
        if lane.row.token != held.token {
            return Ok(None);
        }
        let log = lane.log;
        let began = self.tx(id)?.began;
        for pack in packs {
            let slice = held.slice.filter(|_| !pack.every_slice);
            let row = PackRow { slice, ..new_row(pack, held.number, log, began) };
            self.stage_pack(id, pack.scope, row)?;
        }
        Ok(Some(began))
    }

    fn stage_pack(&mut self, id: u64, scope: &str, row: PackRow) -> Result<()> {
        self.data.packs.next_row += 1;
        let row = PackRow { id: self.data.packs.next_row, ..row };
        self.staged(id)?.packs.push((scope.to_owned(), row));
        Ok(())
    }

    pub(super) fn in_runs(&mut self, id: u64, asked: &[(i64, Digest)]) -> Result<Vec<bool>> {
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

    /// One try at taking a key from outside of its lane; `None` when it has to wait.
    pub(super) fn pack_direct(
        &mut self,
        id: u64,
        number: i64,
        offset: i64,
        pack: &NewPack<'_>,
        digest: Digest,
    ) -> Result<Option<bool>> {
        let lanes = self.data.concerned(number, pack.scope);
        if self.waits(id, |staged| lanes.iter().any(|lane| staged.shares_lane(*lane)))? {
            return Ok(None);
        }
        let Some(lane) = self.data.lanes.get(&number) else {
            let message = format!("lane {number}, of which a key is packed, is gone");
            return Err(Error::new(ErrorKind::Store, message));
        };
        let log = lane.log;
        self.staged(id)?.unsettled.extend(&lanes);
        let own = self.staged(id)?.packs.clone();
        let all = self.data.packs.rows.values().chain(&own);
        let all = all.filter(|(scope, row)| scope == pack.scope && lanes.contains(&row.lane));
        let mut partitions = pack.partitions;
        for (_, row) in all {
            if has(row, digest)? {
                return Ok(Some(false));
            }
            if row.lane == number && row.partitions != 0 {
                partitions = row.partitions;
            }
        }
        let began = self.tx(id)?.began;
        let row = new_row(pack, number, log, began);
        let row = PackRow {
            every_slice: true,
            partitions,
            first_offset: offset,
            last_offset: offset,
            ..row
        };
        self.stage_pack(id, pack.scope, row)?;
        Ok(Some(true))
    }

    /// One try at forgetting a key; `None` when it has to wait.
    pub(super) fn forget_marker(
        &mut self,
        scope: &str,
        key: &Key,
        digest: Digest,
    ) -> Option<Result<bool>> {
        let place = (scope.to_owned(), key.clone());
        let mut staged = self.open.values().map(|tx| &tx.staged);
        if staged.any(|it| {
            it.markers.contains_key(&place)
                || it.letters.values().any(|letter| letter.is_open_of(scope, key))
        }) {
            return None;
        }
        let marker = self.data.markers.get(&place);
        let is_open = self.data.letters.values().any(|letter| letter.is_open_of(scope, key));
        if let Err(error) = check_settled(scope, key, marker.map(|it| it.state), is_open) {
            return Some(Err(error));
        }
        let (mut changes, mut asking) = (Vec::new(), Vec::new());
        for (id, (of, row)) in &self.data.packs.rows {
            if of == scope {
                match without(row, digest) {
                    Ok(None) => {}
                    Ok(Some(left)) => {
                        asking.extend(self.data.asking(row));
                        changes.push((*id, row.lane, left));
                    }
                    Err(damaged) => return Some(Err(damaged)),
                }
            }
        }
        // A run also has what was in rows of it that aged out before the others.
        let runs = self.data.packs.runs.iter();
        let runs = runs.filter(|(_, it)| it.is_finished && it.scope == scope);
        let runs = runs.filter(|(_, it)| it.digests.contains(&digest.0));
        let runs: Vec<(i64, i64)> = runs.map(|(id, it)| (*id, it.lane)).collect();
        // Lanes also keep in mind what was given up on once, and has no row any more.
        let origin = marker.filter(|_| self.data.is_packed(scope));
        let origin = origin.and_then(|it| it.origin.clone()).and_then(|origin| {
            let (group, topic) = (origin.group.as_str().into(), origin.topic.as_str().into());
            let id = LaneId { group, topic, partition: origin.partition };
            self.data.lane(&id).map(|lane| self.data.of_topic(lane.row.number))
        });
        let lanes: BTreeSet<i64> = changes
            .iter()
            .map(|it| it.1)
            .chain(origin.into_iter().flatten())
            .chain(asking)
            .collect();
        let lanes: BTreeSet<i64> = lanes.into_iter().chain(runs.iter().map(|it| it.1)).collect();
        if lanes.iter().any(|number| self.is_locked(*number)) {
            return None;
        }
        self.version += 1;
        for number in lanes {
            if let Some(lane) = self.data.lanes.get_mut(&number) {
                lane.unsettle();
            }
        }
        let was_marked = self.data.markers.remove(&place).is_some();
        let found = was_marked || !changes.is_empty() || !runs.is_empty();
        let packs = &mut self.data.packs;
        for (run, _) in runs {
            if let Some(run) = packs.runs.get_mut(&run) {
                run.digests.remove(&digest.0);
                run.run.count -= 1;
            }
        }
        for (id, lane, left) in changes {
            packs.rows.remove(&id);
            if let Some(left) = left {
                packs.insert(scope, left);
            }
            packs.drop_empty_runs(lane, scope);
        }
        Some(Ok(found))
    }
}

/// Whether this row is of another layout than with so many partitions.
fn is_former(row: &PackRow, partitions: usize) -> bool {
    row.partitions != 0 && usize::try_from(row.partitions) != Ok(partitions)
}

fn new_row(pack: &NewPack<'_>, lane: i64, log: i32, at: SystemTime) -> PackRow {
    PackRow {
        id: 0,
        lane,
        slice: None,
        every_slice: pack.every_slice,
        partitions: pack.partitions,
        log,
        first_offset: pack.first_offset,
        last_offset: pack.last_offset,
        count: pack.count,
        first_at: at,
        last_at: at,
        run: None,
        data: pack.data.to_vec(),
    }
}
