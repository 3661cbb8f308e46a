//! Packed markers: what is recorded and forgotten beside the work of lanes.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::data::{Data, RetiredRow};
use super::state::State;
use crate::error::Result;
use crate::lane::Held;
use crate::scope::{Registration, Retired};

impl Data {
    pub(super) fn note_digest_key(&mut self, held: &Held, id: [u8; 8]) -> Option<[u8; 8]> {
        let lane = self.lanes.get_mut(&held.number)?;
        (lane.row.token == held.token).then(|| *lane.digest_key.get_or_insert(id))
    }

    pub(super) fn forget_gone(
        &mut self,
        held: &Held,
        lane: i64,
        scope: &str,
        rows: &[i64],
    ) -> bool {
        let of_topic = |number| {
            let id = self.lanes.get(&number).map(|lane| &lane.row.id);
            id.map(|id| (&id.group, &id.topic))
        };
        let there = |id: &i64| {
            let row = self.packs.rows.get(id);
            row.is_some_and(|(of, row)| of == scope && row.lane == lane)
        };
        let is_other = lane != held.number && of_topic(lane) == of_topic(held.number);
        if !self.is_held(held) || !is_other || !rows.iter().all(there) {
            return false;
        }
        for id in rows {
            self.packs.rows.remove(id);
        }
        self.packs.drop_empty_runs(lane, scope);
        self.packs.drop_left_over(lane, scope);
        true
    }

    /// What a retired scope has; `None` for one that is not retired.
    pub(super) fn retired(&self, scope: &str) -> Option<Retired> {
        let row = self.retired.get(scope)?;
        Some(match row.is_forgotten {
            false => Retired::Kept,
            true if self.packs.lanes_of(scope).is_empty() => Retired::Forgotten,
            true => Retired::Leaving,
        })
    }

    /// The scopes of a group that are retired and have something to forget.
    fn leaving(&self, group: &str, after: Option<Duration>, now: SystemTime) -> Vec<String> {
        let is_due = |row: &RetiredRow| {
            let age = now.duration_since(row.at).unwrap_or_default();
            row.is_forgotten || after.is_some_and(|after| age >= after)
        };
        let retired = self.retired.iter().filter(|(scope, row)| {
            is_due(row) && self.owns(group, scope) && !self.packs.lanes_of(scope).is_empty()
        });
        retired.map(|(scope, _)| scope.clone()).collect()
    }
}

impl State {
    /// One try at a registration; `None` when a lane that it moves is locked.
    pub(super) fn register(&mut self, registration: &Registration<'_>) -> Option<Result<()>> {
        let lanes = self.data.of_group(registration.group);
        let switches = self.data.switches(registration);
        if switches && lanes.iter().any(|number| self.is_locked(*number)) {
            return None;
        }
        self.version += 1;
        let now = self.clock.now();
        Some(self.data.register(registration, now))
    }

    /// One try at forgetting what retired scopes have; `None` when it has to wait.
    pub(super) fn forget_retired(
        &mut self,
        group: &str,
        after: Option<Duration>,
    ) -> Option<Vec<String>> {
        let scopes = self.data.leaving(group, after, self.clock.now());
        // Recorded before anything is deleted: who loads a window meanwhile is told.
        for scope in &scopes {
            if let Some(row) = self.data.retired.get_mut(scope) {
                row.is_forgotten = true;
            }
        }
        // Each of the topic may ask the others for what they have.
        let lanes = scopes.iter().flat_map(|scope| self.data.packs.lanes_of(scope));
        let lanes: BTreeSet<i64> = lanes.flat_map(|lane| self.data.of_topic(lane)).collect();
        if lanes.iter().any(|number| self.is_locked(*number)) {
            return None;
        }
        self.version += 1;
        for number in lanes {
            if let Some(lane) = self.data.lanes.get_mut(&number) {
                lane.unsettle();
            }
        }
        for scope in &scopes {
            self.data.packs.drop_scope(scope);
        }
        Some(scopes)
    }
}
