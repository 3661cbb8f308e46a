//! The schemas that events are read with, for handlers that need some: asked for before a batch is
//! decoded. A registry that is away is waited for, as a database is: no event is to blame for it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::event::Event;
use crate::format::Schemas;
use crate::pipeline::batch::wanting;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::stop::Stop;
use crate::store::Store;

impl<S: Store> Lane<S> {
    /// The schemas of these events; as long as it takes.
    pub(super) async fn schemas<'a>(
        &self,
        holding: &Holding,
        events: impl Iterator<Item = &'a Event>,
    ) -> Result<Schemas, Tenure> {
        // Decided at the start: only a group whose handlers need schemas has a registry.
        let Some(registry) = &self.group.registry else { return Ok(Schemas::none()) };
        let mut ids = BTreeSet::new();
        for event in events {
            for (_, handler) in wanting(&self.group, event) {
                ids.extend(handler.schema.and_then(|schema| schema(event)));
            }
        }
        let mut stop = self.stop.clone();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.asked(Stop::Finish) => return Err(Tenure::Left),
                asked = registry.schemas(&ids) => asked,
            };
            let error = match asked {
                Ok(schemas) => return Ok(schemas),
                Err(error) => error,
            };
            let pause = backoff.next();
            self.warn(&error, "the lane waits: the schema registry is away, trying again", pause);
            if let Some(end) = self.rest(pause, holding).await {
                return Err(end);
            }
        }
    }
}
