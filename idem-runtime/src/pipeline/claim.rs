//! The claim of an attempt: each key once and in order, and what the answer decides.

use crate::dead_letter::LetterFilter;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::key::Key;
use crate::lane::Held;
use crate::marker::{MarkerMode, MarkerState};
use crate::outcome::Decision;
use crate::pipeline::attempt::{Done, Ended, Trial};
use crate::pipeline::batch::{Batch, Kind, Task};
use crate::pipeline::plan::{Intent, asked, intents};
use crate::policy::OnFailure;
use crate::store::{Claim, Claimed, Store, Writer};

/// Decides what is intended with each task; where events wait, in agreement with the database.
pub(crate) async fn lock_parked<S: Store>(
    trial: &mut Trial<'_, S>,
    batch: &mut Batch<S>,
    held: &Held,
    tx: &mut S::Tx,
    done: &mut Done,
) -> Result<(), Ended> {
    let (group, tasks) = (trial.group, batch.tasks_of(&trial.events));
    done.intents = intents(group, batch, &tasks, &trial.holding.parked);
    let keys = asked(group, batch, &tasks, &done.intents, &trial.holding.parked);
    if keys.is_empty() {
        return Ok(());
    }
    let waiting = group.store.parked(tx, held, &keys).await.map_err(Ended::Claim)?;
    for ((scope, key), waiting) in keys.iter().zip(&waiting) {
        if waiting.is_none() {
            // Released, and nothing waits any more. Nobody but this lane parks, so it stays so.
            trial.holding.parked.remove(scope, key);
        }
    }
    done.intents = intents(group, batch, &tasks, &trial.holding.parked);
    let room = |scope: &str, key: &[u8]| {
        let index = keys.iter().position(|it| *it == (scope, key));
        index.and_then(|index| waiting[index]).unwrap_or(0)
    };
    full(trial, batch, done, room)
}

/// Whether there is room to wait for all of them.
fn full<S: Store>(
    trial: &Trial<'_, S>,
    batch: &Batch<S>,
    done: &Done,
    waiting: impl Fn(&str, &[u8]) -> u32,
) -> Result<(), Ended> {
    let mut counts = std::collections::HashMap::new();
    let tasks = &batch.tasks[batch.tasks_of(&trial.events)];
    for (task, intent) in tasks.iter().zip(&done.intents) {
        let handler = &trial.group.handlers[task.handler];
        let event = &batch.events[task.event];
        let (Intent::Wait, Some(key)) = (intent, event.message_key.as_deref()) else { continue };
        let limit = match handler.on_failure() {
            OnFailure::ParkKey { limit } => limit,
            // Parked by a former release of the handler.
            _ => u32::MAX,
        };
        let count =
            counts.entry((task.handler, key)).or_insert_with(|| waiting(handler.scope, key));
        if *count >= limit {
            let error = Error::new(
                ErrorKind::Handler,
                format!(
                    "topic {}, partition {}, offset {}, scope {}: {limit} events wait behind a \
                     parked one of the same message key, and there is room for no more: replay or \
                     drop the parked dead letter, or raise the limit of `park_key`",
                    event.topic, event.partition, event.offset, handler.scope
                ),
            );
            return Err(Ended::Full(task.event, error));
        }
        *count += 1;
    }
    Ok(())
}

/// Inserts the markers, and decides what becomes of each task.
pub(crate) async fn claim<S: Store>(
    trial: &Trial<'_, S>,
    batch: &mut Batch<S>,
    writer: &Writer<'_>,
    tx: &mut S::Tx,
    done: &mut Done,
) -> Result<(), Ended> {
    let group = trial.group;
    let all = &batch.tasks[batch.tasks_of(&trial.events)];
    let released = batch.kind != Kind::Delivered;
    let scope = |index: usize| group.handlers[all[index].handler].scope;
    let offset = |index: usize| batch.events[all[index].event].offset;
    let marks = &trial.holding.row.offset_marks;

    done.decisions = done.intents.iter().map(|intent| intent.decision()).collect();
    let mut keyed = Vec::with_capacity(all.len());
    for (index, task) in all.iter().enumerate() {
        match (task.mode, &task.key) {
            _ if done.intents[index] == Intent::Stay => {}
            (MarkerMode::Rows, Some(key)) => keyed.push((index, key)),
            // Without a key there is no marker; its letter is unique by its origin.
            (MarkerMode::Rows, None) => {}
            (MarkerMode::Offset, _) => {
                let handled = marks.get(scope(index)).is_some_and(|it| offset(index) < *it);
                if handled && !released {
                    done.decisions[index] = Decision::Duplicate;
                }
            }
        }
    }
    // Sorted, so that two batches that share keys take them in the same order and cannot deadlock.
    // The sort is stable: of equal keys the first in offset order leads.
    keyed.sort_by(|(a, left), (b, right)| (scope(*a), left).cmp(&(scope(*b), right)));
    let mut twins = Vec::new();
    keyed.dedup_by(|(later, its), (first, key)| {
        let same = scope(*later) == scope(*first) && its == key;
        if same {
            // If the first is processed, this one is a duplicate; if it fails, both are rolled
            // back and neither overtakes the other.
            done.decisions[*later] = Decision::Duplicate;
            twins.push((*first, *later));
        }
        same
    });
    let claims: Vec<_> = keyed
        .iter()
        .map(|&(index, key)| Claim {
            offset: Some(offset(index)),
            state: state(done.intents[index]),
            reclaim: released,
            ..Claim::new(scope(index), key)
        })
        .collect();
    let new = match group.store.claim(tx, writer, &claims).await.map_err(Ended::Claim)? {
        Claimed::Fenced => return Err(Ended::Moved),
        Claimed::Keys(new) => new,
    };
    let mut known = Vec::new();
    for (&(index, key), new) in keyed.iter().zip(new) {
        if !new {
            done.decisions[index] = Decision::Duplicate;
            known.push((index, (scope(index), key)));
        }
    }
    twins.retain(|(first, later)| {
        let letter = matches!(done.decisions[*first], Decision::DeadLettered | Decision::Parked);
        letter && digest(batch, all[*first].event) != digest(batch, all[*later].event)
    });
    done.corrections = twins.into_iter().map(|(_, later)| later).collect();
    if !released && !known.is_empty() {
        corrections(trial, (all, &batch.events), tx, done, &known).await?;
    }
    for index in &done.corrections {
        done.decisions[*index] = Decision::DeadLettered;
    }
    Ok(())
}

/// Finds events that came under the key of a dead letter with another payload than its own: somebody
/// corrected it, and must not find the correction swallowed.
async fn corrections<S: Store>(
    trial: &Trial<'_, S>,
    (tasks, events): (&[Task], &[Event]),
    tx: &mut S::Tx,
    done: &mut Done,
    known: &[(usize, (&str, &Key))],
) -> Result<(), Ended> {
    let store = &trial.group.store;
    let keys: Vec<_> = known.iter().map(|(_, key)| *key).collect();
    let given_up = store.given_up(tx, &keys).await.map_err(Ended::Claim)?;
    for (&(index, (scope, key)), given_up) in known.iter().zip(given_up) {
        let Some(given_up) = given_up else { continue };
        let event = &events[tasks[index].event];
        let same = given_up.lane == Some(trial.holding.row.number)
            && given_up.offset == Some(event.offset);
        if same {
            continue;
        }
        let filter = LetterFilter::new().scope(scope).key(key.as_str());
        let letters = store.letters(&filter).await.map_err(Ended::Claim)?;
        if letters.iter().all(|letter| letter.digest != event.digest()) {
            done.corrections.push(index);
        }
    }
    Ok(())
}

fn digest<S: Store>(batch: &Batch<S>, event: usize) -> i64 {
    batch.events[event].digest()
}

/// What the marker of such a task says.
fn state(intent: Intent) -> MarkerState {
    match intent {
        Intent::Handle => MarkerState::Processed,
        Intent::Bury => MarkerState::Dead,
        Intent::Park | Intent::Wait | Intent::Stay => MarkerState::Parked,
    }
}
