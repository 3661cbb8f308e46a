//! One attempt at some events of a batch: one transaction.
//!
//! The whole guarantee is the order of the steps in [`steps`]: claim first, effects next, the seal
//! last, and memory only after the commit is confirmed.

use std::ops::Range;
use std::time::Duration;

use crate::dead_letter::Cause;
use crate::error::{Error, ErrorKind};
use crate::group::Group;
use crate::lane::{Held, Position};
use crate::outcome::Decision;
use crate::pipeline::batch::{Batch, Kind};
use crate::pipeline::claim::{claim, full, lock_parked};
use crate::pipeline::failed::Failed;
use crate::pipeline::handle::handle;
use crate::pipeline::holding::Holding;
use crate::pipeline::letters::letters;
use crate::pipeline::packing::Learnt;
use crate::pipeline::plan::Intent;
use crate::pipeline::reuse::Reuse;
use crate::store::{Seal, Sealed, Store, Writer};

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Committed, and the database said so.
    Committed(Done),
    /// A commit was sent and its answer did not arrive.
    Unknown(Done, Error),
    /// Nothing is kept, because of an event.
    Failed(Failed),
    /// Nothing was begun: the database is away.
    Away(Error),
    /// Nothing is kept, for a reason that passes by itself.
    Transient(Passing),
    /// Nothing is kept: the lane's row is not what its owner expected.
    Moved,
    /// Nothing is kept: there is no room to wait for this event.
    Full(usize, Error),
    /// Nothing is kept: what becomes of this event is known when what is before it is committed.
    Apart(usize),
    /// Nothing is kept: the lane is to stop before this event.
    Stop(usize, Error),
    /// Nothing was begun: another attempt at this event may go on for so long.
    Wait(usize, Duration),
}

/// What stood in the way of an attempt and passes by itself.
#[derive(Debug)]
pub(crate) struct Passing {
    /// The event at which a handler's statement met it, if it was one.
    pub(crate) at: Option<usize>,
    /// Whether the connection was lost after handlers had run, which can be what they did to it.
    pub(crate) lost: bool,
    pub(crate) error: Error,
}

/// What a committed attempt did.
#[derive(Debug)]
pub(crate) struct Done {
    /// The lane's position after it.
    pub(crate) position: Position,
    /// For each task of the range, in order.
    pub(crate) decisions: Vec<Decision>,
    pub(crate) intents: Vec<Intent>,
    /// For each task that is an event with another payload under the key of a dead letter.
    pub(crate) corrections: Vec<usize>,
    /// Tasks whose key belongs to another payload.
    pub(crate) reused: Vec<Reuse>,
    /// Tasks that are given up on because whether they were processed is not known any more.
    pub(crate) stale: Vec<(usize, Cause)>,
    /// What the windows learn.
    pub(crate) learnt: Vec<Learnt>,
    /// Whether the owners that died before are forgotten.
    pub(crate) calm: bool,
}

/// What an attempt is about.
pub(crate) struct Trial<'a, S: Store> {
    pub(crate) group: &'a Group<S>,
    pub(crate) holding: &'a mut Holding,
    /// The events of the batch.
    pub(crate) events: Range<usize>,
    /// Whether this much was worked without a death that the former ones may be forgotten.
    pub(crate) calm: bool,
}

/// Tries these events of the batch.
pub(crate) async fn attempt<S: Store>(mut trial: Trial<'_, S>, batch: &mut Batch<S>) -> Attempt {
    let held = trial.holding.held();
    let position = match (&batch.kind, batch.events[trial.events.clone()].last()) {
        (Kind::Delivered, Some(last)) => {
            Position { offset: last.offset + 1, leader_epoch: last.leader_epoch }
        }
        _ => held.position,
    };
    let mut done = Done {
        position,
        decisions: Vec::new(),
        intents: Vec::new(),
        corrections: Vec::new(),
        reused: Vec::new(),
        stale: Vec::new(),
        learnt: Vec::new(),
        calm: trial.calm,
    };
    let ended = steps(&mut trial, batch, &held, &mut done).await;
    let failed = |mut failed: Failed| {
        let tasks = batch.tasks_of(&trial.events).zip(&done.decisions);
        let ran = tasks.filter(|(_, decision)| **decision == Decision::Processed);
        failed.ran = Some(ran.map(|(task, _)| task).collect());
        Attempt::Failed(failed)
    };
    match ended {
        Ok(()) => Attempt::Committed(done),
        Err(Ended::Commit(error)) if error.kind() == ErrorKind::UnknownCommit => {
            Attempt::Unknown(done, error)
        }
        Err(Ended::Moved) => Attempt::Moved,
        Err(Ended::Failed(why)) => failed(why),
        Err(Ended::Begin(error)) => Attempt::Away(error),
        Err(Ended::Passing(passing)) => Attempt::Transient(passing),
        Err(Ended::Full(event, error)) => Attempt::Full(event, error),
        Err(Ended::Apart(event)) => Attempt::Apart(event),
        Err(Ended::Stop(event, error)) => Attempt::Stop(event, error),
        Err(Ended::Claim(error) | Ended::Seal(error) | Ended::Commit(error)) => {
            match error.kind() {
                ErrorKind::HandlerBroke => failed(Failed::nobody(error)),
                _ => Attempt::Transient(Passing { at: None, lost: false, error }),
            }
        }
    }
}

pub(crate) enum Ended {
    Begin(Error),
    Moved,
    Failed(Failed),
    Passing(Passing),
    Full(usize, Error),
    Apart(usize),
    Stop(usize, Error),
    Claim(Error),
    /// After the handlers.
    Seal(Error),
    Commit(Error),
}

/// begin, claim, handle, give up, seal, commit.
async fn steps<S: Store>(
    trial: &mut Trial<'_, S>,
    batch: &mut Batch<S>,
    held: &Held,
    done: &mut Done,
) -> Result<(), Ended> {
    let group = trial.group;
    let writer = Writer::Lane(held);
    let mut tx = group.store.begin(&writer, &group.terms()).await.map_err(Ended::Begin)?;
    let result = async {
        let waiting = lock_parked(trial, batch, held, &mut tx, done).await?;
        claim(trial, batch, held, &mut tx, done).await?;
        full(trial, batch, done, waiting)?;
        handle(trial, batch, &mut tx, done).await?;
        letters(trial, batch, held, &mut tx, done).await?;
        forget(trial, batch, held, &mut tx).await?;
        seal(trial, batch, held, &mut tx, done.position).await
    }
    .await;
    match result {
        Ok(()) => group.store.commit(tx).await.map_err(commit_failed),
        // The handler was dropped in the middle of whatever it did: its connection goes with it.
        Err(Ended::Failed(failed)) if failed.timed_out() => {
            drop(tx);
            Err(Ended::Failed(failed))
        }
        Err(ended) => {
            let good = group.store.rollback(tx).await;
            Err(if good { ended } else { lost(ended) })
        }
    }
}

/// What ended on a connection that turns out to be lost: that is no failure of an event yet, even
/// if the handler has put it in words of its own.
fn lost(ended: Ended) -> Ended {
    match ended {
        Ended::Failed(failed) if failed.may_be_the_connection() => {
            let at = failed.event;
            Ended::Passing(Passing { at, lost: true, error: failed.error })
        }
        Ended::Seal(error) if error.kind() == ErrorKind::Transient => {
            Ended::Passing(Passing { at: None, lost: true, error })
        }
        ended => ended,
    }
}

/// A commit that was refused for what is in it (a deferred constraint) is some event's fault; which
/// one, nobody said.
fn commit_failed(error: Error) -> Ended {
    match error.kind() {
        ErrorKind::Store | ErrorKind::Handler => Ended::Failed(Failed::nobody(error)),
        _ => Ended::Commit(error),
    }
}

/// Forgets what was written about attempts at these events.
async fn forget<S: Store>(
    trial: &Trial<'_, S>,
    batch: &mut Batch<S>,
    held: &Held,
    tx: &mut S::Tx,
) -> Result<(), Ended> {
    let attempts = &trial.holding.row.attempts;
    let calm = trial.calm && trial.holding.row.deaths > 0;
    let stale = &trial.holding.stale;
    if attempts.is_empty() && stale.is_empty() && !calm {
        return Ok(());
    }
    let offsets: Vec<i64> = batch.events[trial.events.clone()]
        .iter()
        .map(|event| event.offset)
        .filter(|offset| attempts.iter().any(|it| it.offset == *offset))
        .chain(stale.iter().copied())
        .collect();
    if offsets.is_empty() && !calm {
        return Ok(());
    }
    let forgotten = trial.group.store.forget_attempts(tx, held, &offsets, calm);
    forgotten.await.map_err(Ended::Seal)
}

/// Moves the lane; always last.
async fn seal<S: Store>(
    trial: &Trial<'_, S>,
    batch: &mut Batch<S>,
    held: &Held,
    tx: &mut S::Tx,
    position: Position,
) -> Result<(), Ended> {
    let offset_scopes = match batch.kind {
        Kind::Delivered => trial.group.offset_scopes(&held.id.topic),
        Kind::Released(_) => Vec::new(),
    };
    let seal = Seal { position, offset_scopes: &offset_scopes };
    match trial.group.store.seal(tx, &Writer::Lane(held), Some(&seal)).await {
        Ok(Sealed::Yes) => Ok(()),
        Ok(Sealed::No) => Err(Ended::Moved),
        Err(error) => Err(Ended::Seal(error)),
    }
}
