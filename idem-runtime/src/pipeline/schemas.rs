//! The schemas that events are read with, for handlers that need some: asked for before a batch is
//! decoded. A registry that is away is waited for, as a database is: no event is to blame for it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::format::Schemas;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::stop::Stop;
use crate::routing::{Readers, Wish};
use crate::store::Store;

impl<S: Store> Lane<S> {
    /// The schemas that these events are read with, by this handler or else by all that want them;
    /// as long as it takes.
    pub(super) async fn schemas(
        &self,
        holding: &Holding,
        handler: Option<usize>,
        events: impl Iterator<Item = &Event>,
    ) -> Result<Schemas, Tenure> {
        // Decided at the start: only a group whose handlers need schemas has a registry.
        let Some(registry) = &self.group.registry else { return Ok(Schemas::none()) };
        let ids = self.ids(&holding.row.id.topic, handler, events);
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
            let what = match error.kind() {
                ErrorKind::Config => {
                    "the lane waits: the schema registry refuses, which has to be set right; trying again"
                }
                _ => "the lane waits: the schema registry is away, trying again",
            };
            self.warn(&error, what, pause);
            if let Some(end) = self.rest(pause, holding).await {
                return Err(end);
            }
        }
    }

    /// The numbers of the schemas, each once.
    fn ids<'a>(
        &self,
        topic: &str,
        handler: Option<usize>,
        events: impl Iterator<Item = &'a Event>,
    ) -> BTreeSet<u32> {
        let handlers = &self.group.handlers;
        let id = |handler: usize, event: &Event| handlers[handler].schema.and_then(|it| it(event));
        if let Some(handler) = handler {
            return events.filter_map(|event| id(handler, event)).collect();
        }
        let readers = Readers::of(&self.group, topic);
        let mut ids = BTreeSet::new();
        for event in events {
            let _always: Result<bool, Infallible> = readers.ask(event, |handler, wish| {
                if let Wish::Yes(_) = wish {
                    ids.extend(id(handler, event));
                }
                Ok(())
            });
        }
        ids
    }
}
