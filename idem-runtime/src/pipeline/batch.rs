//! A batch: events of a lane with, for each handler that wants them, the decoded event and its key.

use std::ops::Range;

use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::group::{Group, Refusal, Work};
use crate::key::Key;
use crate::marker::MarkerMode;
use crate::store::Store;

pub(crate) struct Batch<S: Store> {
    pub(crate) events: Vec<Event>,
    /// One per handler of the group.
    pub(crate) works: Vec<Box<dyn Work<S>>>,
    /// In offset order, and in the order of the handlers for each event.
    pub(crate) tasks: Vec<Task>,
    /// The event after the last one, when it could not be decoded or has no key.
    pub(crate) refused: Option<Refused>,
}

/// One event for one handler.
pub(crate) struct Task {
    /// The index of the event.
    pub(crate) event: usize,
    /// The index of the handler in the group.
    pub(crate) handler: usize,
    /// The slot in the handler's work.
    pub(crate) slot: usize,
    pub(crate) key: Key,
    pub(crate) mode: MarkerMode,
}

pub(crate) struct Refused {
    pub(crate) event: Event,
    pub(crate) scope: &'static str,
    pub(crate) why: Refusal,
}

impl<S: Store> Batch<S> {
    /// Decodes events and finds their keys. The batch ends before the first event that is refused,
    /// so that the good ones before it are worked first.
    pub(crate) fn prepare(group: &Group<S>, mut events: Vec<Event>) -> Self {
        let mut works: Vec<_> = group.handlers.iter().map(|handler| (handler.work)()).collect();
        let mut slots = vec![0; works.len()];
        let mut tasks = Vec::with_capacity(events.len());
        let mut refused = None;
        'events: for (index, event) in events.iter().enumerate() {
            let before = tasks.len();
            for (number, handler) in group.handlers.iter().enumerate() {
                if !handler.topics.iter().any(|topic| **topic == *event.topic) {
                    continue;
                }
                match works[number].push(event) {
                    Ok(key) => {
                        tasks.push(Task {
                            event: index,
                            handler: number,
                            slot: slots[number],
                            key,
                            mode: handler.mode(),
                        });
                        slots[number] += 1;
                    }
                    Err(why) => {
                        tasks.truncate(before);
                        let event = event.clone();
                        refused = Some((index, Refused { event, scope: handler.scope, why }));
                        break 'events;
                    }
                }
            }
        }
        let refused = refused.map(|(index, refused)| {
            events.truncate(index);
            refused
        });
        Self { events, works, tasks, refused }
    }

    /// Notes a failure of this event that named no handler.
    pub(crate) fn blame(&mut self, event: usize) {
        for task in &self.tasks[self.tasks_of(&(event..event + 1))] {
            self.works[task.handler].failed(task.slot);
        }
    }

    /// The tasks of these events.
    pub(crate) fn tasks_of(&self, events: &Range<usize>) -> Range<usize> {
        let start = self.tasks.partition_point(|task| task.event < events.start);
        let end = self.tasks.partition_point(|task| task.event < events.end);
        start..end
    }
}

impl Refused {
    /// What the lane stops with.
    pub(crate) fn into_error(self) -> Error {
        let Event { topic, partition, offset, .. } = &self.event;
        let place = format!("topic {topic}, partition {partition}, offset {offset}");
        let scope = self.scope;
        match self.why {
            Refusal::Decode(error) => Error::new(
                ErrorKind::Decode,
                format!("{place}: the event cannot be decoded for scope {scope}: {error}"),
            ),
            Refusal::Key(error) => Error::new(
                ErrorKind::Key,
                format!("{place}: the event has no usable key for scope {scope}: {error}"),
            ),
        }
    }
}
