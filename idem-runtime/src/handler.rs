//! The contract between generated code and the runtime: what a handler is.
//!
//! `#[idempotent]` writes these impls. They are public so that a handler can be written by hand,
//! and so that the compiler can explain a mistake in terms of the user's own function.

use std::future::Future;

use serde_json::Value;

use crate::answer::Slot;
use crate::context::Context;
use crate::effects::{Begun, Probed};
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::{Encoded, SchemaOf};
use crate::key::{Content, Key, KeyError};
use crate::policy::Policy;
use crate::routing::EventType;
use crate::state::{Needs, State, States};
use crate::store::{Lends, Store};

/// What a handler's key is made of: what [`Handler::key`] needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeySource {
    /// Of the decoded event alone.
    Event,
    /// Also of the message: a header, the message key, the hash of its content.
    Message,
    /// From the place of the message: the lane's position is the marker.
    Offset,
}

/// A function whose effects happen once for each (scope, key).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an idempotent handler",
    note = "annotate the function with `#[idempotent(key = .., store = ..)]`"
)]
pub trait Handler: Sized + Send + Sync + 'static {
    /// The store whose transaction the handler writes through.
    type Store: Store;
    /// What the handler is given: [`One`] event, or [`Many`].
    type Input: Input;
    /// Whose memory of the key it is.
    const SCOPE: &'static str;
    /// What the key is made of.
    const KEY: KeySource = KeySource::Event;
    /// What the attribute was told to allow, each with the reason.
    const ALLOWED: &'static [(&'static str, &'static str)] = &[];

    /// How it is tried again, what becomes of what fails for good, and the like.
    const POLICY: Policy = Policy::new();

    /// Whether what it returns is stored beside the marker: see [`Answers`](crate::Answers).
    const STORES_RESULT: bool = false;

    /// Names the state the handler needs.
    fn needs(needs: &mut Needs);

    /// The event's key. `source` is the message it was decoded from, if there was one.
    ///
    /// # Errors
    /// [`KeyError`] when the event has no key that could be kept; when the key is missing and not
    /// malformed, [`is_missing`](KeyError::is_missing) says so.
    fn key(event: &EventOf<Self>, source: Option<&Event>) -> Result<Key, KeyError>;

    /// Finds out what became of an attempt whose end is not known, for handlers whose effects are
    /// outside of the database.
    ///
    /// # Errors
    /// [`Failure`] when it could not ask: it is asked again, as after a failure of the handler.
    fn probe(
        _event: &EventOf<Self>,
        _begun: &Begun,
    ) -> impl Future<Output = Result<Probed, Failure>> + Send {
        std::future::ready(Ok(Probed::Unknown))
    }

    /// Runs the handler.
    ///
    /// # Errors
    /// [`Failure`] when the handler returned an error: nothing it wrote is kept.
    fn handle(
        input: Self::Input,
        call: Call<'_, Self>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The type of a handler's event.
pub type EventOf<H> = <<H as Handler>::Input as Input>::Event;

/// A handler that reads from Kafka.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no topic, so it cannot be registered with Kafka",
    note = "add `topic = \"..\"` to its `#[idempotent(..)]`"
)]
pub trait Subscriber: Handler {
    /// The topics it reads: names, and patterns, which begin with `^`.
    const TOPICS: &'static [&'static str];

    /// Finds the schema of an event, when its format needs one of a schema registry.
    const SCHEMA: Option<SchemaOf> = None;

    /// Patterns of the event types it takes; `None` for all events of its topics.
    const TYPES: Option<&'static [&'static str]> = None;

    /// Whether its event is an enum of event types, decoded by [`decode_as`](Self::decode_as).
    const BY_TYPE: bool = false;

    /// Whether the payload can be JSON, of which a field may name the event's type.
    const HAS_FIELDS: bool = true;

    /// Where the type of an event is; `None`: as its group says.
    fn event_type() -> Option<EventType> {
        None
    }

    /// Decodes a message into the handler's event, with the schemas that [`SCHEMA`](Self::SCHEMA)
    /// asked for.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is not such an event.
    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError>;

    /// Decodes a message of this type, where that decides what it is decoded into.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_as(event: Encoded<'_>, _event_type: &str) -> Result<EventOf<Self>, DecodeError> {
        Self::decode(event)
    }

    /// The hash of what the message says: the key of an event without one, where the handler asks for
    /// that. As of a JSON payload, unless said otherwise.
    ///
    /// # Errors
    /// As [`Key::content`].
    fn content_key(event: &Event) -> Result<Key, KeyError> {
        Key::content(event, Content::ALL)
    }
}

/// A handler whose key is in its event, and whose markers are not packed, so that it can run without
/// Kafka.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be processed without Kafka: its key is not in its event, or its markers \
               are packed",
    note = "only a handler whose key is made of fields, or by a function of the event, can: a header, \
            the message key, a content hash and the offset need a message",
    note = "packed markers are known to the lane that reads the partition, and to nobody else: with \
            `markers = \"rows\"` a duplicate is found wherever it comes from"
)]
pub trait KeyedByEvent: Handler {}

/// What a handler is given at once.
pub trait Input: Sized + Send {
    /// The type of an event.
    type Event: Send + 'static;

    /// Whether it takes all new events of a batch in one call.
    const IS_BATCH: bool;

    /// The next input from the new events in their order, or `None` when there is none left.
    fn next(events: &mut impl Iterator<Item = Self::Event>) -> Option<Self>;
}

/// An input of one event.
#[diagnostic::on_unimplemented(
    message = "a batch handler has no `&Context`: it has a context for each event",
    label = "not the parameter of a batch handler",
    note = "write `contexts: &[Context]`: as many as there are events, in their order"
)]
pub trait Single: Input {}

/// One event at a time.
#[derive(Debug, Clone, Copy)]
pub struct One<E>(
    /// The event.
    pub E,
);

impl<E: Send + 'static> Input for One<E> {
    type Event = E;
    const IS_BATCH: bool = false;

    fn next(events: &mut impl Iterator<Item = E>) -> Option<Self> {
        events.next().map(One)
    }
}

impl<E: Send + 'static> Single for One<E> {}

/// All new events of a batch at once, in the order of their offsets; never empty.
#[derive(Debug, Clone)]
pub struct Many<E>(
    /// The events.
    pub Vec<E>,
);

impl<E: Send + 'static> Input for Many<E> {
    type Event = E;
    const IS_BATCH: bool = true;

    fn next(events: &mut impl Iterator<Item = E>) -> Option<Self> {
        let events: Vec<E> = events.collect();
        (!events.is_empty()).then_some(Self(events))
    }
}

/// What a call of a handler can hand to its parameters.
pub struct Call<'a, H: Handler> {
    tx: Option<&'a mut <H::Store as Store>::Tx>,
    contexts: &'a [Context],
    states: &'a States,
    answer: Option<Slot<'a>>,
}

impl<'a, H: Handler> Call<'a, H> {
    /// A call within this transaction, with a context for each event, or none when the handler
    /// does not ask for them.
    pub(crate) fn new(
        tx: &'a mut <H::Store as Store>::Tx,
        contexts: &'a [Context],
        states: &'a States,
    ) -> Self {
        Self { tx: Some(tx), contexts, states, answer: None }
    }

    /// The same, with a place for what the handler returns.
    pub(crate) fn answering(self, answer: &'a mut Option<Value>) -> Self {
        Self { answer: Some(Slot(answer)), ..self }
    }

    /// The place for what the handler returns, if its results are stored.
    ///
    /// # Errors
    /// [`Failure`] when there is no such place.
    pub fn answer(&mut self) -> Result<Slot<'a>, Failure> {
        self.answer.take().ok_or_else(|| {
            Failure::new("the handler's result cannot be stored here: that is a bug of idem")
        })
    }
}

/// A type that a handler can have as a parameter after the event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of the handler `{H}`",
    label = "not a handler's parameter",
    note = "a handler's parameters after the event are the store's connection (such as \
            `&mut PgConnection`), `&Context` (of a batch handler: `&[Context]`) and `State<T>`, in \
            any order"
)]
pub trait Param<'a, H: Handler>: Sized {
    /// Whether it is the transaction's connection, of which there can be one.
    const IS_CONNECTION: bool = false;

    /// Names the state it needs.
    fn needs(_needs: &mut Needs) {}

    /// Takes the parameter's value out of the call.
    ///
    /// # Errors
    /// [`Failure`] when there is no such value: a second connection, or state that was not given.
    fn take(call: &mut Call<'a, H>) -> Result<Self, Failure>;
}

impl<'a, H, C> Param<'a, H> for &'a mut C
where
    H: Handler,
    H::Store: Lends<C>,
{
    const IS_CONNECTION: bool = true;

    fn take(call: &mut Call<'a, H>) -> Result<Self, Failure> {
        match call.tx.take() {
            Some(tx) => Ok(<H::Store as Lends<C>>::lend(tx)),
            None => Err(Failure::new("a handler can have one connection, this one has two")),
        }
    }
}

impl<'a, H: Handler> Param<'a, H> for &'a Context
where
    H::Input: Single,
{
    fn needs(needs: &mut Needs) {
        needs.contexts();
    }

    fn take(call: &mut Call<'a, H>) -> Result<Self, Failure> {
        call.contexts.first().ok_or_else(|| Failure::new("the call has no context"))
    }
}

impl<'a, H: Handler> Param<'a, H> for &'a [Context] {
    fn needs(needs: &mut Needs) {
        needs.contexts();
    }

    fn take(call: &mut Call<'a, H>) -> Result<Self, Failure> {
        Ok(call.contexts)
    }
}

impl<'a, H: Handler, T: Send + Sync + 'static> Param<'a, H> for State<T> {
    fn needs(needs: &mut Needs) {
        needs.state::<T>();
    }

    fn take(call: &mut Call<'a, H>) -> Result<Self, Failure> {
        call.states.get::<T>().ok_or_else(|| {
            Failure::new(format!(
                "the handler `{}` needs a State<{}>, which was not given: add `.state(..)`",
                H::SCOPE,
                std::any::type_name::<T>()
            ))
        })
    }
}
