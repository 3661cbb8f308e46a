//! One attempt at some events of a batch: one transaction.
//!
//! The whole guarantee is the order of the steps in [`steps`]: claim first, effects next, the seal
//! last, and memory only after the commit is confirmed.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::group::{Group, Room};
use crate::lane::{Held, Position};
use crate::marker::MarkerMode;
use crate::outcome::Decision;
use crate::pipeline::batch::{Batch, Task};
use crate::process::handler_broke;
use crate::store::{Claim, Claimed, Fault, Seal, Sealed, Store, Terms, Writer};

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Committed, and the database said so.
    Committed(Done),
    /// A commit was sent and its answer did not arrive.
    Unknown(Done, Error),
    /// Nothing is kept, because of this event of the batch, or of one that nobody named.
    Failed(Option<usize>, Error),
    /// Nothing was begun: the database is away.
    Away(Error),
    /// Nothing is kept, for a reason that passes by itself; at this event, when it was a handler's
    /// statement that failed.
    Transient(Option<usize>, Error),
    /// Nothing is kept: the lane's row is not what its owner expected.
    Moved,
}

/// What a committed attempt did.
#[derive(Debug)]
pub(crate) struct Done {
    /// The lane's position after it.
    pub(crate) position: Position,
    /// For each task of the range, in order.
    pub(crate) decisions: Vec<Decision>,
}

/// Tries these events of the batch.
pub(crate) async fn attempt<S: Store>(
    group: &Group<S>,
    batch: &mut Batch<S>,
    events: Range<usize>,
    held: &Held,
    offset_marks: &HashMap<String, i64>,
) -> Attempt {
    let tasks = batch.tasks_of(&events);
    let Some(last) = batch.events[events.clone()].last() else {
        return Attempt::Committed(Done { position: held.position, decisions: Vec::new() });
    };
    let position = Position { offset: last.offset + 1, leader_epoch: last.leader_epoch };
    let mut done = Done { position, decisions: vec![Decision::Processed; tasks.len()] };
    match steps(group, batch, tasks, held, offset_marks, &mut done).await {
        Ok(()) => Attempt::Committed(done),
        Err(Ended::Commit(error)) if error.kind() == ErrorKind::UnknownCommit => {
            Attempt::Unknown(done, error)
        }
        Err(Ended::Moved) => Attempt::Moved,
        Err(Ended::Handler(event, error)) => Attempt::Failed(event, error),
        Err(Ended::Begin(error)) => Attempt::Away(error),
        Err(Ended::Passing(event, error)) => Attempt::Transient(Some(event), error),
        Err(Ended::Store(error) | Ended::Commit(error)) => match error.kind() {
            ErrorKind::HandlerBroke => Attempt::Failed(None, error),
            _ => Attempt::Transient(None, error),
        },
    }
}

enum Ended {
    Begin(Error),
    Moved,
    Handler(Option<usize>, Error),
    Passing(usize, Error),
    Store(Error),
    Commit(Error),
}

/// begin, claim, handle, seal, commit.
async fn steps<S: Store>(
    group: &Group<S>,
    batch: &mut Batch<S>,
    tasks: Range<usize>,
    held: &Held,
    offset_marks: &HashMap<String, i64>,
    done: &mut Done,
) -> Result<(), Ended> {
    let writer = Writer::Lane(held);
    let mut tx = group.store.begin(&writer, &Terms::default()).await.map_err(Ended::Begin)?;
    let result = async {
        let all = (&batch.tasks[tasks.clone()], &*batch.events);
        claim(group, all, &writer, &mut tx, offset_marks, done).await?;
        handle(group, batch, &tasks, &mut tx, done).await?;
        seal(group, held, &mut tx, done.position).await
    }
    .await;
    match result {
        Ok(()) => group.store.commit(tx).await.map_err(commit_failed),
        Err(ended) => {
            group.store.rollback(tx).await;
            Err(ended)
        }
    }
}

/// A commit that was refused for what is in it (a deferred constraint) is some event's fault; which
/// one, nobody said.
fn commit_failed(error: Error) -> Ended {
    match error.kind() {
        ErrorKind::Store | ErrorKind::Handler => Ended::Handler(None, error),
        _ => Ended::Commit(error),
    }
}

/// Inserts the markers, each key once and in order, and decides which tasks are duplicates.
async fn claim<S: Store>(
    group: &Group<S>,
    (all, events): (&[Task], &[Event]),
    writer: &Writer<'_>,
    tx: &mut S::Tx,
    offset_marks: &HashMap<String, i64>,
    done: &mut Done,
) -> Result<(), Ended> {
    let scope = |index: usize| group.handlers[all[index].handler].scope;
    let offset = |index: usize| events[all[index].event].offset;

    let mut keyed = Vec::with_capacity(all.len());
    for (index, task) in all.iter().enumerate() {
        match task.mode {
            MarkerMode::Rows => keyed.push(index),
            MarkerMode::Offset => {
                let handled = offset_marks.get(scope(index)).is_some_and(|it| offset(index) < *it);
                if handled {
                    done.decisions[index] = Decision::Duplicate;
                }
            }
        }
    }
    // Sorted, so that two batches that share keys take them in the same order and cannot deadlock.
    // The sort is stable: of equal keys the first in offset order leads.
    keyed.sort_by(|&a, &b| (scope(a), &all[a].key).cmp(&(scope(b), &all[b].key)));
    keyed.dedup_by(|later, first| {
        let same = scope(*later) == scope(*first) && all[*later].key == all[*first].key;
        if same {
            // If the first is processed, this one is a duplicate; if it fails, both are rolled
            // back and neither overtakes the other.
            done.decisions[*later] = Decision::Duplicate;
        }
        same
    });
    let claims: Vec<_> = keyed
        .iter()
        .map(|&index| Claim {
            offset: Some(offset(index)),
            ..Claim::new(scope(index), &all[index].key)
        })
        .collect();
    match group.store.claim(tx, writer, &claims).await.map_err(Ended::Store)? {
        Claimed::Fenced => Err(Ended::Moved),
        Claimed::Keys(new) => {
            for (&index, new) in keyed.iter().zip(new) {
                if !new {
                    done.decisions[index] = Decision::Duplicate;
                }
            }
            Ok(())
        }
    }
}

/// Runs the handlers for what is new, in offset order.
async fn handle<S: Store>(
    group: &Group<S>,
    batch: &mut Batch<S>,
    tasks: &Range<usize>,
    tx: &mut S::Tx,
    done: &Done,
) -> Result<(), Ended> {
    let room = Room { group: &group.name, states: &group.states };
    let new: Vec<usize> = tasks
        .clone()
        .zip(&done.decisions)
        .filter(|(_, decision)| **decision == Decision::Processed)
        .map(|(task, _)| task)
        .collect();
    // Neighbours of one handler are run in one call.
    for run in new.chunk_by(|a, b| batch.tasks[*a].handler == batch.tasks[*b].handler) {
        let handler = batch.tasks[run[0]].handler;
        let slots: Vec<usize> = run.iter().map(|task| batch.tasks[*task].slot).collect();
        let Err(stopped) = batch.works[handler].run(tx, &slots, room).await else { continue };
        let scope = group.handlers[handler].scope;
        let panicked = stopped.failure.panicked();
        let fault = S::fault(stopped.failure.error());
        let cause = stopped.failure.error;
        let event = batch.tasks[run[stopped.at]].event;
        return Err(match fault {
            Fault::Transient | Fault::Lost => Ended::Passing(
                event,
                Error::new(
                    ErrorKind::Transient,
                    format!("scope {scope}: the database failed in the handler"),
                )
                .with_source(cause),
            ),
            // It may have been an earlier event's handler that ended the transaction.
            Fault::HandlerBroke => Ended::Handler(
                None,
                handler_broke().context(format_args!("scope {scope}")).with_source(cause),
            ),
            Fault::Handler | Fault::Permanent => {
                batch.works[handler].failed(slots[stopped.at]);
                let what = if panicked { "the handler panicked" } else { "the handler failed" };
                Ended::Handler(
                    Some(event),
                    Error::new(ErrorKind::Handler, format!("scope {scope}: {what}"))
                        .with_source(cause),
                )
            }
        });
    }
    Ok(())
}

/// Moves the lane; always last.
async fn seal<S: Store>(
    group: &Group<S>,
    held: &Held,
    tx: &mut S::Tx,
    position: Position,
) -> Result<(), Ended> {
    let offset_scopes = group.offset_scopes(&held.id.topic);
    let seal = Seal { position, offset_scopes: &offset_scopes };
    match group.store.seal(tx, &Writer::Lane(held), Some(&seal)).await {
        Ok(Sealed::Yes) => Ok(()),
        Ok(Sealed::No) => Err(Ended::Moved),
        Err(error) => Err(Ended::Store(error)),
    }
}
