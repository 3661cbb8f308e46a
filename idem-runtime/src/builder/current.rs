//! What a builder's type remembers: the current store, and the handlers that write through it.

use std::sync::{Arc, OnceLock};

use crate::broadcast::Heart;
use crate::builder::Open;
use crate::builder::facts::{Facts, HandlerFacts};
use crate::group::{Group, Handlers, lasting, slices};
use crate::kafka::Kafka;
use crate::packed::Filters;
use crate::pipeline::policy::DatabaseLost;
use crate::registry::SchemaRegistry;
use crate::routing::{Told, Topic};
use crate::run::{GroupRunner, Runner};
use crate::state::States;
use crate::store::Store;

/// The builder has no store yet: name one with `.store(..)` before the first handler.
#[derive(Debug, Clone, Copy)]
pub struct NoStore;

/// The builder's current store, and the handlers of the current group.
pub struct With<S: Store> {
    store: S,
    handlers: Handlers<S>,
}

impl<S: Store> With<S> {
    pub(super) fn new(store: S) -> Self {
        Self { store, handlers: Handlers::default() }
    }

    pub(super) fn handlers(&mut self) -> &mut Handlers<S> {
        &mut self.handlers
    }
}

/// What a builder's type says about its store.
pub trait Current: sealed::Sealed {
    #[doc(hidden)]
    fn has_handlers(&self) -> bool;
    #[doc(hidden)]
    fn scopes(&self) -> Vec<&'static str>;
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "sealed: nobody else implements or calls it")]
    fn close(&mut self, open: Open) -> Option<Box<dyn Closed>>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::NoStore {}
    impl<S: super::Store> Sealed for super::With<S> {}
}

#[expect(private_interfaces, reason = "sealed: nobody else implements or calls it")]
impl Current for NoStore {
    fn has_handlers(&self) -> bool {
        false
    }

    fn scopes(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn close(&mut self, _: Open) -> Option<Box<dyn Closed>> {
        None
    }
}

#[expect(private_interfaces, reason = "sealed: nobody else implements or calls it")]
impl<S: Store> Current for With<S> {
    fn has_handlers(&self) -> bool {
        !self.handlers.0.is_empty()
    }

    fn scopes(&self) -> Vec<&'static str> {
        self.handlers.0.iter().map(|handler| handler.scope).collect()
    }

    fn close(&mut self, open: Open) -> Option<Box<dyn Closed>> {
        let mut open = open;
        let mut handlers = std::mem::take(&mut self.handlers);
        for handler in &mut handlers.0 {
            handler.policy = handler.policy.or(open.policy);
        }
        if let Some(broadcast) = &open.broadcast {
            for handler in &mut handlers.0 {
                handler.scope = lasting(broadcast.scope(handler.scope));
            }
            for scope in open.adopt.iter_mut().chain(&mut open.retire) {
                *scope = broadcast.scope(scope);
            }
        }
        for topic in handlers.0.iter_mut().flat_map(|handler| &mut handler.topics) {
            if let Some(name) = open.names.get(&*topic.text) {
                *topic = Topic::new(name);
            }
        }
        Some(Box::new(Finished { store: self.store.clone(), handlers, open }))
    }
}

/// A group that is described.
pub(super) trait Closed {
    fn facts(&self) -> Facts<'_>;
    fn runner(
        self: Box<Self>,
        kafka: &Arc<Kafka>,
        states: &Arc<States>,
        registry: Option<&SchemaRegistry>,
    ) -> Box<dyn Runner>;
}

struct Finished<S: Store> {
    store: S,
    handlers: Handlers<S>,
    open: Open,
}

impl<S: Store> Closed for Finished<S> {
    fn facts(&self) -> Facts<'_> {
        Facts {
            name: self.open.group_name(),
            described: self.open.name.clone().unwrap_or_default(),
            broadcast: self.open.broadcast.as_ref(),
            check_interval: self.open.runner.check_interval,
            topics: self.open.topics.as_deref(),
            slices: slices(&self.handlers.0),
            policy: &self.open.policy,
            policies: &self.open.lanes.policies,
            rules: &self.open.rules,
            handlers: self
                .handlers
                .0
                .iter()
                .map(|handler| HandlerFacts {
                    scope: handler.scope,
                    topics: &handler.topics,
                    needs: &handler.needs.states,
                    mode: handler.mode(),
                    policy: &handler.policy,
                    needs_schemas: handler.schema.is_some(),
                    stores_result: handler.stores_result,
                    mistakes: handler.mistakes(&self.open.rules.event_type).collect(),
                })
                .collect(),
        }
    }

    fn runner(
        self: Box<Self>,
        kafka: &Arc<Kafka>,
        states: &Arc<States>,
        registry: Option<&SchemaRegistry>,
    ) -> Box<dyn Runner> {
        let name = self.open.group_name();
        let Open { name: described, mut lanes, runner, rules, adopt, retire, .. } = self.open;
        let heart = self.open.broadcast.map(|it| Heart::new(&it, &described.unwrap_or_default()));
        let policies = &mut lanes.policies;
        if let (Some(_), Some(start), DatabaseLost::Refuse) =
            (&heart, policies.start, policies.database_lost)
        {
            // One that was forgotten is in the same case as one whose database was lost.
            policies.database_lost = DatabaseLost::StartAt(start);
        }
        let handlers = self.handlers.0;
        Box::new(GroupRunner {
            group: Arc::new(Group {
                name: name.into(),
                store: self.store,
                registry: registry
                    .filter(|_| handlers.iter().any(|handler| handler.schema.is_some()))
                    .cloned(),
                handlers,
                states: Arc::clone(states),
                rules,
                told: Told::default(),
                found: OnceLock::new(),
                filters: Filters::default(),
            }),
            kafka: Arc::clone(kafka),
            lanes,
            settings: runner,
            heart,
            adopt,
            retire,
        })
    }
}
