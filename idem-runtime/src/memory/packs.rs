//! Packed markers: rows of digests, runs of them, and windows.

mod outside;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use self::outside::is_former;
use self::runs::RunRow;
use super::data::{Data, Lane};
use super::state::State;
use crate::error::Result;
use crate::key::Key;
use crate::lane::{Held, LaneId, LaneRow};
use crate::marker::MarkerState;
use crate::packed::{Floor, Foreign, NewPack, PackRow, Repack, WindowId, WindowRow};
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
}

impl Packs {
    pub(super) fn insert(&mut self, scope: &str, row: PackRow) {
        self.next_row += 1;
        let id = self.next_row;
        self.rows.insert(id, (scope.to_owned(), PackRow { id, ..row }));
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
