//! What random worlds with packed markers have in common: how little is done at once, how little memory
//! there is, and which states they came to, so that a model that has become too tame is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::harness::{Running, World};
use crate::memory::{Pause, Point};
use crate::packed::{Budget, PackRow};
use crate::pipeline::lane::LaneEnd;
use crate::pipeline::policy::Portions;
use crate::pipeline::stop::Stop;
use crate::random::Random;

/// Very little at once, so that everything is done many times.
pub(super) const PORTIONS: Portions = Portions {
    small: 8,
    many: 3,
    joined: 12,
    least: 1,
    run: 10,
    page: 3,
    runs: 3,
    merged: 40,
    part: 1,
    step: 4,
    spare: 2,
};

/// How much memory there is for windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Plenty,
    /// For those of a few lanes and for filters, but not for zombies as well.
    Little,
    /// None: everything is put into runs, and no filter is kept.
    None,
}

impl Room {
    pub(super) fn furnish(self, world: &mut World) {
        world.settings.portions = PORTIONS;
        match self {
            Self::Plenty => world.budget = Budget::new(256 << 20),
            Self::Little => world.budget = Budget::new(4_000),
            Self::None => world.budget = Budget::new(0),
        }
    }
}

/// What happened, and how often.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<&'static str, u128>);

impl Seen {
    pub(super) fn note(&mut self, what: &'static str, count: impl Into<u128>) {
        *self.0.entry(what).or_default() += count.into();
    }

    /// Somebody dies, or is taken the lane from, or the database goes back, in the middle of these.
    pub(super) fn amid(&mut self, held_up: &[(Point, Pause)]) {
        for (point, _) in held_up.iter().filter(|(_, pause)| pause.is_reached()) {
            match point {
                Point::AddRun => self.note("broken off: a run that is written", true),
                Point::Repack => self.note("broken off: rows that are joined", true),
                Point::RunBlocks | Point::ExtendRun | Point::MergeRuns => {
                    self.note("broken off: runs that are merged", true);
                }
                Point::SweepRuns => self.note("broken off: runs that are deleted", true),
                Point::ForgetPacks => self.note("broken off: rows that are forgotten", true),
                Point::InRuns => self.note("broken off: a question to runs", true),
                _ => {}
            }
        }
    }

    /// What the database did with packed markers.
    pub(super) fn note_store(&mut self, world: &World) {
        let counts = world.store.counts();
        self.note("runs", counts.runs as u64);
        self.note("merged runs", counts.merges as u64);
        self.note("questions to runs", counts.asks as u64);
        self.note("keys found in runs", counts.answers as u64);
        self.note("joined rows", counts.repacks as u64);
        self.note("rows that aged", counts.forgets as u64);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            self.note(what, *count);
        }
    }

    /// What of this never happened.
    pub(super) fn never(&self, whats: &[&'static str]) -> Vec<&'static str> {
        let never = |what: &&&str| self.0.get(**what).is_none_or(|count| *count == 0);
        whats.iter().filter(never).copied().collect()
    }
}

/// What a model must have come to, wherever markers are packed.
pub(super) const PACKED_STATES: [&str; 15] = [
    "runs",
    "merged runs",
    "questions to runs",
    "keys found in runs",
    "joined rows",
    "rows that aged",
    "runs that aged",
    "growth beside runs",
    "restored to other runs",
    "broken off: a run that is written",
    "broken off: rows that are joined",
    "broken off: runs that are merged",
    "broken off: runs that are deleted",
    "broken off: rows that are forgotten",
    "broken off: a question to runs",
];

/// The tending to windows, and what loads and asks them, at one of the points where that is held up.
pub(super) fn held_up(world: &World, random: &mut Random) -> (Point, Pause) {
    use Point::{
        AddRun, ExtendRun, ForgetPacks, InRuns, MergeRuns, Packs, Repack, RunBlocks, SweepRuns,
        Window,
    };
    let points = [AddRun, AddRun, Repack, Packs, Window, InRuns, InRuns];
    let forgets = [ForgetPacks; 4];
    let merges = [RunBlocks, ExtendRun, MergeRuns, MergeRuns, SweepRuns];
    let points = [&points[..], &forgets[..], &merges[..]].concat();
    let point = random.pick(&points);
    (point, world.store.faults().pause(point))
}

/// Whether there are packed markers of another layout, which have to fit into memory.
pub(super) fn is_wide(world: &World, slices: Option<u16>) -> bool {
    let partitions = world.broker.partitions().end;
    let is_foreign = |row: &PackRow| {
        let of = row.slice.map(|it| it.of);
        !row.every_slice && (row.partitions != partitions || of != slices)
    };
    ["bill", "audit"].iter().any(|scope| world.packs(scope).iter().any(is_foreign))
}

/// The end of a lane. One whose memory was too little for another layout may have stopped, which somebody
/// sees.
pub(super) async fn leave(world: &World, lane: Running, seen: &mut Seen) {
    lane.ask(Stop::Finish);
    let seat = Arc::clone(&lane.seat);
    match lane.ended().await {
        LaneEnd::Left => {}
        LaneEnd::Stopped(error) if error.to_string().contains("raise it") => {
            seen.note("too little memory for another layout", true);
        }
        end @ LaneEnd::Stopped(_) => panic!("{end:?}"),
    }
    world.broker.commit_resolved(&seat);
}
