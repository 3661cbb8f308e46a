//! A batch: events of a lane with, for each handler that wants them, the decoded event and its key.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::dead_letter::{Cause, DeadLetter, FailureClass};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::format::{Encoded, Schemas};
use crate::group::{Group, Registered};
use crate::key::Key;
use crate::marker::{Fingerprint, MarkerMode};
use crate::pipeline::outside::Outside;
use crate::policy::{MissingKey, OnFailure};
use crate::routing::{Readers, Unmatched, Wish};
use crate::store::Store;
use crate::work::{Identity, Refusal, Work};

pub(crate) struct Batch<S: Store> {
    pub(crate) events: Vec<Event>,
    /// One per handler of the group.
    pub(crate) works: Vec<Box<dyn Work<S>>>,
    /// In offset order, and in the order of the handlers for each event.
    pub(crate) tasks: Vec<Task>,
    pub(crate) kind: Kind,
    /// What the events are read with.
    pub(crate) schemas: Schemas,
    /// Of released events: the message keys that one of them was parked under again, in a
    /// transaction before. What comes after it waits still.
    pub(crate) parked_again: HashSet<Bytes>,
    /// Whether one of the tasks is worked without a marker.
    pub(crate) unmarked: bool,
    /// Whether a handler was run in the last attempt.
    pub(crate) ran: bool,
    /// The events that no handler wants, by their index, in order.
    pub(crate) unmatched: Vec<usize>,
    /// What the lane stops with when the events are done: one after them cannot be given up on.
    pub(crate) end: Option<Error>,
}

/// Where the events come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From the source.
    Delivered,
    /// From the database, where each of them waited as a letter. The lane's position is past them.
    Released(Vec<Waited>),
}

/// What is known of the letter that an event waited as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waited {
    id: i64,
    /// Of the event as it came, which may have been edited since.
    digest: i64,
    /// Likewise; a marker says that the event with it waits.
    key: Option<Key>,
}

impl From<&DeadLetter> for Waited {
    fn from(letter: &DeadLetter) -> Self {
        Self { id: letter.id, digest: letter.digest, key: letter.key.clone() }
    }
}

/// One event for one handler.
pub(crate) struct Task {
    /// The index of the event.
    pub(crate) event: usize,
    /// The index of the handler in the group.
    pub(crate) handler: usize,
    /// The slot in the handler's work; of no meaning when it was given up on undecoded.
    pub(crate) slot: usize,
    /// What its event is known by; `None` when it was given up on before that was found out.
    pub(crate) identity: Option<Identity>,
    pub(crate) mode: MarkerMode,
    /// Of its payload, if the handler compares payloads.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// What is known of its attempt, if its effects are outside of the database.
    pub(crate) outside: Outside,
    /// Why it was given up on.
    pub(crate) given_up: Option<Box<Cause>>,
}

impl Task {
    /// The key that is marked.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.identity.as_ref().and_then(Identity::key)
    }

    /// Whether it is worked without a marker, because its event has no key.
    pub(crate) fn is_unmarked(&self) -> bool {
        matches!(self.identity, Some(Identity::Place(_)))
    }
}

impl<S: Store> Batch<S> {
    /// Decodes events and finds their keys. What is refused there is given up on; where its handler
    /// says that this stops the lane, the batch ends before it, so that the good ones before it are
    /// worked first.
    pub(crate) fn prepare(group: &Group<S>, events: Vec<Event>, schemas: Schemas) -> Self {
        let mut batch = Self::of(group, events, Kind::Delivered, schemas);
        let mut slots = vec![0; batch.works.len()];
        let mut events = std::mem::take(&mut batch.events);
        // All of one lane, and so of one topic.
        let topic = events.first().map(|event| Arc::clone(&event.topic)).unwrap_or_default();
        let readers = Readers::of(group, &topic);
        let good = events.iter().enumerate().position(|(index, event)| {
            let before = batch.tasks.len();
            let asked = readers.ask(event, |number, wish| {
                let handler = &group.handlers[number];
                batch.push(index, event, (number, handler), wish, &mut slots[number])
            });
            let pushed = asked.and_then(|wanted| match wanted {
                true => Ok(()),
                false => batch.unmatched(group, index, event, &readers),
            });
            pushed.is_err_and(|error| {
                batch.tasks.truncate(before);
                batch.end = Some(error);
                true
            })
        });
        events.truncate(good.unwrap_or(events.len()));
        batch.events = events;
        batch
    }

    /// Events that waited behind a released key, all of this handler.
    pub(crate) fn released(
        group: &Group<S>,
        handler: usize,
        letters: Vec<DeadLetter>,
        schemas: Schemas,
    ) -> Self {
        let waited = letters.iter().map(Waited::from).collect();
        let events = letters.into_iter().map(|letter| letter.event).collect();
        let mut batch = Self::of(group, events, Kind::Released(waited), schemas);
        let mut events = std::mem::take(&mut batch.events);
        let mut slot = 0;
        let good = events.iter().enumerate().position(|(index, event)| {
            let registered = &group.handlers[handler];
            let pushed = registered.wishes(event, &group.rules.event_type, |wish| {
                // It was wanted when it was delivered.
                let wish = if let Wish::No = wish { Wish::Yes(None) } else { wish };
                batch.push(index, event, (handler, registered), wish, &mut slot)
            });
            pushed.is_err_and(|error| {
                batch.end = Some(error);
                true
            })
        });
        events.truncate(good.unwrap_or(events.len()));
        batch.events = events;
        batch
    }

    /// An event that killed its process so often that it is not even decoded again.
    pub(crate) fn quarantined(group: &Group<S>, event: Event, deaths: u32) -> Self {
        let mut batch = Self::of(group, Vec::new(), Kind::Delivered, Schemas::none());
        let readers = Readers::of(group, &event.topic);
        let mut handlers = Vec::new();
        let asked = readers.ask(&event, |handler, _| {
            handlers.push(handler);
            Ok(())
        });
        match asked {
            Ok(true) => batch.quarantine(group, event, &handlers, deaths),
            Ok(false) => match batch.unmatched(group, 0, &event, &readers) {
                Ok(()) => {
                    batch.events.push(event);
                    batch
                }
                Err(error) => Self { end: Some(error), ..batch },
            },
            Err(error) => Self { end: Some(error), ..batch },
        }
    }

    /// The same for one that had waited behind a released key.
    pub(crate) fn released_quarantined(
        group: &Group<S>,
        handler: usize,
        letters: Vec<DeadLetter>,
        deaths: u32,
    ) -> Self {
        let waited = letters.iter().map(Waited::from).collect();
        let batch = Self::of(group, Vec::new(), Kind::Released(waited), Schemas::none());
        match letters.into_iter().next() {
            Some(letter) => batch.quarantine(group, letter.event, &[handler], deaths),
            None => batch,
        }
    }

    fn quarantine(
        mut self,
        group: &Group<S>,
        event: Event,
        handlers: &[usize],
        deaths: u32,
    ) -> Self {
        for &handler in handlers {
            let registered = &group.handlers[handler];
            let error = format!("the process died {deaths} times while this event was handled");
            if registered.on_failure() == OnFailure::Stop {
                self.end = Some(stopping(&event, registered.scope, &error, ErrorKind::Stopped));
                self.tasks.clear();
                return self;
            }
            let cause = cause(FailureClass::Crash, error, deaths);
            self.tasks.push(Task {
                event: 0,
                handler,
                slot: 0,
                identity: None,
                mode: registered.mode(),
                fingerprint: None,
                outside: Outside::No,
                given_up: Some(Box::new(cause)),
            });
        }
        self.events.push(event);
        self
    }

    fn of(group: &Group<S>, events: Vec<Event>, kind: Kind, schemas: Schemas) -> Self {
        Self {
            works: group.handlers.iter().map(|handler| (handler.work)(handler.scope)).collect(),
            tasks: Vec::with_capacity(events.len()),
            events,
            kind,
            schemas,
            parked_again: HashSet::new(),
            unmarked: false,
            ran: false,
            unmatched: Vec::new(),
            end: None,
        }
    }

    fn push(
        &mut self,
        index: usize,
        event: &Event,
        (number, handler): (usize, &Registered<S>),
        wish: Wish<'_>,
        slot: &mut usize,
    ) -> Result<(), Error> {
        let missing = handler.policy.missing_key;
        let found = match wish {
            Wish::No => return Ok(()),
            Wish::Yes(event_type) => {
                self.works[number].push(Encoded::new(event, &self.schemas), event_type, missing)
            }
            Wish::Unreadable(error) => Err(Refusal::Decode(error)),
        };
        let (identity, given_up) = match found {
            Ok(identity) => (Some(identity), None),
            Err(why) => (None, Some(Box::new(refused(event, handler, why)?))),
        };
        let fingerprint = match (handler.policy.payload_check, &identity) {
            (Some(_), Some(_)) => Some(self.works[number].fingerprint(event)),
            _ => None,
        };
        let task = Task {
            event: index,
            handler: number,
            slot: *slot,
            identity,
            mode: handler.mode(),
            fingerprint,
            outside: Outside::No,
            given_up,
        };
        *slot += usize::from(task.given_up.is_none());
        self.unmarked |= task.is_unmarked();
        self.tasks.push(task);
        Ok(())
    }

    /// The tasks of these events.
    pub(crate) fn tasks_of(&self, events: &Range<usize>) -> Range<usize> {
        let start = self.tasks.partition_point(|task| task.event < events.start);
        let end = self.tasks.partition_point(|task| task.event < events.end);
        start..end
    }

    /// Notes an event that no handler wants; where that stops the lane, says with what.
    fn unmatched(
        &mut self,
        group: &Group<S>,
        index: usize,
        event: &Event,
        readers: &Readers<'_>,
    ) -> Result<(), Error> {
        if group.rules.unmatched == Unmatched::Stop {
            let Event { topic, partition, offset, .. } = event;
            let why = readers.why_not(&group.name, event);
            let place = format!("topic {topic}, partition {partition}, offset {offset}");
            return Err(Error::new(
                ErrorKind::Stopped,
                format!(
                    "{place}: {why}: add a handler whose `types` name it, or let such events pass \
                     with `.unmatched(Unmatched::Ignore)`"
                ),
            ));
        }
        self.unmatched.push(index);
        Ok(())
    }

    /// The events among these that no handler wants.
    pub(crate) fn unmatched_of(&self, events: &Range<usize>) -> &[usize] {
        let start = self.unmatched.partition_point(|event| *event < events.start);
        let end = self.unmatched.partition_point(|event| *event < events.end);
        &self.unmatched[start..end]
    }

    /// The letter that an event waited as.
    pub(crate) fn letter(&self, event: usize) -> Option<i64> {
        self.waited(event).map(|waited| waited.id)
    }

    /// The [digest](Event::digest) of an event as it came.
    pub(crate) fn digest(&self, event: usize) -> i64 {
        self.waited(event).map_or_else(|| self.events[event].digest(), |waited| waited.digest)
    }

    /// Whether an event waited under another key than this one, or under none: it was edited since.
    pub(crate) fn was_rekeyed(&self, event: usize, key: &Key) -> bool {
        self.waited(event).is_some_and(|waited| waited.key.as_ref() != Some(key))
    }

    fn waited(&self, event: usize) -> Option<&Waited> {
        match &self.kind {
            Kind::Delivered => None,
            Kind::Released(letters) => letters.get(event),
        }
    }
}

pub(crate) fn cause(class: FailureClass, error: String, attempts: u32) -> Cause {
    Cause { class, permanent: true, error, attempts, first_failed_at: SystemTime::now() }
}

/// Why a refused event is given up on, or what its lane stops with.
fn refused<S: Store>(event: &Event, handler: &Registered<S>, why: Refusal) -> Result<Cause, Error> {
    let on_failure = handler.on_failure() == OnFailure::Stop;
    let (class, kind, stops) = match &why {
        Refusal::Decode(_) => (FailureClass::Decode, ErrorKind::Decode, on_failure),
        Refusal::Key(error) => {
            let missing = handler.policy.missing_key.filter(|_| error.is_missing());
            let stops = match missing {
                Some(MissingKey::Stop) => true,
                Some(MissingKey::DeadLetter) => false,
                _ => on_failure,
            };
            (FailureClass::Key, ErrorKind::Key, stops)
        }
    };
    let error = why.to_string();
    match stops {
        true => Err(stopping(event, handler.scope, &error, kind)),
        false => Ok(cause(class, error, 0)),
    }
}

/// What a lane stops with at an event that its handler does not allow to be given up on.
pub(crate) fn stopping(event: &Event, scope: &str, why: &str, kind: ErrorKind) -> Error {
    let Event { topic, partition, offset, .. } = event;
    Error::new(
        kind,
        format!("topic {topic}, partition {partition}, offset {offset}, scope {scope}: {why}"),
    )
}
