//! What can be found wrong before anything is started.

use crate::broadcast::Broadcast;
use crate::routing::{Rules, Topic, Unmatched, unmatched_scope};
use crate::scope::{MAX_SCOPE_LEN, check_scope};
use crate::state::{Need, States};
use std::collections::BTreeMap;
use std::time::Duration;

/// What can be wrong with a handler.
pub(super) struct HandlerFacts<'a> {
    pub(super) scope: &'static str,
    pub(super) topics: &'a [Topic],
    pub(super) needs: &'a [Need],
    pub(super) by_offset: bool,
    /// Whether its events are read with schemas of a registry.
    pub(super) needs_schemas: bool,
    /// Whether its effects are outside of the database.
    pub(super) outside: bool,
    pub(super) parks: bool,
    /// What is wrong with its topics and types.
    pub(super) mistakes: Vec<String>,
}

/// What can be wrong with a group.
pub(super) struct Facts<'a> {
    pub(super) name: String,
    /// The group as it is described: the same, unless each of its instances reads everything.
    pub(super) described: String,
    pub(super) broadcast: Option<&'a Broadcast>,
    pub(super) check_interval: Duration,
    pub(super) has_start: bool,
    pub(super) topics: Option<&'a [String]>,
    pub(super) slices: u16,
    pub(super) rules: &'a Rules,
    pub(super) handlers: Vec<HandlerFacts<'a>>,
}

impl Facts<'_> {
    pub(super) fn mistakes(
        &self,
        states: &States,
        has_registry: bool,
        scopes: &mut BTreeMap<String, String>,
    ) -> Vec<String> {
        let mut mistakes = Vec::new();
        let group = &self.name;
        if group.is_empty() || group.len() > 255 {
            mistakes.push(format!("group `{group}`: a group's name has 1 to 255 bytes"));
        }
        mistakes.extend(
            self.rules.event_type.mistake().map(|wrong| format!("group `{group}`: {wrong}")),
        );
        mistakes.extend(self.broadcast_mistakes());
        mistakes.extend(self.unmatched_scope_mistake());
        for it in &self.handlers {
            mistakes.extend(self.handler_mistakes(it, has_registry));
            let HandlerFacts { scope, topics, needs, by_offset, .. } = it;
            if *by_offset && self.slices > 1 {
                mistakes.push(format!(
                    "the handler `{scope}` has `key = offset`, and group `{group}` is worked in \
                     slices (`order_by`): a slice has no one position that could be its marker. Put \
                     it into a group of its own, or give it another key"
                ));
            }
            if let Err(error) = check_scope(scope) {
                mistakes.push(error.to_string());
            }
            if let Some(other) = scopes.insert((*scope).to_owned(), group.clone()) {
                mistakes.push(format!(
                    "two handlers have the scope `{scope}` (groups `{other}` and `{group}`): they \
                     would take each other's events for duplicates; give one a `scope = \"..\"` of \
                     its own"
                ));
            }
            for need in needs.iter().filter(|need| !states.has(need)) {
                mistakes.push(format!(
                    "the handler `{scope}` needs a State<{}>: add `.state(..)` with one",
                    need.name
                ));
            }
            let unnamed = |topic: &&str| {
                self.topics.is_some_and(|it| !it.iter().any(|name| *name == **topic))
            };
            for topic in topics.iter().map(|topic| &*topic.text).filter(unnamed) {
                mistakes.push(format!(
                    "the handler `{scope}` reads topic `{topic}`, which `.topics(..)` of group \
                     `{group}` does not name: add it there, or correct the handler"
                ));
            }
        }
        for topic in self.topics.unwrap_or_default() {
            let is_its = |it: &Topic| *it.text == **topic || it.names(topic);
            if !self.handlers.iter().any(|it| it.topics.iter().any(is_its)) {
                mistakes.push(format!(
                    "topic `{topic}` of group `{group}` has no handler: register one with `topic = \
                     \"{topic}\"`, or remove it from `.topics(..)`"
                ));
            }
        }
        mistakes
    }

    fn broadcast_mistakes(&self) -> Vec<String> {
        let Some(broadcast) = self.broadcast else { return Vec::new() };
        let mut mistakes = broadcast.mistakes(&self.described, self.check_interval);
        if !self.has_start {
            mistakes.push(format!(
                "group `{}` is a broadcast, in which every new instance has to start somewhere: add \
                 `.start(Start::Latest)` for what comes from then on, or `.start(Start::Earliest)` for \
                 everything that is in the log",
                self.described
            ));
        }
        mistakes
    }

    /// What is wrong with what a handler says of its topics, its format and its effects.
    fn handler_mistakes(&self, it: &HandlerFacts<'_>, has_registry: bool) -> Vec<String> {
        let (group, scope) = (&self.name, it.scope);
        let its = it.mistakes.iter().map(|wrong| format!("the handler `{scope}`: {wrong}"));
        let mut mistakes: Vec<_> = its.collect();
        if it.needs_schemas && !has_registry {
            mistakes.push(format!(
                "the handler `{scope}` reads Avro, whose schemas are in a schema registry: add \
                 `.schema_registry(SchemaRegistry::new(\"http://host:8081\"))`"
            ));
        }
        if it.outside && self.handlers.len() > 1 {
            mistakes.push(format!(
                "the handler `{scope}` has effects outside of the database, and shares group \
                 `{group}` with others, whose failures would undo its transaction and repeat those \
                 effects: put it into a group of its own"
            ));
        }
        if it.outside && it.parks {
            mistakes.push(format!(
                "the handler `{scope}` has effects outside of the database, and its events are \
                 parked (`on_failure`): what waits behind a parked event is worked in batches, \
                 which such events are not; choose a dead letter or stop"
            ));
        }
        mistakes
    }

    /// What is wrong with the scope of events that no handler wants.
    fn unmatched_scope_mistake(&self) -> Option<String> {
        if self.rules.unmatched != Unmatched::DeadLetter {
            return None;
        }
        let scope = unmatched_scope(&self.name);
        if self.handlers.iter().any(|handler| handler.scope == scope) {
            return Some(format!(
                "the handler `{scope}` has the scope that events of group `{}` have which no handler \
                 wants: give it another `scope = \"..\"`",
                self.name
            ));
        }
        let wrong = scope.len() > MAX_SCOPE_LEN;
        wrong.then(|| {
            format!(
                "group `{}`: its events that no handler wants have the scope `{scope}`, which is \
                 longer than {MAX_SCOPE_LEN} bytes: shorten the group's name",
                self.name
            )
        })
    }
}
