//! Parked keys: remembering them, and working what waited behind one that was released.
//!
//! Releasing is done by whoever replays or drops a parked dead letter, in any process; what waits is
//! worked by the lane's owner, in order, between its batches. Until nothing waits any more, new
//! events of the key still go behind it.

use std::ops::Range;

use crate::backoff::Backoff;
use crate::dead_letter::DeadLetter;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::lane::Slice;
use crate::outcome::Decision;
use crate::pipeline::attempt::Done;
use crate::pipeline::batch::{Batch, Kind};
use crate::pipeline::care::Careful;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::plan::Intent;
use crate::pipeline::slices::slice_of;
use crate::pipeline::stats::Stats;
use crate::store::Store;

impl<S: Store> Lane<S> {
    /// Works what waited behind keys that were released, until there is no more of it.
    pub(super) async fn release(&self, holding: &mut Holding, careful: Careful) -> Option<Tenure> {
        let mut backoff = Backoff::for_store();
        let most = if careful.is_on() { 1 } else { self.settings.max_batch };
        let limit = u32::try_from(most).unwrap_or(u32::MAX);
        let mut from = 0;
        holding.released.clear();
        while !holding.parked.is_empty() {
            let mut letters = match self.group.store.released(&holding.held(), from, limit).await {
                Ok(letters) => letters,
                Err(error) => {
                    let pause = backoff.next();
                    self.warn(&error, "released events cannot be read, trying again", pause);
                    match self.rest(pause, holding).await {
                        Some(end) => return Some(end),
                        None => continue,
                    }
                }
            };
            if let Some(letter) = letters.iter().find(|it| holding.released.contains(&it.id)) {
                return Some(Tenure::Failed(waits_still(letter)));
            }
            // What is not for this one may fill a page.
            let next = letters.last()?.event.offset + 1;
            // Scopes whose handler this instance does not have are left to one that has it.
            letters.retain(|letter| self.handler_of(&letter.scope).is_some());
            if let Some(Slice { index, of }) = holding.slice {
                letters.retain(|letter| slice_of(&letter.event, of) == index);
            }
            let Some(first) = letters.first() else {
                from = next;
                continue;
            };
            let handler = self.handler_of(&first.scope)?;
            let scope = self.group.handlers[handler].scope;
            letters.retain(|letter| letter.scope == scope);
            tracing::info!(scope, events = letters.len(), "working events of released keys");
            holding.released.clear();
            let end = match letters.first().map(|letter| letter.event.offset) {
                Some(offset) if careful.is_on() => {
                    self.release_carefully(holding, handler, letters, offset).await
                }
                _ => match self
                    .schemas(holding, Some(handler), letters.iter().map(|it| &it.event))
                    .await
                {
                    Ok(schemas) => {
                        let batch = Batch::released(&self.group, handler, letters, schemas);
                        self.batch(holding, batch, false, None).await
                    }
                    Err(end) => Some(end),
                },
            };
            if end.is_some() {
                return end;
            }
            from = 0;
        }
        None
    }

    /// Works one released event alone, which may be the one that kills.
    async fn release_carefully(
        &self,
        holding: &mut Holding,
        handler: usize,
        letters: Vec<DeadLetter>,
        offset: i64,
    ) -> Option<Tenure> {
        let deaths = holding.attempts("", offset).map_or(0, |it| it.deaths);
        if deaths >= self.settings.quarantine_after {
            Stats::add(&self.stats.quarantined, 1);
            let batch = Batch::released_quarantined(&self.group, handler, letters, deaths);
            return self.batch(holding, batch, false, None).await;
        }
        let schemas =
            match self.schemas(holding, Some(handler), letters.iter().map(|it| &it.event)).await {
                Ok(schemas) => schemas,
                Err(end) => return Some(end),
            };
        let flight = match self.alone(holding, offset).await {
            Ok(flight) => flight,
            Err(end) => return Some(end),
        };
        let batch = Batch::released(&self.group, handler, letters, schemas);
        self.batch(holding, batch, false, Some(flight)).await
    }

    fn handler_of(&self, scope: &str) -> Option<usize> {
        self.group.handlers.iter().position(|handler| handler.scope == scope)
    }

    /// Notes which released events a committed attempt was done with.
    pub(super) fn remember_released(
        &self,
        holding: &mut Holding,
        batch: &Batch<S>,
        range: &Range<usize>,
        done: &Done,
    ) {
        let tasks = batch.tasks[batch.tasks_of(range)].iter().zip(&done.intents);
        let tasks = tasks.filter(|(_, intent)| **intent != Intent::Stay);
        holding.released.extend(tasks.filter_map(|(task, _)| batch.letter(task.event)));
    }

    /// Notes the message keys that a committed attempt has parked.
    pub(super) fn remember_parked(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        range: &Range<usize>,
        done: &Done,
    ) {
        let tasks = &batch.tasks[batch.tasks_of(range)];
        for (index, task) in tasks.iter().enumerate() {
            let parked =
                done.intents[index] == Intent::Park && done.decisions[index] == Decision::Parked;
            if parked && let Some(key) = &batch.events[task.event].message_key {
                holding.parked.insert(self.group.handlers[task.handler].scope, key);
                if batch.kind != Kind::Delivered {
                    batch.parked_again.insert(key.clone());
                }
            }
        }
    }
}

/// What a lane stops with when the database has an event waiting that it was done with a moment ago: it
/// would work it for ever, and whatever the event does without a marker as often.
fn waits_still(letter: &DeadLetter) -> Error {
    let Event { topic, partition, offset, .. } = &letter.event;
    Error::new(
        ErrorKind::Store,
        format!(
            "topic {topic}, partition {partition}, offset {offset}, scope {}: dead letter {} was \
             released and its event is done, worked or given up on again, but the letter waits still: \
             what the lane wrote did not find its row. Look whether its effects are there, drop the \
             letter, and start the program again",
            letter.scope, letter.id
        ),
    )
}
