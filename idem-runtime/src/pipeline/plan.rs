//! What an attempt intends with each of its tasks, before the database has answered.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use crate::group::Group;
use crate::outcome::Decision;
use crate::pipeline::batch::{Batch, Kind};
use crate::pipeline::holding::ParkedKeys;
use crate::policy::OnFailure;
use crate::store::Store;

/// What is to be done with a task, if its key is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Run the handler.
    Handle,
    /// Write a dead letter.
    Bury,
    /// Write a dead letter that holds its message key.
    Park,
    /// Write it down behind the letter that holds its message key.
    Wait,
    /// It waits already, and the event that holds its message key has just failed again.
    Stay,
}

impl Intent {
    /// What becomes of the task.
    pub(crate) fn decision(self) -> Decision {
        match self {
            Self::Handle => Decision::Processed,
            Self::Bury => Decision::DeadLettered,
            Self::Park | Self::Wait | Self::Stay => Decision::Parked,
        }
    }
}

/// The intent of each task, in order.
pub(crate) fn intents<S: Store>(
    group: &Group<S>,
    batch: &Batch<S>,
    tasks: &Range<usize>,
    parked: &ParkedKeys,
) -> Vec<Intent> {
    let all = &batch.tasks[tasks.clone()];
    let delivered = batch.kind == Kind::Delivered;
    if parked.is_empty()
        && batch.parked_again.is_empty()
        && all.iter().all(|task| task.given_up.is_none())
    {
        return vec![Intent::Handle; all.len()];
    }
    // What these tasks park holds up what comes after it.
    let mut opened = HashSet::new();
    let mut intents = Vec::with_capacity(all.len());
    for task in all {
        let handler = &group.handlers[task.handler];
        let intent = match (batch.events[task.event].message_key.as_deref(), &task.given_up) {
            (Some(key), _) if opened.contains(&(task.handler, key)) => match delivered {
                true => Intent::Wait,
                false => Intent::Stay,
            },
            (Some(key), _) if batch.parked_again.contains(key) => Intent::Stay,
            (Some(key), _) if delivered && parked.contains(handler.scope, key) => Intent::Wait,
            (Some(key), Some(_)) if matches!(handler.on_failure(), OnFailure::ParkKey { .. }) => {
                opened.insert((task.handler, key));
                Intent::Park
            }
            (_, Some(_)) => Intent::Bury,
            (_, None) => Intent::Handle,
        };
        intents.push(intent);
    }
    intents
}

/// The message keys, each with the index of its handler's scope, that the database is asked about
/// before anything is claimed: those that were parked before, and those that events are released
/// from. Sorted, so that two transactions take them in the same order.
pub(crate) fn asked<'a, S: Store>(
    group: &Group<S>,
    batch: &'a Batch<S>,
    tasks: &Range<usize>,
    intents: &[Intent],
    parked: &ParkedKeys,
) -> Vec<(&'static str, &'a [u8])> {
    let delivered = batch.kind == Kind::Delivered;
    let mut keys = BTreeSet::new();
    for (task, intent) in batch.tasks[tasks.clone()].iter().zip(intents) {
        let scope = group.handlers[task.handler].scope;
        let Some(key) = batch.events[task.event].message_key.as_deref() else { continue };
        let known = *intent == Intent::Wait && parked.contains(scope, key);
        if known || !delivered {
            keys.insert((scope, key));
        }
    }
    keys.into_iter().collect()
}
