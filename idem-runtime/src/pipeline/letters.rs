//! What an attempt writes down of events that it does not handle.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use crate::dead_letter::{Cause, FailureClass, LetterState, NewLetter};
use crate::lane::Held;
use crate::outcome::Decision;
use crate::pipeline::attempt::{Done, Ended, Trial};
use crate::pipeline::batch::{Batch, Kind, cause};
use crate::pipeline::plan::Intent;
use crate::routing::{Readers, Unmatched};
use crate::store::Store;

/// Writes dead letters and what waits behind them; of released events, that they are worked.
pub(crate) async fn letters<S: Store>(
    trial: &Trial<'_, S>,
    batch: &mut Batch<S>,
    held: &Held,
    tx: &mut S::Tx,
    done: &Done,
) -> Result<(), Ended> {
    let store = &trial.group.store;
    let tasks = &batch.tasks[batch.tasks_of(&trial.events)];
    let correction = (!done.corrections.is_empty()).then(correction);
    let (scope, unmatched) = unmatched(trial, batch);
    let mut letters = Vec::new();
    letters.extend(unmatched.iter().map(|(event, cause)| NewLetter {
        scope: &scope,
        key: None,
        event: &batch.events[*event],
        digest: batch.digest(*event),
        state: LetterState::Dead,
        cause: Some(cause),
    }));
    let mut worked = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let is_correction = done.corrections.contains(&index);
        let (state, cause) = match (done.decisions[index], done.intents[index]) {
            (_, _) if is_correction => (LetterState::Dead, correction.as_ref()),
            (Decision::DeadLettered, _) if by_key(done, index).is_some() => {
                (LetterState::Dead, by_key(done, index))
            }
            (Decision::DeadLettered, _) => (LetterState::Dead, task.given_up.as_deref()),
            (Decision::Parked, Intent::Park) => (LetterState::Parked, task.given_up.as_deref()),
            (Decision::Parked, Intent::Wait) => (LetterState::Waiting, None),
            (Decision::Parked, _) => continue,
            _ => {
                worked.extend(batch.letter(task.event));
                continue;
            }
        };
        letters.push(NewLetter {
            scope: trial.group.handlers[task.handler].scope,
            key: task.key(),
            event: &batch.events[task.event],
            digest: batch.digest(task.event),
            state,
            cause,
        });
    }
    if !letters.is_empty() {
        store.give_up(tx, held, &letters).await.map_err(Ended::Seal)?;
        behind(trial, batch, held, tx, done).await?;
    }
    if batch.kind != Kind::Delivered {
        store.unpark(tx, held, &worked).await.map_err(Ended::Seal)?;
    }
    Ok(())
}

/// Whether the message keys that are parked here hold what is to wait behind them. One whose event
/// turned out to be a duplicate, or was settled by a person before, holds nothing: what waited
/// behind it would wait for ever.
async fn behind<S: Store>(
    trial: &Trial<'_, S>,
    // As everywhere here: what works on it is not `Sync`.
    batch: &mut Batch<S>,
    held: &Held,
    tx: &mut S::Tx,
    done: &Done,
) -> Result<(), Ended> {
    let range = batch.tasks_of(&trial.events);
    let mut parks = HashSet::new();
    let mut firsts = BTreeMap::new();
    for (task, (intent, decision)) in
        batch.tasks[range].iter().zip(done.intents.iter().zip(&done.decisions))
    {
        let Some(key) = batch.events[task.event].message_key.as_deref() else { continue };
        let key = (trial.group.handlers[task.handler].scope, key);
        match intent {
            Intent::Park => {
                parks.insert(key);
            }
            Intent::Wait if *decision == Decision::Parked && parks.contains(&key) => {
                firsts.entry(key).or_insert(task.event);
            }
            _ => {}
        }
    }
    if firsts.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = firsts.keys().copied().collect();
    let parked = trial.group.store.parked(tx, held, &keys).await.map_err(Ended::Seal)?;
    let mut loose = firsts.values().zip(parked).filter(|(_, waiting)| waiting.is_none());
    match loose.next() {
        Some((event, _)) => Err(Ended::Apart(*event)),
        None => Ok(()),
    }
}

/// The events that no handler wants and that are to be kept, each with the reason, and their scope.
fn unmatched<S: Store>(trial: &Trial<'_, S>, batch: &Batch<S>) -> (String, Vec<(usize, Cause)>) {
    let group = trial.group;
    let events = batch.unmatched_of(&trial.events);
    let topic = events.first().map(|event| &batch.events[*event].topic);
    let Some(topic) = topic.filter(|_| group.rules.unmatched == Unmatched::DeadLetter) else {
        return (String::new(), Vec::new());
    };
    let readers = Readers::of(group, topic);
    let why = |event: &usize| readers.why_not(&group.name, &batch.events[*event]);
    let cause = |event: &usize| (*event, cause(FailureClass::Unmatched, why(event), 0));
    (group.unmatched_scope(), events.iter().map(cause).collect())
}

/// Why it is given up on, if that was found out with its key.
fn by_key(done: &Done, index: usize) -> Option<&Cause> {
    let stale = done.stale.iter().find(|(it, _)| *it == index);
    stale
        .map(|(_, cause)| cause)
        .or_else(|| done.reused.iter().find(|it| it.index == index)?.cause.as_ref())
}

fn correction() -> Cause {
    Cause {
        class: FailureClass::Correction,
        permanent: true,
        error: "another payload arrived under the key of a dead letter".to_owned(),
        attempts: 0,
        first_failed_at: SystemTime::now(),
    }
}
