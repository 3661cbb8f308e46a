//! What is committed: the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::letters::Letter;
use super::packs::Packs;
use crate::error::Error;
use crate::key::Key;
use crate::lane::{LaneId, LaneRow, Owner, Position};
use crate::marker::{Marker, MarkerMode};
use crate::scope::{Registration, ScopeRow};
use crate::store::Opening;

/// A state of the whole database, to come back to.
#[derive(Debug, Clone)]
pub struct Snapshot(pub(super) Data);

/// A row of a user's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) table: String,
    pub(super) value: String,
}

#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// With its attempts; the parked keys in it are those of [`Data::parked`].
    pub(super) row: LaneRow,
    /// Who took it; `None` after a clean release.
    pub(super) owner: Option<Owner>,
    /// What it is divided into.
    pub(super) slices: Vec<SliceRow>,
    /// One more each time that the topic was made anew, or lost its tail.
    pub(super) log: i32,
    /// What it was when the topic was made anew.
    pub(super) first_log: i32,
    /// Which key its digests are made with, once that is known.
    pub(super) digest_key: Option<[u8; 8]>,
}

/// A retired scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetiredRow {
    pub(super) at: SystemTime,
    /// Whether what it had packed is forgotten, or is being so.
    pub(super) is_forgotten: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SliceRow {
    pub(super) position: Position,
    pub(super) revision: i64,
}

/// An instance of a broadcast group.
#[derive(Debug, Clone)]
pub(super) struct InstanceRow {
    pub(super) broadcast: String,
    pub(super) seen_at: SystemTime,
}

/// A message key in a lane, behind which a scope's events wait.
pub(super) type ParkedId = (i64, String, Vec<u8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ParkedRow {
    pub(super) waiting: u32,
    pub(super) released: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    /// `None` until the store is migrated.
    pub(super) id: Option<Uuid>,
    pub(super) markers: BTreeMap<(String, Key), Marker>,
    pub(super) lanes: BTreeMap<i64, Lane>,
    next_lane: i64,
    scopes: Vec<ScopeRow>,
    pub(super) retired: BTreeMap<String, RetiredRow>,
    /// When scopes began to keep their markers in another form.
    pub(super) switched: BTreeMap<String, SystemTime>,
    /// The windows of scopes that pack, or did.
    pub(super) lengths: BTreeMap<String, Duration>,
    /// What digests are made with, made with the store's identity.
    pub(super) digest_key: Uuid,
    pub(super) packs: Packs,
    pub(super) rows: Vec<Row>,
    pub(super) letters: BTreeMap<i64, Letter>,
    pub(super) next_letter: i64,
    pub(super) parked: BTreeMap<ParkedId, ParkedRow>,
    /// By the group of each.
    pub(super) instances: BTreeMap<String, InstanceRow>,
    /// When each owner was last heard of.
    pub(super) heartbeats: BTreeMap<Uuid, SystemTime>,
}

impl Data {
    pub(super) fn migrate(&mut self) {
        if self.id.is_none() {
            self.renew();
        }
    }

    pub(super) fn renew(&mut self) {
        self.id = Some(Uuid::new_v4());
        self.digest_key = Uuid::new_v4();
    }

    /// Whether the scope is this group's.
    pub(super) fn owns(&self, group: &str, scope: &str) -> bool {
        self.scopes.iter().any(|row| row.scope == scope && row.group == group)
    }

    /// Whether some of its markers are packed, or are to be.
    pub(super) fn has_packed(&self, scope: &str) -> bool {
        self.is_packed(scope) || self.packs.rows.values().any(|(of, _)| of == scope)
    }

    /// Whether the scope is recorded as packed.
    pub(super) fn is_packed(&self, scope: &str) -> bool {
        self.mode_of(scope) == Some(MarkerMode::Packed)
    }

    /// A scope is worked in this form.
    pub(super) fn note_mode(&mut self, scope: &str, mode: MarkerMode, now: SystemTime) {
        if self.mode_of(scope).is_some_and(|recorded| recorded != mode) {
            self.switched.insert(scope.to_owned(), now);
        }
    }

    /// How a scope is recorded to keep its markers.
    pub(super) fn mode_of(&self, scope: &str) -> Option<MarkerMode> {
        self.scopes.iter().find(|row| row.scope == scope).map(|row| row.mode)
    }

    pub(super) fn lane(&self, id: &LaneId) -> Option<&Lane> {
        self.lanes.values().find(|lane| lane.row.id == *id)
    }

    pub(super) fn lane_mut(&mut self, id: &LaneId) -> Option<&mut Lane> {
        self.lanes.values_mut().find(|lane| lane.row.id == *id)
    }

    pub(super) fn drop_lane(&mut self, id: &LaneId) -> bool {
        let Some(number) = self.lane(id).map(|lane| lane.row.number) else { return false };
        self.parked.retain(|(lane, _, _), _| *lane != number);
        self.packs.drop_lane(number);
        self.lanes.remove(&number).is_some()
    }

    pub(super) fn open_topic(&mut self, opening: &Opening<'_>) {
        for &(partition, position) in opening.lanes {
            let id = LaneId { group: opening.group.into(), topic: opening.topic.into(), partition };
            if self.lane(&id).is_none() {
                self.next_lane += 1;
                let number = self.next_lane;
                let row = LaneRow::new(id, number, position, opening.identity.clone());
                let (owner, slices, digest_key) = (None, Vec::new(), None);
                self.lanes
                    .insert(number, Lane { row, owner, slices, log: 0, first_log: 0, digest_key });
            }
        }
    }

    /// Whether the group is this broadcast group's instance, or can be: it was forgotten, with all that
    /// it had.
    pub(super) fn can_be_instance(&self, group: &str, broadcast: &str) -> bool {
        match self.instances.get(group) {
            Some(row) => row.broadcast == broadcast,
            None => !self.scopes.iter().any(|row| row.group == group),
        }
    }

    /// Whether a scope keeps its markers in another form than before, with a registration.
    pub(super) fn switches(&self, registration: &Registration<'_>) -> bool {
        let is_other = |(scope, mode): &(&str, MarkerMode)| {
            self.scopes.iter().any(|row| row.scope == *scope && row.mode != *mode)
        };
        registration.scopes.iter().any(is_other)
    }

    /// The lanes of a group.
    pub(super) fn of_group(&self, group: &str) -> Vec<i64> {
        let lanes = self.lanes.iter().filter(|(_, lane)| &*lane.row.id.group == group);
        lanes.map(|(number, _)| *number).collect()
    }

    /// The highest floor of a scope below which something was forgotten early.
    fn early_floor(&self, scope: &str) -> Option<i64> {
        let floors = self.packs.floors.iter().filter(|((lane, of), (log, floor))| {
            of == scope
                && floor.is_early
                && self.lanes.get(lane).is_some_and(|lane| lane.log == *log)
        });
        floors.map(|(_, (_, floor))| floor.offset).max()
    }

    /// Forgets whatever is not in the lanes of these groups.
    pub(super) fn forget_groups(&mut self, groups: &[String]) {
        let is_gone = |row: &ScopeRow| groups.contains(&row.group);
        let scopes: BTreeSet<String> =
            self.scopes.iter().filter(|row| is_gone(row)).map(|row| row.scope.clone()).collect();
        self.markers.retain(|(scope, _), _| !scopes.contains(scope));
        self.packs.rows.retain(|_, (scope, _)| !scopes.contains(scope));
        self.letters.retain(|_, letter| !groups.iter().any(|it| *it == letter.group()));
        self.scopes.retain(|row| !is_gone(row));
        self.switched.retain(|scope, _| !scopes.contains(scope));
        self.lengths.retain(|scope, _| !scopes.contains(scope));
        self.retired.retain(|scope, _| !scopes.contains(scope));
        self.instances.retain(|group, _| !groups.contains(group));
    }

    /// Brings the lanes' rows up to what is parked.
    pub(super) fn list_parked(&mut self) {
        for (number, lane) in &mut self.lanes {
            let keys = self.parked.keys().filter(|(lane, _, _)| lane == number);
            lane.row.parked = keys.map(|(_, scope, key)| (scope.clone(), key.clone())).collect();
        }
    }

    pub(super) fn register(
        &mut self,
        registration: &Registration<'_>,
        now: SystemTime,
    ) -> Result<(), Error> {
        let asked = |row: &ScopeRow| registration.scopes.iter().any(|(it, _)| *it == row.scope);
        let recorded: Vec<_> = self
            .scopes
            .iter()
            .filter(|row| {
                asked(row)
                    || row.group == registration.group && !self.retired.contains_key(&row.scope)
            })
            .map(|row| {
                let of_another = Some(&row.scope).filter(|_| row.group != registration.group);
                ScopeRow {
                    packed: of_another.and_then(|it| self.packs.age(it, now)),
                    early: of_another.and_then(|it| self.early_floor(it)),
                    retired: self.retired(&row.scope),
                    ..row.clone()
                }
            })
            .collect();
        let instance = self.instances.get(registration.group);
        let plan = registration.review(&recorded, instance.map(|row| row.broadcast.as_str()))?;
        match registration.broadcast {
            Some(broadcast) => {
                let seen_at = SystemTime::now();
                let row = InstanceRow { broadcast: broadcast.to_owned(), seen_at };
                self.instances.insert(registration.group.to_owned(), row);
            }
            None => _ = self.instances.remove(registration.group),
        }
        for row in self.scopes.iter_mut().filter(|row| plan.adopt.contains(&row.scope)) {
            registration.group.clone_into(&mut row.group);
        }
        for (scope, mode) in plan.switch {
            for row in self.scopes.iter_mut().filter(|row| row.scope == scope) {
                row.mode = mode;
            }
            self.switched.insert(scope, now);
            // Whoever works on one of the group's lanes is to know.
            for number in self.of_group(registration.group) {
                // One that was just opened stays so: what a start made of a commit of before is not taken
                // for a rewind.
                if let Some(lane) = self.lanes.get_mut(&number).filter(|it| it.row.revision > 0) {
                    lane.unsettle();
                }
            }
        }
        for (scope, length) in registration.windows {
            self.lengths.insert((*scope).to_owned(), *length);
        }
        self.scopes.extend(plan.insert.into_iter().map(|(scope, mode)| ScopeRow {
            scope,
            group: registration.group.to_owned(),
            mode,
            packed: None,
            early: None,
            retired: None,
        }));
        let retired = RetiredRow { at: now, is_forgotten: false };
        self.retired.extend(plan.retire.into_iter().map(|scope| (scope, retired)));
        // A retired handler that came back is a handler again.
        for (scope, _) in registration.scopes {
            self.retired.remove(*scope);
        }
        Ok(())
    }
}
