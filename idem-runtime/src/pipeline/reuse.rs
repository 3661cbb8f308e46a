//! Keys that are used for another payload than the one they were processed with.

use crate::dead_letter::{Cause, FailureClass};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::marker::{MarkerState, Origin};
use crate::outcome::Decision;
use crate::pipeline::attempt::{Done, Ended, Trial};
use crate::pipeline::batch::{Task, stopping};
use crate::pipeline::claim::Keyed;
use crate::policy::PayloadCheck;
use crate::store::Store;

/// A task whose key belongs to another payload.
#[derive(Debug)]
pub(crate) struct Reuse {
    /// Which of the tasks of the attempt.
    pub(crate) index: usize,
    /// The event whose payload it is, if it is known.
    pub(crate) first: Option<Origin>,
    /// Why it is given up on, if it is.
    pub(crate) cause: Option<Cause>,
}

/// Compares the payloads of duplicates with what is beside the markers of their keys, for handlers that
/// ask for it. `keyed` leads, each followed by its `twins` in this batch.
pub(crate) async fn reused<S: Store>(
    trial: &Trial<'_, S>,
    (tasks, events): (&[Task], &[Event]),
    tx: &mut S::Tx,
    done: &mut Done,
    (keyed, twins): (&Keyed<'_>, &[(usize, usize)]),
) -> Result<(), Ended> {
    let scope = |index: usize| trial.group.handlers[tasks[index].handler].scope;
    let is_duplicate = |done: &Done, index: usize| done.decisions[index] == Decision::Duplicate;
    let known: Vec<_> = keyed
        .iter()
        .copied()
        .filter(|(index, _)| tasks[*index].fingerprint.is_some() && is_duplicate(done, *index))
        .collect();
    let mut found = Vec::new();
    if !known.is_empty() {
        let keys: Vec<_> = known.iter().map(|(index, key)| (scope(*index), *key)).collect();
        let markers = trial.group.store.known(tx, &keys).await.map_err(Ended::Claim)?;
        for ((index, _), marker) in known.iter().zip(markers) {
            // What was given up on has its payload in its letter, and corrections of its own.
            let Some(marker) = marker.filter(|it| it.state == MarkerState::Processed) else {
                continue;
            };
            let Some(first) = marker.fingerprint else { continue };
            let twins = twins.iter().filter(|(it, _)| it == index).map(|(_, later)| *later);
            for task in std::iter::once(*index).chain(twins) {
                if tasks[task].fingerprint.is_some_and(|it| it != first) {
                    found.push((task, marker.origin.clone()));
                }
            }
        }
    }
    for &(first, later) in twins {
        // Of a known key they were compared with the marker.
        if done.decisions[first] == Decision::Processed
            && tasks[later].fingerprint != tasks[first].fingerprint
        {
            let event = &events[tasks[first].event];
            let origin = Origin {
                group: trial.group.name.to_string(),
                topic: event.topic.to_string(),
                partition: event.partition,
                offset: event.offset,
            };
            found.push((later, Some(origin)));
        }
    }
    found.sort_by_key(|(index, _)| *index);
    for (index, first) in found {
        let task = &tasks[index];
        let handler = &trial.group.handlers[task.handler];
        let why = explained(first.as_ref());
        let cause = match handler.policy.payload_check {
            Some(PayloadCheck::Stop) => {
                let event = &events[task.event];
                let error = stopping(event, handler.scope, &why, ErrorKind::Stopped);
                return Err(Ended::Stop(task.event, error));
            }
            Some(PayloadCheck::DeadLetter) => {
                done.decisions[index] = Decision::DeadLettered;
                Some(Cause {
                    class: FailureClass::KeyReuse,
                    permanent: true,
                    error: why,
                    attempts: 0,
                    first_failed_at: std::time::SystemTime::now(),
                })
            }
            Some(PayloadCheck::Warn) | None => None,
        };
        done.reused.push(Reuse { index, first, cause });
    }
    Ok(())
}

/// In words, without the payload.
fn explained(first: Option<&Origin>) -> String {
    let first = match first {
        Some(Origin { topic, partition, offset, .. }) => {
            format!("topic {topic}, partition {partition}, offset {offset}")
        }
        // What had no key when it was given up on, and was replayed.
        None => "a dead letter that was replayed".to_owned(),
    };
    format!(
        "another payload arrived under a key that was processed before ({first}): one key was given to \
         two events"
    )
}
