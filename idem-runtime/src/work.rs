//! Where the types of handlers are erased: once for a batch and not for an event.
//!
//! Below this seam everything is statically dispatched, above it nothing knows a handler's event.

use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;
use tracing::{Instrument as _, Span};

use crate::context::Context;
use crate::effects::{Begun, Probed};
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::{Encoded, Schemas};
use crate::handler::{Call, EventOf, Handler, Input, Subscriber};
use crate::key::{Key, KeyError};
use crate::marker::Fingerprint;
use crate::policy::MissingKey;
use crate::routing::Correlation;
use crate::state::{Needs, States};
use crate::store::Store;

/// Why an event could not be given to a handler at all.
#[derive(Debug)]
pub(crate) enum Refusal {
    Decode(DecodeError),
    Key(KeyError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "the event cannot be decoded: {error}"),
            Self::Key(error) => write!(f, "the event has no usable key: {error}"),
        }
    }
}

/// What an event is known by.
#[derive(Debug)]
pub(crate) enum Identity {
    /// Its key, which is marked.
    Key(Key),
    /// Its key is missing, and it is worked all the same, without a marker: its place, for people.
    Place(Key),
}

impl Identity {
    /// The key that is marked.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Self::Key(key) => Some(key),
            Self::Place(_) => None,
        }
    }

    /// What the handler is told.
    pub(crate) fn shown(&self) -> &Key {
        match self {
            Self::Key(key) | Self::Place(key) => key,
        }
    }
}

/// The events of one batch for one handler, decoded.
pub(crate) trait Work<S: Store>: Send {
    /// Decodes the event, of this type if the handler decodes by it, and finds its key. The n-th call
    /// that succeeds makes slot n.
    fn push(
        &mut self,
        event: Encoded<'_>,
        event_type: Option<&str>,
        missing: Option<MissingKey>,
    ) -> Result<Identity, Refusal>;

    /// What tells this payload from others; the same wherever it comes from.
    fn fingerprint(&self, event: &Event) -> Fingerprint;

    /// Asks the handler's probe about an attempt at the event of this slot whose end is not known.
    fn probe<'a>(
        &'a mut self,
        event: Encoded<'a>,
        slot: usize,
        begun: Begun,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = Result<Probed, Failure>> + Send + 'a>>;

    /// Runs the handler for these events, in this order, within the transaction.
    fn run<'a>(
        &'a mut self,
        tx: &'a mut S::Tx,
        items: &'a [Item<'a>],
        room: Room<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Answers, Stopped>> + Send + 'a>>;
}

/// What a handler returned, with the index of the item, where its results are stored.
pub(crate) type Answers = Vec<(usize, Value)>;

/// An event to run a handler for.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) event: &'a Event,
    pub(crate) key: &'a Key,
    pub(crate) slot: usize,
    /// Which attempt it is; the first is 1.
    pub(crate) attempt: u32,
}

/// What every call in a batch has in common.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    pub(crate) group: &'a Arc<str>,
    pub(crate) states: &'a States,
    /// What an event is read with that is tried again.
    pub(crate) schemas: &'a Schemas,
    /// How long a call may take.
    pub(crate) timeout: Option<Duration>,
    /// Where an event's correlation and causation ids are.
    pub(crate) correlation: &'a Arc<Correlation>,
}

/// A handler failed.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The index in the items it was given; `None` when it was given several at once.
    pub(crate) at: Option<usize>,
    pub(crate) failure: Failure,
}

/// The work of the handler `H`.
pub(crate) struct Typed<H: Handler> {
    scope: Arc<str>,
    /// Taken by the first attempt; decoded again for another.
    slots: Vec<Option<EventOf<H>>>,
    /// For each slot the event's type; empty when the handler does not decode by it.
    types: Vec<Box<str>>,
    /// Whether the handler asks for contexts.
    contexts: bool,
}

impl<H: Subscriber> Typed<H> {
    pub(crate) fn new(scope: &'static str) -> Self {
        let mut needs = Needs::default();
        H::needs(&mut needs);
        Self { scope: scope.into(), slots: Vec::new(), types: Vec::new(), contexts: needs.contexts }
    }

    /// One call of the handler, for one event or for all.
    async fn call(
        &mut self,
        tx: &mut <H::Store as Store>::Tx,
        items: &[Item<'_>],
        room: Room<'_>,
    ) -> Result<Option<Value>, Failure> {
        let contexts: Vec<Context> = match self.contexts {
            true => items.iter().map(|item| self.context(item, room)).collect(),
            false => Vec::new(),
        };
        let span = match items {
            [item] if !H::Input::IS_BATCH => chain(&self.scope, item, room),
            _ => Span::none(),
        };
        let mut answer = None;
        let call = Call::new(tx, &contexts, room.states).answering(&mut answer);
        let run = async {
            let mut events = Vec::with_capacity(if H::Input::IS_BATCH { items.len() } else { 0 });
            let input = if let [item] = items {
                let event = self.event(item, room.schemas)?;
                H::Input::next(&mut std::iter::once(event))
            } else {
                for item in items {
                    events.push(self.event(item, room.schemas)?);
                }
                H::Input::next(&mut events.into_iter())
            };
            let input = input.ok_or_else(|| Failure::new("the handler takes no event"))?;
            bounded(room.timeout, H::handle(input, call)).await
        };
        // The transaction is rolled back after a panic, so nothing half-done is seen again.
        match AssertUnwindSafe(run).catch_unwind().instrument(span).await {
            Ok(result) => result.map(|()| answer),
            Err(panic) => Err(Failure::panic(panic)),
        }
    }

    fn event(&mut self, item: &Item<'_>, schemas: &Schemas) -> Result<EventOf<H>, Failure> {
        match self.slots[item.slot].take() {
            Some(event) => Ok(event),
            None => {
                let event = Encoded::new(item.event, schemas);
                Ok(decoded::<H>(event, self.type_of(item.slot))?)
            }
        }
    }

    /// The type of a slot's event, if the handler decodes by it.
    fn type_of(&self, slot: usize) -> Option<&str> {
        self.types.get(slot).map(|it| &**it)
    }

    fn context(&self, item: &Item<'_>, room: Room<'_>) -> Context {
        Context::new(Arc::clone(&self.scope), item.key.clone())
            .with_event(Arc::clone(room.group), item.event.clone())
            .with_attempt(item.attempt)
            .with_correlation(Arc::clone(room.correlation))
    }
}

/// The span in which a handler runs for an event that says which chain of events it belongs to: what is
/// logged there says so, too. Other events have none, and do not pay for one.
fn chain(scope: &str, item: &Item<'_>, room: Room<'_>) -> Span {
    let correlation_id = room.correlation.correlation_of(item.event);
    let causation_id = room.correlation.causation_of(item.event);
    if correlation_id.is_none() && causation_id.is_none() {
        return Span::none();
    }
    tracing::info_span!("event", scope, key = %item.key, correlation_id, causation_id)
}

/// Waits for what users wrote, but not longer than this.
pub(crate) async fn bounded<T>(
    timeout: Option<Duration>,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(limit) = timeout else { return call.await };
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(Failure::timeout(limit)))
}

/// Decodes an event for a handler and finds its key. Both are the user's code: what a panic in them
/// says is not repeated, because it may quote the payload.
fn decode<H: Subscriber>(
    event: Encoded<'_>,
    event_type: Option<&str>,
    missing: Option<MissingKey>,
) -> Result<(EventOf<H>, Identity), Refusal> {
    let decoded = panic::catch_unwind(AssertUnwindSafe(|| decoded::<H>(event, event_type)))
        .unwrap_or_else(|_| Err(DecodeError::new("decoding it panicked")))
        .map_err(Refusal::Decode)?;
    let key = panic::catch_unwind(AssertUnwindSafe(|| H::key(&decoded, Some(&event))))
        .unwrap_or_else(|_| Err(KeyError::new("finding its key panicked")));
    let identity = match (key, missing) {
        (Ok(key), _) => Ok(Identity::Key(key)),
        (Err(error), Some(missing)) if error.is_missing() => instead::<H>(&event, error, missing),
        (Err(error), _) => Err(error),
    };
    Ok((decoded, identity.map_err(Refusal::Key)?))
}

/// What an event is known by whose key is missing, if it is worked all the same.
fn instead<H: Subscriber>(
    event: &Event,
    error: KeyError,
    missing: MissingKey,
) -> Result<Identity, KeyError> {
    match missing {
        MissingKey::DeadLetter | MissingKey::Stop => Err(error),
        MissingKey::ProcessWithoutGuarantee => Key::offset(event).map(Identity::Place),
        MissingKey::ContentHash => H::content_key(event).map(Identity::Key),
    }
}

/// The fingerprint of an event without a payload.
const TOMBSTONE: Fingerprint = [0; 16];

/// Of the hash that a key is.
fn first_half(key: &Key) -> Option<Fingerprint> {
    let hash = key.as_str().strip_prefix("sha256:")?.get(..32)?;
    u128::from_str_radix(hash, 16).ok().map(u128::to_be_bytes)
}

fn decoded<H: Subscriber>(
    event: Encoded<'_>,
    event_type: Option<&str>,
) -> Result<EventOf<H>, DecodeError> {
    match event_type {
        Some(event_type) if H::BY_TYPE => H::decode_as(event, event_type),
        _ => H::decode(event),
    }
}

impl<S: Store, H: Subscriber<Store = S>> Work<S> for Typed<H> {
    fn push(
        &mut self,
        event: Encoded<'_>,
        event_type: Option<&str>,
        missing: Option<MissingKey>,
    ) -> Result<Identity, Refusal> {
        let (decoded, identity) = decode::<H>(event, event_type, missing)?;
        self.slots.push(Some(decoded));
        if H::BY_TYPE {
            self.types.push(event_type.unwrap_or_default().into());
        }
        Ok(identity)
    }

    fn fingerprint(&self, event: &Event) -> Fingerprint {
        let content = panic::catch_unwind(|| H::content_key(event)).ok().and_then(Result::ok);
        let content = content.as_ref().and_then(first_half);
        // Nothing to be hashed as what it says: as it is. Of the payload alone: the message key is no
        // part of what an event says.
        let bytes = || Key::payload(event).ok().as_ref().and_then(first_half);
        content.or_else(bytes).unwrap_or(TOMBSTONE)
    }

    fn probe<'a>(
        &'a mut self,
        event: Encoded<'a>,
        slot: usize,
        begun: Begun,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = Result<Probed, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let asked = async move {
                let event = decoded::<H>(event, self.type_of(slot))?;
                bounded(timeout, H::probe(&event, &begun)).await
            };
            match AssertUnwindSafe(asked).catch_unwind().await {
                Ok(probed) => probed,
                Err(panic) => Err(Failure::panic(panic)),
            }
        })
    }

    fn run<'a>(
        &'a mut self,
        tx: &'a mut S::Tx,
        items: &'a [Item<'a>],
        room: Room<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Answers, Stopped>> + Send + 'a>> {
        Box::pin(async move {
            if H::Input::IS_BATCH {
                let called = self.call(tx, items, room).await;
                return called.map(|_| Answers::new()).map_err(|failure| {
                    let named = failure.event().filter(|index| *index < items.len());
                    // Alone in its call, an event is to blame.
                    let at = if items.len() == 1 { Some(0) } else { named };
                    Stopped { at, failure }
                });
            }
            let mut answers = Answers::new();
            for (at, item) in items.iter().enumerate() {
                let called = self.call(tx, std::slice::from_ref(item), room).await;
                let answer = called.map_err(|failure| Stopped { at: Some(at), failure })?;
                answers.extend(answer.map(|answer| (at, answer)));
            }
            Ok(answers)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logged::logged;

    #[test]
    fn what_a_handler_logs_says_which_chain_its_event_belongs_to() {
        let (group, states): (Arc<str>, _) = ("g".into(), States::default());
        let (correlation, schemas) = (Arc::new(Correlation::default()), Schemas::none());
        let room = Room {
            group: &group,
            states: &states,
            schemas: &schemas,
            timeout: None,
            correlation: &correlation,
        };
        let mut event = Event::new("t".into(), 0, 0, "");
        let key = Key::new("e1").unwrap();
        let log = |event: &Event, text: &str| {
            let item = Item { event, key: &key, slot: 0, attempt: 1 };
            chain("bill", &item, room).in_scope(|| tracing::info!("{text}"));
        };
        let lines = logged(|| {
            log(&event, "alone");
            event.headers = [("correlation-id", Some("c-7"))].into_iter().collect();
            log(&event, "in a chain");
        });
        let [alone, chained] = &lines[..] else { panic!("{lines:?}") };
        assert!(!alone.contains("correlation_id"), "{alone}");
        for part in [r#"scope="bill""#, "key=e1", r#"correlation_id="c-7""#, "in a chain"] {
            assert!(chained.contains(part), "{chained}");
        }
        assert!(!chained.contains("causation_id"), "{chained}");
    }
}
