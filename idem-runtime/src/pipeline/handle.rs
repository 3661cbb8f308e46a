//! Running the handlers of an attempt for what is new.

use crate::error::{Error, ErrorKind};
use crate::failure::{Failure, handler_broke};
use crate::outcome::Decision;
use crate::pipeline::attempt::{Done, Ended, Passing, Trial};
use crate::pipeline::batch::Batch;
use crate::pipeline::failed::Failed;
use crate::pipeline::outside::Outside;
use crate::store::{Fault, Store};
use crate::work::{Item, Room, Stopped};

/// Runs handlers in offset order; those that take a whole batch after the others, each once.
pub(crate) async fn handle<S: Store>(
    trial: &Trial<'_, S>,
    batch: &mut Batch<S>,
    tx: &mut S::Tx,
    done: &Done,
) -> Result<(), Ended> {
    let group = trial.group;
    let range = batch.tasks_of(&trial.events);
    let Batch { events, works, tasks, ran, schemas, .. } = batch;
    let schemas = &*schemas;
    let is_batch = |task: &usize| group.handlers[tasks[*task].handler].is_batch;
    let mut new: Vec<usize> = range
        .zip(&done.decisions)
        .filter(|(task, decision)| {
            // What has happened already is marked, and not run.
            let has_happened = matches!(tasks[*task].outside, Outside::Done(_));
            **decision == Decision::Processed && !has_happened
        })
        .map(|(task, _)| task)
        .collect();
    if group.handlers.len() > 1 {
        // A stable sort: within a kind the order stays.
        new.sort_by_key(|task| is_batch(task).then_some(tasks[*task].handler));
    }
    // Neighbours of one handler are run in one call.
    for run in new.chunk_by(|a, b| tasks[*a].handler == tasks[*b].handler) {
        let handler = tasks[run[0]].handler;
        let registered = &group.handlers[handler];
        let room = Room {
            group: &group.name,
            states: &group.states,
            schemas,
            timeout: registered.policy.timeout,
            correlation: &group.rules.correlation,
        };
        let calm = trial.holding.row.attempts.is_empty();
        let items: Vec<Item<'_>> = run
            .iter()
            .filter_map(|task| {
                let task = &tasks[*task];
                let event = &events[task.event];
                let failures =
                    if calm { 0 } else { trial.holding.failures(registered.scope, event.offset) };
                // What is handled was decoded.
                let key = task.identity.as_ref()?.shown();
                Some(Item { event, key, slot: task.slot, attempt: failures + 1 })
            })
            .collect();
        *ran = true;
        let answers = works[handler].run(tx, &items, room).await.map_err(|stopped| {
            let at = stopped.at.map(|at| tasks[run[at]].event);
            judged::<S>(stopped, at, handler, registered.scope)
        })?;
        if !answers.is_empty() {
            // What was worked without a marker has nothing to keep it beside.
            let marked = |at: usize| tasks[run[at]].key();
            let kept: Vec<_> = answers
                .iter()
                .filter_map(|(at, answer)| Some((registered.scope, marked(*at)?, answer)))
                .collect();
            group.store.keep_results(tx, &kept).await.map_err(|error| {
                // Of several nobody says which it was.
                let alone = if let [task] = run { Some(tasks[*task].event) } else { None };
                not_kept::<S>(error, alone, handler, registered.scope)
            })?;
        }
    }
    Ok(())
}

/// What it means that results are not kept. What does not pass by itself is a failure of the event, or
/// of one of several: tried again for ever, it would hold up the lane, and have the effects that a handler
/// has outside of the database again and again.
fn not_kept<S: Store>(error: Error, at: Option<usize>, handler: usize, scope: &str) -> Ended {
    if error.is_retryable() || error.kind() == ErrorKind::HandlerBroke {
        return Ended::Seal(error);
    }
    let permanent = S::fault(&error) == Fault::Permanent;
    Ended::Failed(Failed::handler(at, handler, scope, Failure::not_kept(error), permanent))
}

/// What a handler's failure is, for the database and for the handler itself.
fn judged<S: Store>(stopped: Stopped, at: Option<usize>, handler: usize, scope: &str) -> Ended {
    let failure = stopped.failure;
    if failure.panicked() || failure.timed_out() {
        return Ended::Failed(Failed::handler(at, handler, scope, failure, false));
    }
    let fault = S::fault(failure.error());
    match fault {
        Fault::Transient | Fault::Lost => {
            let message = format!("scope {scope}: the database failed in the handler");
            let error = Error::new(ErrorKind::Transient, message).with_source(failure.error);
            Ended::Passing(Passing { at, lost: fault == Fault::Lost, error })
        }
        // It may have been an earlier event's handler that ended the transaction.
        Fault::HandlerBroke => {
            let error = handler_broke().context(format_args!("scope {scope}"));
            Ended::Failed(Failed::nobody(error.with_source(failure.error)))
        }
        Fault::Permanent | Fault::Handler => {
            let permanent = fault == Fault::Permanent || failure.is_permanent();
            Ended::Failed(Failed::handler(at, handler, scope, failure, permanent))
        }
    }
}
