//! Crash loops: finding the event that kills the process.
//!
//! A process that dies says nothing. What is known is that its lanes were not left cleanly, and how
//! often in a row. A lane that has seen this more than once works its next events carefully: one at
//! a time in the whole process, each written down before it is begun, so that the next owner knows
//! which one it was. An event that has killed several processes alone is not tried again.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::backoff::Backoff;
use crate::event::Event;
use crate::lane::{AttemptRow, Standing};
use crate::pipeline::batch::Batch;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::stats::Stats;
use crate::store::Store;

/// After so many deaths without progress a lane is careful.
const CAREFUL_AFTER: u32 = 2;

/// What is in flight in this process, over all groups.
#[derive(Debug, Default)]
pub(crate) struct Care(RwLock<()>);

/// While it lives, events are in flight.
#[derive(Debug)]
pub(crate) enum Flight<'a> {
    /// Among others.
    Among { _guard: RwLockReadGuard<'a, ()> },
    /// Alone in the process, and written down.
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

/// How many events a lane still works carefully.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Careful(usize);

impl Careful {
    pub(crate) const OFF: Self = Self(0);

    /// As many events as can have been in flight when the former owners died.
    pub(crate) fn new(holding: &Holding, max_batch: usize) -> Self {
        let suspected = holding.row.attempts.iter().any(|it| it.deaths > 0);
        let careful = holding.row.deaths >= CAREFUL_AFTER || suspected;
        Self(if careful { max_batch } else { 0 })
    }

    pub(crate) fn is_on(self) -> bool {
        self.0 > 0
    }

    /// One more event was worked.
    pub(crate) fn worked(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// Whether the deaths may be forgotten with the next event that is worked: the last one, or,
    /// where there was a single death, the first batch.
    pub(crate) fn calm(self) -> bool {
        self.0 <= 1
    }
}

impl<S: Store> Lane<S> {
    /// Works one event alone.
    pub(super) async fn carefully(
        &self,
        holding: &mut Holding,
        event: Event,
        calm: bool,
    ) -> Option<Tenure> {
        let deaths = holding.attempts("", event.offset).map_or(0, |it| it.deaths);
        if deaths >= self.settings.quarantine_after {
            tracing::error!(
                topic = %event.topic,
                partition = event.partition,
                offset = event.offset,
                deaths,
                "the process died each time this event was handled alone: it is given up on"
            );
            Stats::add(&self.stats.quarantined, 1);
            let batch = Batch::quarantined(&self.group, event, deaths);
            return self.batch(holding, batch, false, None).await;
        }
        // Nobody else is to wait for a schema.
        let schemas = match self.schemas(holding, None, std::iter::once(&event)).await {
            Ok(schemas) => schemas,
            Err(end) => return Some(end),
        };
        let flight = match self.alone(holding, event.offset).await {
            Ok(flight) => flight,
            Err(end) => return Some(end),
        };
        // Decoding it can be what kills.
        let batch = Batch::prepare(&self.group, vec![event], schemas);
        self.batch(holding, batch, calm, Some(flight)).await
    }

    /// Takes its turn among others.
    pub(super) async fn among(&self) -> Flight<'_> {
        Flight::Among { _guard: self.care.0.read().await }
    }

    /// Waits until nothing else is in flight, and writes down what is going to be.
    pub(super) async fn alone(
        &self,
        holding: &mut Holding,
        offset: i64,
    ) -> Result<Flight<'_>, Tenure> {
        let guard = self.care.0.write().await;
        holding.attempts_mut("", offset).open = true;
        self.note(holding, "", offset).await?;
        Ok(Flight::Alone { _guard: guard })
    }

    /// Writes down that an event is no longer in flight.
    pub(super) async fn landed(
        &self,
        holding: &mut Holding,
        offset: i64,
        flight: Flight<'_>,
    ) -> Result<(), Tenure> {
        if let Flight::Alone { .. } = flight {
            holding.attempts_mut("", offset).open = false;
            self.note(holding, "", offset).await?;
        }
        Ok(())
    }

    /// Writes down what is known of the attempts at an event; as long as it takes.
    pub(super) async fn note(
        &self,
        holding: &mut Holding,
        scope: &str,
        offset: i64,
    ) -> Result<(), Tenure> {
        let held = holding.held();
        let attempt: AttemptRow = holding.attempts_mut(scope, offset).clone();
        let mut backoff = Backoff::for_store();
        loop {
            match self.group.store.note_attempt(&held, &attempt).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let (standing, _) = self.standing(holding).await?;
                    return Err(Tenure::Lost(match standing {
                        // It was lost, whatever it looks like now.
                        Standing::Held => Standing::Fenced,
                        standing => standing,
                    }));
                }
                Err(error) => {
                    let pause = backoff.next();
                    self.warn(&error, "an attempt cannot be written down, trying again", pause);
                    if self.pause(pause).await {
                        return Err(Tenure::Left);
                    }
                }
            }
        }
    }
}
