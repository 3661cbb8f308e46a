//! A group: handlers that share one ordered stream and one store.
//!
//! Here the types of the handlers are erased, once for a batch and not for an event: below this
//! seam everything is statically dispatched, above it nothing knows a handler's event.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::context::Context;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::handler::{Call, EventOf, Input, KeySource, Subscriber};
use crate::key::{Key, KeyError};
use crate::marker::MarkerMode;
use crate::state::{Needs, States};
use crate::store::Store;

/// Handlers that share lanes, order and transaction.
pub(crate) struct Group<S: Store> {
    pub(crate) name: Arc<str>,
    pub(crate) store: S,
    pub(crate) handlers: Vec<Registered<S>>,
    pub(crate) states: Arc<States>,
}

impl<S: Store> Group<S> {
    /// The scopes and how their markers are kept.
    pub(crate) fn scopes(&self) -> Vec<(&'static str, MarkerMode)> {
        self.handlers.iter().map(|handler| (handler.scope, handler.mode())).collect()
    }

    /// The scopes in offset mode that read this topic: what its lanes remember.
    pub(crate) fn offset_scopes(&self, topic: &str) -> Vec<&'static str> {
        let handlers = self.handlers.iter();
        handlers
            .filter(|it| it.mode() == MarkerMode::Offset)
            .filter(|it| it.topics.iter().any(|its| **its == *topic))
            .map(|it| it.scope)
            .collect()
    }

    /// The topics, each once, in order.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<_> =
            self.handlers.iter().flat_map(|handler| handler.topics.iter().cloned()).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}

/// The handlers of a group, while it is being described.
pub struct Handlers<S: Store>(pub(crate) Vec<Registered<S>>);

impl<S: Store> Default for Handlers<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A handler of a group.
pub(crate) struct Registered<S: Store> {
    pub(crate) scope: &'static str,
    /// The topics as Kafka names them.
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) key: KeySource,
    pub(crate) needs: Needs,
    /// An empty batch for the handler.
    pub(crate) work: fn() -> Box<dyn Work<S>>,
}

impl<S: Store> Registered<S> {
    pub(crate) fn of<H: Subscriber<Store = S>>() -> Self {
        let mut needs = Needs::default();
        H::needs(&mut needs);
        Self {
            scope: H::SCOPE,
            topics: H::TOPICS.iter().map(|topic| Arc::from(*topic)).collect(),
            key: H::KEY,
            needs,
            work: || Box::new(Typed::<H> { scope: H::SCOPE.into(), slots: Vec::new() }),
        }
    }

    pub(crate) fn mode(&self) -> MarkerMode {
        match self.key {
            KeySource::Offset => MarkerMode::Offset,
            KeySource::Event | KeySource::Header(_) => MarkerMode::Rows,
        }
    }
}

/// Why an event could not be given to a handler at all.
#[derive(Debug)]
pub(crate) enum Refusal {
    Decode(DecodeError),
    Key(KeyError),
}

/// The events of one batch for one handler, decoded.
pub(crate) trait Work<S: Store>: Send {
    /// Decodes the event and finds its key. The n-th call makes slot n.
    fn push(&mut self, event: &Event) -> Result<Key, Refusal>;

    /// Notes that the handler failed at this slot, and says how often it has.
    fn failed(&mut self, slot: usize) -> u32;

    /// Runs the handler for these slots, in this order, within the transaction.
    fn run<'a>(
        &'a mut self,
        tx: &'a mut S::Tx,
        slots: &'a [usize],
        room: Room<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Stopped>> + Send + 'a>>;
}

/// What every call in a batch has in common.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    pub(crate) group: &'a Arc<str>,
    pub(crate) states: &'a States,
}

/// A handler failed.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The index in the slots it was given.
    pub(crate) at: usize,
    pub(crate) failure: Failure,
}

struct Typed<H: Subscriber> {
    scope: Arc<str>,
    slots: Vec<Slot<EventOf<H>>>,
}

struct Slot<E> {
    event: Event,
    key: Key,
    /// Taken by the first attempt; decoded again for another.
    decoded: Option<E>,
    failures: u32,
}

impl<H: Subscriber> Typed<H> {
    async fn one(
        &mut self,
        tx: &mut <H::Store as Store>::Tx,
        slot: usize,
        room: Room<'_>,
    ) -> Result<(), Failure> {
        let slot = &mut self.slots[slot];
        let cx = Context::new(Arc::clone(&self.scope), slot.key.clone())
            .with_event(Arc::clone(room.group), slot.event.clone())
            .with_attempt(slot.failures + 1);
        let call = Call::new(tx, std::slice::from_ref(&cx), room.states);
        let run = async {
            let event = match slot.decoded.take() {
                Some(event) => event,
                None => H::decode(&slot.event)?,
            };
            let Some(input) = H::Input::next(&mut std::iter::once(event)) else {
                return Err(Failure::new("the handler takes no event"));
            };
            H::handle(input, call).await
        };
        // The transaction is rolled back after a panic, so nothing half-done is seen again.
        match AssertUnwindSafe(run).catch_unwind().await {
            Ok(result) => result,
            Err(panic) => Err(Failure::panic(panic)),
        }
    }
}

impl<S: Store, H: Subscriber<Store = S>> Work<S> for Typed<H> {
    fn push(&mut self, event: &Event) -> Result<Key, Refusal> {
        // Both are the user's code. What a panic says is not repeated: it may quote the payload.
        let decoded = panic::catch_unwind(|| H::decode(event))
            .unwrap_or_else(|_| Err(DecodeError::new("decoding it panicked")))
            .map_err(Refusal::Decode)?;
        let key = panic::catch_unwind(AssertUnwindSafe(|| match H::KEY {
            KeySource::Event => H::key(&decoded, Some(event)),
            KeySource::Header(name) => Key::header(event, name),
            KeySource::Offset => Key::offset(event),
        }))
        .unwrap_or_else(|_| Err(KeyError::new("finding its key panicked")))
        .map_err(Refusal::Key)?;
        self.slots.push(Slot {
            event: event.clone(),
            key: key.clone(),
            decoded: Some(decoded),
            failures: 0,
        });
        Ok(key)
    }

    fn failed(&mut self, slot: usize) -> u32 {
        self.slots[slot].failures += 1;
        self.slots[slot].failures
    }

    fn run<'a>(
        &'a mut self,
        tx: &'a mut S::Tx,
        slots: &'a [usize],
        room: Room<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Stopped>> + Send + 'a>> {
        Box::pin(async move {
            for (at, &slot) in slots.iter().enumerate() {
                self.one(tx, slot, room).await.map_err(|failure| Stopped { at, failure })?;
            }
            Ok(())
        })
    }
}
