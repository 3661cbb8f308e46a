//! The low-water mark of a lane in slices: its row, which follows what is done.

use crate::lane::{Held, LogIdentity, Position, Slice, Standing};
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::queue::Queue;
use crate::pipeline::slices::Slices;
use crate::store::{RELOAD, Reposition, Seal, Sealed, Store, Terms, Writer};

/// What is known for moving the lane's row.
pub(super) struct Mark {
    /// The revisions of the slices, as they were after the last turn of each.
    pub(super) revisions: Vec<i64>,
    /// Behind whatever former owners had done. It is not the lane's position: that stays before an
    /// event which one slice is long at, while the others go on.
    passed: i64,
    /// How many events from there on can have been in flight when they died, and are not worked yet.
    suspects: usize,
    /// Behind all events that can have been in flight then, once they were divided.
    calm_at: Option<i64>,
}

/// A move of the lane's row to the low-water mark.
pub(super) struct Move {
    held: Held,
    to: Position,
    identity: LogIdentity,
    slices: Vec<Held>,
    /// Whether the owners that died are forgotten first.
    calm: bool,
}

/// How the lane's row is after a move.
pub(super) struct Moved {
    revision: i64,
    position: Position,
    calm: bool,
}

impl Mark {
    /// Former owners had done nothing from `passed` on, and had at most `ahead` events in flight.
    pub(super) fn new(revisions: Vec<i64>, passed: i64, ahead: usize) -> Self {
        Self { revisions, passed, suspects: ahead, calm_at: None }
    }

    /// Whether no former owner is known to have passed this offset.
    pub(super) fn is_beyond(&self, offset: i64) -> bool {
        offset >= self.passed
    }

    /// So many events beyond what was passed were worked, of those that were divided until now.
    pub(super) fn worked(&mut self, beyond: usize, divided: Position) {
        self.suspects = self.suspects.saturating_sub(beyond);
        if self.suspects == 0 {
            self.calm_at.get_or_insert(divided.offset);
        }
    }

    /// The slices as the lane knows them.
    pub(super) fn slices(&self, lane: &Held) -> Vec<Held> {
        let of = u16::try_from(self.revisions.len()).unwrap_or(u16::MAX);
        let slices = (0..of).zip(&self.revisions).map(|(index, &revision)| {
            let slice = Some(Slice { index, of });
            Held { revision, slice, ..lane.clone() }
        });
        slices.collect()
    }

    /// The move of the lane's row that is due, if one is.
    pub(super) fn next(&self, holding: &Holding, slices: &Slices, queue: &Queue) -> Option<Move> {
        let to = slices.low_water();
        let held = holding.held();
        let is_read = queue.next().is_some_and(|next| next.offset <= slices.end.offset);
        let idle = is_read && slices.events == 0 && self.is_beyond(to.offset);
        let passed = idle || self.calm_at.is_some_and(|calm_at| to.offset >= calm_at);
        (to.offset > held.position.offset).then(|| Move {
            to,
            identity: holding.row.identity.clone(),
            slices: self.slices(&held),
            calm: holding.row.deaths > 0 && passed,
            held,
        })
    }
}

impl Moved {
    pub(super) fn follow(self, holding: &mut Holding) {
        holding.row.revision = self.revision;
        holding.row.position = self.position;
        if self.calm {
            holding.row.deaths = 0;
        }
    }
}

impl<S: Store> Lane<S> {
    /// Divides the lane; as long as it takes.
    pub(super) async fn cut(&self, holding: &Holding, slices: u16) -> Result<Vec<i64>, Tenure> {
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            match self.group.store.cut(&holding.held(), slices).await {
                Ok(Some(revisions)) => return Ok(revisions),
                Ok(None) => return Err(Tenure::Lost(Standing::Fenced)),
                Err(error) => {
                    let pause = backoff.next();
                    self.warn(&error, "the lane cannot be divided, trying again", pause);
                    if self.pause(pause).await {
                        return Err(Tenure::Left);
                    }
                }
            }
        }
    }

    /// Behind whatever the slices are known to have done, which is looked up if former owners died.
    pub(super) async fn passed(&self, holding: &Holding, revisions: &[i64]) -> Result<i64, Tenure> {
        let mut passed = holding.row.position.offset;
        let suspected = holding.row.attempts.iter().any(|it| it.deaths > 0);
        if holding.row.deaths == 0 && !suspected {
            return Ok(passed);
        }
        let of = u16::try_from(revisions.len()).unwrap_or(u16::MAX);
        for (index, &revision) in (0..of).zip(revisions) {
            let held = Held { revision, slice: Some(Slice { index, of }), ..holding.held() };
            let (_, now) = self.standing_of(held).await?;
            passed = passed.max(now.position.offset);
        }
        Ok(passed)
    }

    /// Moves the lane's row to the low-water mark.
    ///
    /// The row alone would not tell that the database lost what slices did since it was moved the
    /// last time: it is moved only where each of them has done at least what is known of it.
    pub(super) async fn advance(&self, next: Move) -> Result<Moved, Tenure> {
        let Move { mut held, to: position, identity, slices, calm } = next;
        let calm = calm && self.calm(&mut held).await;
        let done: Vec<i64> = slices.iter().map(|slice| slice.revision).collect();
        let to = Reposition { position, identity: &identity, new_log: None, slices: &done };
        let moved = match self.group.store.reposition(&held, &to).await {
            Ok(moved) => moved,
            Err(error) => {
                tracing::debug!(error = %error.report(), "the lane's row was not moved");
                // It may have been, if its answer was lost.
                false
            }
        };
        let revision = held.revision + 1;
        if moved {
            return Ok(Moved { revision, position, calm });
        }
        let before = Moved { revision: held.revision, position: held.position, calm };
        match self.standing_of(held).await? {
            (Standing::Held, _) => {}
            (Standing::Ahead, now)
                if now.revision == revision && now.position.offset == position.offset =>
            {
                return Ok(Moved { revision, position, calm });
            }
            (standing, _) => return Err(Tenure::Lost(standing)),
        }
        for slice in slices {
            self.still_there(slice).await?;
        }
        Ok(before)
    }

    /// Forgets the owners that died; answers whether it did. Should it fail, it is tried again with
    /// the next move.
    async fn calm(&self, held: &mut Held) -> bool {
        let store = &self.group.store;
        let done = async {
            let writer = Writer::Lane(held);
            let seal = Seal { position: held.position, offset_scopes: &[] };
            let mut tx = store.begin(&writer, &Terms::default()).await?;
            let sealed = async {
                store.forget_attempts(&mut tx, held, &[], true).await?;
                store.seal(&mut tx, &writer, Some(&seal)).await
            };
            match sealed.await {
                Ok(Sealed::Yes) => store.commit(tx).await.map(|()| true),
                other => {
                    store.rollback(tx).await;
                    other.map(|_| false)
                }
            }
        };
        match done.await {
            Ok(true) => {
                held.revision += 1;
                true
            }
            // Whoever has the lane now is found when the row is moved.
            Ok(false) => false,
            Err(error) => {
                tracing::debug!(error = %error.report(), "the dead owners were not forgotten");
                false
            }
        }
    }

    /// Whether the database still has what a slice, or the lane itself, is known to have done. A
    /// row that is ahead is one of a turn, or of a move, that is under way; unless somebody moved it so far
    /// that the lane is to be taken again, which hides whether the database went back before that.
    async fn still_there(&self, held: Held) -> Result<(), Tenure> {
        let known = held.revision;
        match self.standing_of(held).await? {
            (Standing::Held, _) => Ok(()),
            (Standing::Ahead, now) if now.revision - known < RELOAD => Ok(()),
            (standing, _) => Err(Tenure::Lost(standing)),
        }
    }

    /// Tells the watch and the source how far the lane is.
    pub(super) fn publish(&self, holding: &Holding, slices: &Slices, mark: &Mark) {
        let mut held = holding.held();
        held.revision += mark.revisions.iter().sum::<i64>();
        self.seat.hold(Some((held, holding.row.identity.clone())));
        self.seat.resolve(slices.low_water());
    }

    pub(super) async fn look_sliced(&self, holding: Holding, slices: Vec<Held>) -> Option<Tenure> {
        for held in slices.into_iter().chain([holding.held()]) {
            if let Err(end) = self.still_there(held).await {
                return Some(end);
            }
        }
        self.look_at_log(&holding).await
    }
}
