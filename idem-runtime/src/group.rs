//! A group: handlers that share one ordered stream and one store.
//!
//! What a handler is made of is erased here (see [`Work`]), and what its attribute, its group and
//! the defaults say of failure is put together.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::format::SchemaOf;
use crate::handler::{KeySource, Subscriber};
use crate::marker::MarkerMode;
use crate::packed::Filters;
use crate::policy::{IsolationLevel, Markers, OnFailure, Policy, Retry};
use crate::registry::SchemaRegistry;
use crate::routing::{EventType, Rules, Told, Topic, Types, unmatched_scope};
use crate::state::{Needs, States};
use crate::store::{Store, Terms};
use crate::work::{Typed, Work};

/// Handlers that share lanes, order and transaction.
pub(crate) struct Group<S: Store> {
    pub(crate) name: Arc<str>,
    pub(crate) store: S,
    pub(crate) handlers: Vec<Registered<S>>,
    pub(crate) states: Arc<States>,
    /// Where schemas are asked for; `None` when no handler needs one.
    pub(crate) registry: Option<SchemaRegistry>,
    pub(crate) rules: Rules,
    /// What was said lately of events that no handler wants.
    pub(crate) told: Told,
    /// Of a group that reads topics by pattern: those that there were when it started.
    pub(crate) found: OnceLock<BTreeSet<String>>,
    /// Of runs of packed markers that several lanes ask.
    pub(crate) filters: Filters,
}

impl<S: Store> Group<S> {
    /// The scope of events that no handler wants, if they are kept.
    pub(crate) fn unmatched_scope(&self) -> String {
        unmatched_scope(&self.name)
    }

    /// The scopes and how their markers are kept.
    pub(crate) fn scopes(&self) -> Vec<(&'static str, MarkerMode)> {
        self.handlers.iter().map(|handler| (handler.scope, handler.mode())).collect()
    }

    /// The scopes that pack their markers, and how long they keep what is packed.
    pub(crate) fn window_lengths(&self) -> Vec<(&'static str, Duration)> {
        let packs = self.handlers.iter().filter(|it| it.mode() == MarkerMode::Packed);
        packs.map(|it| (it.scope, it.policy.window.unwrap_or_default().time)).collect()
    }

    /// The scopes in offset mode that read this topic: what its lanes remember.
    pub(crate) fn offset_scopes(&self, topic: &str) -> Vec<&'static str> {
        let handlers = self.handlers.iter();
        handlers
            .filter(|it| it.mode() == MarkerMode::Offset)
            .filter(|it| it.reads(topic))
            .map(|it| it.scope)
            .collect()
    }

    /// Whether a handler that reads this topic keeps packed markers.
    pub(crate) fn is_packed(&self, topic: &str) -> bool {
        let mut packed = self.handlers.iter().filter(|it| it.mode() == MarkerMode::Packed);
        packed.any(|it| it.reads(topic))
    }

    /// The topics and patterns of topics, each once, in order.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let mut topics: Vec<_> =
            self.handlers.iter().flat_map(|handler| handler.topics.iter().cloned()).collect();
        topics.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        topics.dedup_by(|a, b| a.text == b.text);
        topics
    }

    /// Whether a handler reads this topic by its name.
    pub(crate) fn names(&self, topic: &str) -> bool {
        let mut topics = self.handlers.iter().flat_map(|handler| &handler.topics);
        topics.any(|it| !it.is_pattern() && it.names(topic))
    }

    /// Whether a handler has effects outside of the database, so that each event is a batch.
    pub(crate) fn is_outside(&self) -> bool {
        self.handlers.iter().any(|handler| handler.policy.unknown_end.is_some())
    }

    /// Into how many slices each partition is divided; 0 or 1: into none.
    pub(crate) fn slices(&self) -> u16 {
        slices(&self.handlers)
    }

    /// The terms of the transaction that the handlers share: the highest level that one of them
    /// asks for; and a limit for a statement, if all of them have one.
    pub(crate) fn terms(&self) -> Terms {
        let isolation = self.handlers.iter().map(Registered::isolation).max().unwrap_or_default();
        let timeouts: Option<Vec<Duration>> =
            self.handlers.iter().map(|handler| handler.policy.timeout).collect();
        let statement_timeout = timeouts.and_then(|timeouts| timeouts.into_iter().max());
        Terms { isolation, statement_timeout, outside: self.is_outside() }
    }
}

/// The most slices that one of them asks for.
pub(crate) fn slices<S: Store>(handlers: &[Registered<S>]) -> u16 {
    handlers.iter().filter_map(|handler| handler.policy.slices).max().unwrap_or(0)
}

/// A scope that is not in the program's text, for as long as the program runs: one for each handler
/// that is registered so.
pub(crate) fn lasting(scope: String) -> &'static str {
    Box::leak(scope.into_boxed_str())
}

/// The handlers of a group, while it is being described.
pub struct Handlers<S: Store>(pub(crate) Vec<Registered<S>>);

impl<S: Store> Default for Handlers<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Whether a builder's current store is the one a handler writes through.
#[diagnostic::on_unimplemented(
    message = "the handler `{H}` does not write through `{Self}`",
    note = "call `.store(..)` with the handler's store before `.handler::<{H}>()`; the handler \
            names it with `store = ..`"
)]
pub trait Serves<H: Subscriber>: Store {
    #[doc(hidden)]
    fn register(handlers: &mut Handlers<Self>);
}

#[diagnostic::do_not_recommend]
impl<H: Subscriber> Serves<H> for H::Store {
    fn register(handlers: &mut Handlers<Self>) {
        handlers.0.push(Registered::of::<H>());
    }
}

/// A handler of a group.
pub(crate) struct Registered<S: Store> {
    pub(crate) scope: &'static str,
    /// The topics as Kafka names them.
    pub(crate) topics: Vec<Topic>,
    /// The event types it takes; `None` for all.
    pub(crate) types: Option<Types>,
    pub(crate) key: KeySource,
    pub(crate) needs: Needs,
    /// Finds the schema of an event, if its format needs one.
    pub(crate) schema: Option<SchemaOf>,
    /// What its attribute says, and once its group is closed, all of it.
    pub(crate) policy: Policy,
    /// Whether it takes all new events of a batch in one call.
    pub(crate) is_batch: bool,
    /// Whether what it returns is stored beside the marker.
    pub(crate) stores_result: bool,
    /// An empty batch for the handler, under this scope.
    pub(crate) work: fn(&'static str) -> Box<dyn Work<S>>,
}

impl<S: Store> Clone for Registered<S> {
    fn clone(&self) -> Self {
        Self {
            scope: self.scope,
            topics: self.topics.clone(),
            types: self.types.clone(),
            key: self.key,
            needs: self.needs.clone(),
            schema: self.schema,
            policy: self.policy,
            is_batch: self.is_batch,
            stores_result: self.stores_result,
            work: self.work,
        }
    }
}

impl<S: Store> Registered<S> {
    pub(crate) fn of<H: Subscriber<Store = S>>() -> Self {
        let mut needs = Needs::default();
        H::needs(&mut needs);
        for (lint, reason) in H::ALLOWED {
            tracing::debug!(scope = H::SCOPE, lint, reason, "the handler's attribute allows this");
        }
        Self {
            scope: H::SCOPE,
            topics: H::TOPICS.iter().map(|topic| Topic::new(topic)).collect(),
            types: Types::of::<H>(),
            key: H::KEY,
            needs,
            schema: H::SCHEMA,
            policy: H::POLICY,
            is_batch: <H::Input as crate::handler::Input>::IS_BATCH,
            stores_result: H::STORES_RESULT,
            work: |scope| Box::new(Typed::<H>::new(scope)),
        }
    }

    pub(crate) fn mode(&self) -> MarkerMode {
        match self.key {
            KeySource::Offset => MarkerMode::Offset,
            KeySource::Event | KeySource::Message => match self.policy.markers {
                Some(Markers::Packed) => MarkerMode::Packed,
                Some(Markers::Rows) | None => MarkerMode::Rows,
            },
        }
    }

    /// What is wrong with what it says of topics and types, one sentence each; `by_default` is where
    /// a type is if the handler does not say.
    pub(crate) fn mistakes(&self, by_default: &EventType) -> impl Iterator<Item = String> {
        let topics = self.topics.iter().filter_map(Topic::mistake);
        let types = self.types.iter().flat_map(|types| types.mistakes.iter().cloned());
        topics.chain(types).chain(self.types.as_ref().and_then(|it| it.unreadable(by_default)))
    }

    pub(crate) fn retry(&self) -> Retry {
        self.policy.retry.unwrap_or_default()
    }

    pub(crate) fn on_failure(&self) -> OnFailure {
        self.policy.on_failure.unwrap_or_default()
    }

    fn isolation(&self) -> IsolationLevel {
        self.policy.isolation.unwrap_or_default()
    }
}
