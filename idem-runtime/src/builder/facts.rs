//! What can be found wrong before anything is started.

use crate::broadcast::Broadcast;
use crate::marker::MarkerMode;
use crate::pipeline::policy::{LayoutChanged, Policies};
use crate::policy::{OnFailure, Policy, Window};
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
    pub(super) mode: MarkerMode,
    /// What its attribute says, and its group where that is silent.
    pub(super) policy: &'a Policy,
    /// Whether its events are read with schemas of a registry.
    pub(super) needs_schemas: bool,
    pub(super) stores_result: bool,
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
    pub(super) topics: Option<&'a [String]>,
    pub(super) slices: u16,
    /// What the group says for handlers that do not.
    pub(super) policy: &'a Policy,
    pub(super) policies: &'a Policies,
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
        mistakes.extend(self.window_mistakes());
        for it in &self.handlers {
            mistakes.extend(self.handler_mistakes(it, has_registry));
            mistakes.extend(self.packed_mistakes(it));
            let HandlerFacts { scope, topics, needs, mode, .. } = it;
            if *mode == MarkerMode::Offset && self.slices > 1 {
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
        if self.policies.start.is_none() {
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
        let outside = it.policy.unknown_end.is_some();
        if outside && self.handlers.len() > 1 {
            mistakes.push(format!(
                "the handler `{scope}` has effects outside of the database, and shares group \
                 `{group}` with others, whose failures would undo its transaction and repeat those \
                 effects: put it into a group of its own"
            ));
        }
        if outside && matches!(it.policy.on_failure, Some(OnFailure::ParkKey { .. })) {
            mistakes.push(format!(
                "the handler `{scope}` has effects outside of the database, and its events are \
                 parked (`on_failure`): what waits behind a parked event is worked in batches, \
                 which such events are not; choose a dead letter or stop"
            ));
        }
        mistakes.extend(it.policy.contradiction().map(|it| format!("the handler `{scope}` {it}")));
        mistakes
    }

    /// What is wrong with what the group says of packed markers.
    fn window_mistakes(&self) -> Vec<String> {
        let group = &self.name;
        let wrong = self.policy.window.and_then(nothing_in);
        let mut mistakes: Vec<_> =
            wrong.map(|wrong| format!("group `{group}`: {wrong}")).into_iter().collect();
        // Where the group says how markers are kept, the rest waits for its word to be another one.
        let packs = self.handlers.iter().any(|it| it.mode == MarkerMode::Packed);
        if packs || self.policy.markers.is_some() {
            return mistakes;
        }
        let said = [
            (self.policy.window.is_some(), "window"),
            (self.policies.layout_changed != LayoutChanged::default(), "layout_changed"),
            (self.policies.stale.is_some(), "stale"),
        ];
        mistakes.extend(said.iter().filter(|(said, _)| *said).map(|(_, word)| {
            format!(
                "group `{group}`: `.{word}(..)` is about packed markers, and none of its handlers \
                 has them: add `.markers(Markers::Packed)`, or `markers = \"packed\"` in a handler's \
                 attribute, or remove it"
            )
        }));
        mistakes
    }

    /// What a handler with packed markers asks for that they cannot do.
    fn packed_mistakes(&self, it: &HandlerFacts<'_>) -> Vec<String> {
        if it.mode != MarkerMode::Packed {
            return Vec::new();
        }
        let scope = it.scope;
        let asks = [
            (it.policy.payload_check.is_some(), "compares payloads (`payload_check`)"),
            (it.stores_result, "stores its results (`store_result`)"),
            (it.policy.unknown_end.is_some(), "has effects outside of the database"),
        ];
        let mut mistakes: Vec<_> = asks
            .iter()
            .filter(|(asks, _)| *asks)
            .map(|(_, what)| {
                format!(
                    "the handler `{scope}` {what}, which needs a row for each marker, and its \
                     markers are packed: write `markers = \"rows\"` in its attribute (or in the \
                     policy that it is registered with)"
                )
            })
            .collect();
        // The group's own window is named once.
        let own = it.policy.window.filter(|_| it.policy.window != self.policy.window);
        let wrong = own.and_then(nothing_in);
        mistakes.extend(wrong.map(|wrong| format!("the handler `{scope}`: {wrong}")));
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

/// What is wrong with a window that remembers nothing.
fn nothing_in(window: Window) -> Option<&'static str> {
    if window.time.is_zero() {
        return Some(
            "a window of no time finds no duplicate: give it one, such as \
             `Window::time(Duration::from_secs(7 * 24 * 60 * 60))`",
        );
    }
    (window.events == Some(0)).then_some(
        "a window of no events (`.events(0)`) finds no duplicate: give it a number, or none for as \
         many as there are",
    )
}
