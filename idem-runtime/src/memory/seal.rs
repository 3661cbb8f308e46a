//! The seal and the commit: what moves a lane, or a slice of one, and makes a transaction
//! everybody's.

use std::collections::HashMap;

use super::data::SliceRow;
use super::state::{Staged, State};
use crate::error::{Error, ErrorKind};
use crate::lane::{Held, Position};
use crate::store::{Seal, Sealed, Writer};

/// A lane or a slice as it will be.
pub(super) struct Moved {
    pub(super) lane: i64,
    to: To,
}

enum To {
    Lane { position: Position, revision: i64, marks: HashMap<String, i64> },
    Slice { index: usize, row: SliceRow },
}

impl Staged {
    /// Whether the lane's row is locked against everybody: by a seal that moves it, or by a change
    /// of what is known of its owners, or of its packed markers.
    pub(super) fn locks_lane(&self, number: i64) -> bool {
        let moved = self.moved.as_ref();
        self.calm.contains(&number)
            || self.unsettled.contains(&number)
            || moved.is_some_and(|it| it.lane == number && matches!(it.to, To::Lane { .. }))
    }

    /// Whether the lane's row is locked at all. Slices that are sealed share its lock.
    pub(super) fn shares_lane(&self, number: i64) -> bool {
        self.locks_lane(number) || self.moved.as_ref().is_some_and(|it| it.lane == number)
    }

    fn locks_slice(&self, number: i64, slice: usize) -> bool {
        self.moved.as_ref().is_some_and(|it| {
            it.lane == number && matches!(it.to, To::Slice { index, .. } if index == slice)
        })
    }
}

impl State {
    /// Whether somebody who wants to change a lane's row has to wait.
    pub(super) fn is_locked(&self, number: i64) -> bool {
        self.open.values().any(|tx| tx.staged.shares_lane(number))
    }

    /// One try at a seal; `None` when it has to wait.
    pub(super) fn seal(
        &mut self,
        id: u64,
        writer: &Writer<'_>,
        seal: Option<&Seal<'_>>,
    ) -> Result<Option<Sealed>, Error> {
        let moved = match (writer, seal) {
            (Writer::Lane(held), Some(seal)) => {
                if self.seal_waits(id, held)? {
                    return Ok(None);
                }
                match self.moved(held, seal) {
                    Some(moved) => Some(moved),
                    None => return Ok(Some(Sealed::No)),
                }
            }
            _ => None,
        };
        self.counts.seals += 1;
        let tx = self.tx(id)?;
        tx.staged.moved = moved;
        tx.sealed = true;
        Ok(Some(Sealed::Yes))
    }

    fn seal_waits(&mut self, id: u64, held: &Held) -> Result<bool, Error> {
        let number = held.number;
        match held.slice {
            None => self.waits(id, |staged| staged.shares_lane(number)),
            Some(slice) => self.waits(id, |staged| {
                staged.locks_lane(number) || staged.locks_slice(number, usize::from(slice.index))
            }),
        }
    }

    /// Where the seal brings the lane, if token and revision are the ones expected.
    fn moved(&self, held: &Held, seal: &Seal<'_>) -> Option<Moved> {
        let lane = self.data.lanes.get(&held.number)?;
        let expected = lane.revision(held)? == held.revision && lane.row.token == held.token;
        let (position, revision) = (seal.position, held.revision + 1);
        let to = match held.slice {
            None => {
                let mut marks = lane.row.offset_marks.clone();
                for scope in seal.offset_scopes {
                    let mark = marks.entry((*scope).to_owned()).or_insert(0);
                    *mark = seal.position.offset.max(*mark);
                }
                To::Lane { position, revision, marks }
            }
            Some(slice) => {
                let row = SliceRow { position, revision };
                To::Slice { index: usize::from(slice.index), row }
            }
        };
        expected.then_some(Moved { lane: held.number, to })
    }

    /// Makes what the transaction staged everybody's.
    pub(super) fn commit(&mut self, id: u64) -> Result<(), Error> {
        if let Err(error) = self.sound(id) {
            self.roll_back(id);
            return Err(error);
        }
        let Some(tx) = self.open.remove(&id) else { return Ok(()) };
        let rejected = if tx.sealed {
            self.script.rejection(&tx.staged.rows)
        } else {
            Some(Error::new(ErrorKind::HandlerBroke, "the transaction was not sealed"))
        };
        if let Some(error) = rejected {
            self.counts.rollbacks += 1;
            return Err(error);
        }
        self.counts.commits += 1;
        self.keep(tx.staged);
        Ok(())
    }

    fn keep(&mut self, staged: Staged) {
        let data = &mut self.data;
        data.markers.extend(staged.markers);
        data.rows.extend(staged.rows);
        data.packs.rows.extend(staged.packs.into_iter().map(|pack| (pack.1.id, pack)));
        for number in staged.unsettled {
            if let Some(lane) = data.lanes.get_mut(&number) {
                lane.unsettle();
            }
        }
        data.letters.extend(staged.letters);
        for (id, row) in staged.parked {
            match row {
                Some(row) => data.parked.insert(id, row),
                None => data.parked.remove(&id),
            };
        }
        data.list_parked();
        for (number, offset, scope) in staged.forgotten {
            if let Some(lane) = data.lanes.get_mut(&number) {
                lane.row.attempts.retain(|it| (it.offset, &it.scope) != (offset, &scope));
            }
        }
        for number in staged.calm {
            if let Some(lane) = data.lanes.get_mut(&number) {
                lane.row.deaths = 0;
            }
        }
        if let Some(Moved { lane: number, to }) = staged.moved
            && let Some(lane) = data.lanes.get_mut(&number)
        {
            match to {
                To::Lane { position, revision, marks } => {
                    lane.row.position = position;
                    lane.row.revision = revision;
                    lane.row.offset_marks = marks;
                }
                To::Slice { index, row } => {
                    if let Some(slice) = lane.slices.get_mut(index) {
                        *slice = row;
                    }
                }
            }
        }
    }
}
