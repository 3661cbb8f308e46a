//! What is done from outside of a lane, in memory.

use std::collections::BTreeSet;

use super::new_row;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::lane::LaneId;
use crate::memory::data::Data;
use crate::memory::state::State;
use crate::packed::{Digest, NewPack, PackRow, check_settled, has, may_have, only, without};

impl Data {
    pub(in crate::memory) fn find_packed(
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

impl State {
    /// One try at taking a key from outside of its lane; `None` when it has to wait.
    pub(in crate::memory) fn pack_direct(
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
    pub(in crate::memory) fn forget_marker(
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
pub(super) fn is_former(row: &PackRow, partitions: usize) -> bool {
    row.partitions != 0 && usize::try_from(row.partitions) != Ok(partitions)
}
