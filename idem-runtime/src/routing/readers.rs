//! Which handlers of a group want an event.

use std::borrow::Cow;

use crate::event::{DecodeError, Event};
use crate::group::{Group, Registered};
use crate::handler::Subscriber;
use crate::routing::{EventType, Pattern, no_handler};
use crate::store::Store;

/// The event types that a handler takes.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    /// Where the type is; `None`: as the group says.
    pub(crate) from: Option<EventType>,
    patterns: Vec<Pattern>,
    /// What is wrong with what the handler says.
    pub(crate) mistakes: Vec<String>,
    /// Whether the handler decodes an event by its type.
    by_type: bool,
    /// Whether a type can be in a field of the payload.
    has_fields: bool,
}

impl Types {
    /// The types of a handler, unless it takes all events of its topics.
    pub(crate) fn of<H: Subscriber>() -> Option<Self> {
        H::TYPES.map(|texts| Self {
            by_type: H::BY_TYPE,
            has_fields: H::HAS_FIELDS,
            ..Self::new(texts, H::event_type())
        })
    }

    pub(crate) fn new(texts: &[&str], from: Option<EventType>) -> Self {
        let mut mistakes = Vec::new();
        let mut patterns = Vec::new();
        for text in texts {
            match Pattern::new(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => mistakes.push(why),
            }
        }
        if texts.is_empty() {
            mistakes.push("it takes no event type: name one".to_owned());
        }
        mistakes.extend(from.as_ref().and_then(EventType::mistake));
        Self { from, patterns, mistakes, by_type: false, has_fields: true }
    }

    /// What is wrong with where the type is, if the handler or its group asks for a field of a payload
    /// that has none.
    pub(crate) fn unreadable(&self, by_default: &EventType) -> Option<String> {
        let from = self.from.as_ref().unwrap_or(by_default);
        let wrong = from.is_field() && !self.has_fields;
        wrong.then(|| {
            format!(
                "the type of its events is to be read from a {from}, and their format is not JSON: \
                 give it a `type_from = header(\"event-type\")` of its own, or `type_from = topic`"
            )
        })
    }

    fn takes(&self, event_type: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(event_type))
    }
}

/// What a handler says to an event.
#[derive(Debug)]
pub(crate) enum Wish<'a> {
    /// It is not for this handler.
    No,
    /// It is; with its type, if the handler decodes by it.
    Yes(Option<&'a str>),
    /// The handler asks for a type that cannot be read.
    Unreadable(DecodeError),
}

/// The handlers that read a topic, made ready once a batch.
pub(crate) struct Readers<'g> {
    readers: Vec<Reader<'g>>,
    /// Where the types are that they ask for, each once.
    places: Vec<&'g EventType>,
}

struct Reader<'g> {
    handler: usize,
    /// What it asks for, and the number of the place where that is.
    types: Option<(&'g Types, usize)>,
}

impl<'g> Readers<'g> {
    /// The handlers that read this topic.
    pub(crate) fn of<S: Store>(group: &'g Group<S>, topic: &str) -> Self {
        let mut places = Vec::new();
        let handlers = group.handlers.iter().enumerate();
        let readers = handlers
            .filter(|(_, handler)| handler.reads(topic))
            .map(|(handler, registered)| {
                let types = registered.types.as_ref().map(|types| {
                    let place = types.from.as_ref().unwrap_or(&group.rules.event_type);
                    (types, number_of(&mut places, place))
                });
                Reader { handler, types }
            })
            .collect();
        Self { readers, places }
    }

    /// The handlers, each by its number in the group with what it says to this event, until one
    /// of them makes `each` fail. Answers whether any of them wants it.
    pub(crate) fn ask<E>(
        &self,
        event: &Event,
        mut each: impl FnMut(usize, Wish<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut wanted = false;
        // Without typed handlers it stays empty, and nothing is allocated.
        let mut read: Vec<Option<Read<'_>>> = self.places.iter().map(|_| None).collect();
        for reader in &self.readers {
            let wish = match reader.types {
                None => Wish::Yes(None),
                Some((types, place)) => {
                    let read = read[place].get_or_insert_with(|| self.places[place].read(event));
                    wish(types, read)
                }
            };
            if !matches!(wish, Wish::No) {
                wanted = true;
                each(reader.handler, wish)?;
            }
        }
        Ok(wanted)
    }

    /// Why none of them wants this event.
    pub(crate) fn why_not(&self, group: &str, event: &Event) -> String {
        let types = self.places.iter().filter_map(|place| place.read(event).ok().flatten());
        no_handler(group, types.into_iter().next().as_deref())
    }
}

type Read<'e> = Result<Option<Cow<'e, str>>, DecodeError>;

fn wish<'a>(types: &Types, read: &'a Read<'_>) -> Wish<'a> {
    match read {
        Ok(Some(event_type)) if types.takes(event_type) => {
            Wish::Yes(types.by_type.then_some(event_type))
        }
        Ok(_) => Wish::No,
        Err(error) => Wish::Unreadable(DecodeError::new(error.to_string())),
    }
}

fn number_of<'g>(places: &mut Vec<&'g EventType>, place: &'g EventType) -> usize {
    places.iter().position(|it| *it == place).unwrap_or_else(|| {
        places.push(place);
        places.len() - 1
    })
}

impl<S: Store> Registered<S> {
    /// Whether it reads this topic.
    pub(crate) fn reads(&self, topic: &str) -> bool {
        self.topics.iter().any(|its| its.names(topic))
    }

    /// What the handler says to an event of one of its topics, asked alone; `by_default` is where a
    /// type is if the handler does not say.
    pub(crate) fn wishes<T>(
        &self,
        event: &Event,
        by_default: &EventType,
        then: impl FnOnce(Wish<'_>) -> T,
    ) -> T {
        match &self.types {
            None => then(Wish::Yes(None)),
            Some(types) => {
                let read = types.from.as_ref().unwrap_or(by_default).read(event);
                then(wish(types, &read))
            }
        }
    }
}
