//! Lanes: taking one, dividing it, and what is known of attempts at its events.

use std::time::SystemTime;

use uuid::Uuid;

use super::data::{Lane, SliceRow};
use super::state::State;
use crate::error::Error;
use crate::lane::{AttemptRow, Held, LaneId, LaneRow, Observed, Owner};
use crate::store::{NewLog, Reposition};

impl Lane {
    /// The revision of what is held: of the lane, or of a slice of it; `None` when it is not
    /// divided that way.
    pub(super) fn revision(&self, held: &Held) -> Option<i64> {
        match held.slice {
            None => Some(self.row.revision),
            Some(_) => self.slice(held).map(|slice| slice.revision),
        }
    }

    fn slice(&self, held: &Held) -> Option<SliceRow> {
        let slice = held.slice?;
        let slices = Some(&self.slices).filter(|slices| slices.len() == usize::from(slice.of))?;
        slices.get(usize::from(slice.index)).copied()
    }

    /// The row as the one who holds the lane, or a slice of it, reads it.
    pub(super) fn read(&self, held: &Held) -> Option<LaneRow> {
        let mut row = self.row.clone();
        if held.slice.is_some() {
            let slice = self.slice(held)?;
            row.position = slice.position;
            row.revision = slice.revision;
        }
        Some(row)
    }

    pub(super) fn observed(&self) -> Observed {
        let slices: i64 = self.slices.iter().map(|slice| slice.revision).sum();
        let LaneRow { number, token, revision, .. } = self.row;
        Observed { number, token, revision: revision + slices }
    }
}

impl State {
    pub(super) fn beat(&mut self, owner: &Owner) {
        self.data.heartbeats.insert(owner.id, SystemTime::now());
    }

    /// One try at taking a lane; `None` when it has to wait.
    pub(super) fn take(&mut self, id: &LaneId, owner: &Owner) -> Option<Option<LaneRow>> {
        let Some(number) = self.data.lane(id).map(|lane| lane.row.number) else {
            return Some(None);
        };
        if self.is_locked(number) || self.open.values().any(|tx| tx.staged.forgets(number)) {
            return None;
        }
        self.version += 1;
        let died = self.has_died(number, owner);
        self.beat(owner);
        let lane = self.data.lanes.get_mut(&number)?;
        lane.row.deaths += u32::from(died);
        for attempt in &mut lane.row.attempts {
            attempt.deaths += u32::from(died && attempt.open);
            attempt.open = false;
        }
        lane.row.token = Uuid::new_v4();
        lane.owner = Some(owner.clone());
        Some(Some(lane.row.clone()))
    }

    /// Whether the lane's former owner died holding it.
    fn has_died(&self, number: i64, now: &Owner) -> bool {
        let former = self.data.lanes.get(&number).and_then(|lane| lane.owner.as_ref());
        let Some(former) = former.filter(|former| former.id != now.id) else { return false };
        let silent = |heard: &SystemTime| heard.elapsed().is_ok_and(|age| age > now.dead_after);
        former.name == now.name || self.data.heartbeats.get(&former.id).is_none_or(silent)
    }

    /// One try at moving a lane; `None` when it has to wait.
    pub(super) fn reposition(&mut self, held: &Held, to: &Reposition<'_>) -> Option<bool> {
        if self.is_locked(held.number) {
            return None;
        }
        self.version += 1;
        let Some(lane) = self.data.lanes.get_mut(&held.number) else { return Some(false) };
        if lane.row.token != held.token || lane.row.revision != held.revision {
            return Some(false);
        }
        let known = to.slices.iter().enumerate();
        let has = |(index, known): (usize, &i64)| {
            lane.slices.get(index).is_some_and(|slice| slice.revision >= *known)
        };
        if !known.into_iter().all(has) {
            return Some(false);
        }
        lane.row.handled_to = lane.handled_to();
        lane.row.revision += 1;
        lane.row.position = to.position;
        lane.row.identity = to.identity.clone();
        if let Some(new_log) = to.new_log {
            lane.log += 1;
            lane.row.handled_to = match new_log {
                NewLog::Another => 0,
                NewLog::Shorter(high) => lane.row.handled_to.min(high),
            };
            if new_log == NewLog::Another {
                lane.first_log = lane.log;
            }
            lane.row.offset_marks.clear();
            lane.row.floor = 0;
            lane.row.attempts.clear();
            lane.slices.clear();
            if let NewLog::Shorter(high) = new_log {
                let log = lane.log;
                self.data.packs.cut_floors(held.number, log, high);
            }
        }
        Some(true)
    }

    /// One try at dividing a lane; `None` when it has to wait.
    pub(super) fn cut(&mut self, held: &Held, slices: u16) -> Option<Option<Vec<i64>>> {
        if self.is_locked(held.number) {
            return None;
        }
        self.version += 1;
        let lane = self.data.lanes.get_mut(&held.number);
        Some(lane.filter(|lane| lane.row.token == held.token).map(|lane| {
            let slices = usize::from(slices);
            if lane.slices.len() != slices {
                lane.row.handled_to = lane.handled_to();
                lane.slices = vec![SliceRow { position: lane.row.position, revision: 0 }; slices];
            }
            lane.slices.iter().map(|slice| slice.revision).collect()
        }))
    }

    /// One try at recording an attempt; `None` when it has to wait for a transaction that forgets
    /// it.
    pub(super) fn note_attempt(&mut self, held: &Held, attempt: &AttemptRow) -> Option<bool> {
        let place = (held.number, attempt.offset, attempt.scope.clone());
        if self.open.values().any(|tx| tx.staged.forgotten.contains(&place)) {
            return None;
        }
        self.version += 1;
        let lane = self.data.lanes.get_mut(&held.number);
        let Some(lane) = lane.filter(|lane| lane.row.token == held.token) else {
            return Some(false);
        };
        let attempts = &mut lane.row.attempts;
        attempts.retain(|it| (it.offset, &it.scope) != (attempt.offset, &attempt.scope));
        attempts.push(attempt.clone());
        attempts.sort_by(|a, b| (a.offset, &a.scope).cmp(&(b.offset, &b.scope)));
        Some(true)
    }

    /// One try at forgetting attempts; `None` when it has to wait.
    pub(super) fn forget_attempts(
        &mut self,
        id: u64,
        held: &Held,
        offsets: &[i64],
        calm: bool,
    ) -> Result<Option<()>, Error> {
        let number = held.number;
        let Some(lane) = self.data.lanes.get(&number) else { return Ok(Some(())) };
        let at = lane.row.attempts.iter().filter(|it| offsets.contains(&it.offset));
        let places: Vec<_> = at.map(|it| (number, it.offset, it.scope.clone())).collect();
        // A row that needs no change is not locked.
        let calm = calm && lane.row.deaths > 0;
        let held_up = |staged: &super::state::Staged| {
            places.iter().any(|it| staged.forgotten.contains(it))
                || calm && staged.shares_lane(number)
        };
        if self.waits(id, held_up)? {
            return Ok(None);
        }
        let staged = self.staged(id)?;
        staged.forgotten.extend(places);
        if calm {
            staged.calm.insert(number);
        }
        Ok(Some(()))
    }
}

impl super::state::Staged {
    fn forgets(&self, number: i64) -> bool {
        self.forgotten.iter().any(|(lane, _, _)| *lane == number)
    }
}
