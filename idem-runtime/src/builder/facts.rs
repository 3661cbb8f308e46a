//! What can be found wrong before anything is started.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scope::check_scope;
use crate::state::{Need, States};

/// What can be wrong with a handler.
pub(super) struct HandlerFacts<'a> {
    pub(super) scope: &'static str,
    pub(super) topics: &'a [Arc<str>],
    pub(super) needs: &'a [Need],
    pub(super) by_offset: bool,
    /// Whether its effects are outside of the database.
    pub(super) outside: bool,
    pub(super) parks: bool,
}

/// What can be wrong with a group.
pub(super) struct Facts<'a> {
    pub(super) name: String,
    pub(super) topics: Option<&'a [String]>,
    pub(super) slices: u16,
    pub(super) handlers: Vec<HandlerFacts<'a>>,
}

impl Facts<'_> {
    pub(super) fn mistakes(
        &self,
        states: &States,
        scopes: &mut BTreeMap<String, String>,
    ) -> Vec<String> {
        let mut mistakes = Vec::new();
        let group = &self.name;
        if group.is_empty() || group.len() > 255 {
            mistakes.push(format!("group `{group}`: a group's name has 1 to 255 bytes"));
        }
        for HandlerFacts { scope, topics, needs, by_offset, outside, parks } in &self.handlers {
            if *outside && self.handlers.len() > 1 {
                mistakes.push(format!(
                    "the handler `{scope}` has effects outside of the database, and shares group \
                     `{group}` with others, whose failures would undo its transaction and repeat \
                     those effects: put it into a group of its own"
                ));
            }
            if *outside && *parks {
                mistakes.push(format!(
                    "the handler `{scope}` has effects outside of the database, and its events are \
                     parked (`on_failure`): what waits behind a parked event is worked in batches, \
                     which such events are not; choose a dead letter or stop"
                ));
            }
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
            let unnamed = |topic: &&Arc<str>| {
                self.topics.is_some_and(|it| !it.iter().any(|name| **name == ***topic))
            };
            for topic in topics.iter().filter(unnamed) {
                mistakes.push(format!(
                    "the handler `{scope}` reads topic `{topic}`, which `.topics(..)` of group \
                     `{group}` does not name: add it there, or correct the handler"
                ));
            }
        }
        for topic in self.topics.unwrap_or_default() {
            if !self.handlers.iter().any(|it| it.topics.iter().any(|it| **it == **topic)) {
                mistakes.push(format!(
                    "topic `{topic}` of group `{group}` has no handler: register one with `topic = \
                     \"{topic}\"`, or remove it from `.topics(..)`"
                ));
            }
        }
        mistakes
    }
}
