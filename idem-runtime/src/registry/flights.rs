//! Questions that are being asked: each once, for all who want its answer.
//!
//! Without this the lanes of a process would ask a registry that does not answer one after the other, and
//! the last of them would wait as many timeouts as there are lanes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::error::ErrorKind;
use crate::format::Known;

/// What is known of an id, or why it cannot be asked for.
pub(super) type Answered = Result<Known, (ErrorKind, String)>;

#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<u32, Arc<OnceCell<Answered>>>>);

impl Flights {
    /// The answer to this id: of whoever is asking already, or else of `ask`. When the one who asks is
    /// dropped, another of those who wait asks in its place.
    pub(super) async fn answer(&self, id: u32, ask: impl AsyncFnOnce() -> Answered) -> Answered {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(flights.entry(id).or_default())
        };
        let answer = flight.get_or_init(async || {
            let answer = ask().await;
            // Whoever comes now asks again, or finds it in the cache.
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            answer
        });
        answer.await.clone()
    }
}
