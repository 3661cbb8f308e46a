//! An event that is to be decoded.

use std::ops::Deref;

use crate::event::Event;
use crate::format::Schemas;

/// An event before it is decoded, with the schemas that it may be read with.
///
/// ```
/// use idem_runtime::{Encoded, Event, Schemas};
///
/// let event = Event::new("orders".into(), 0, 7, "{}");
/// let schemas = Schemas::none();
/// let encoded = Encoded::new(&event, &schemas);
/// assert_eq!(encoded.offset, 7);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    event: &'a Event,
    schemas: &'a Schemas,
}

impl<'a> Encoded<'a> {
    /// An event with schemas.
    pub fn new(event: &'a Event, schemas: &'a Schemas) -> Self {
        Self { event, schemas }
    }

    /// The schemas that were asked for.
    pub fn schemas(&self) -> &'a Schemas {
        self.schemas
    }
}

impl Deref for Encoded<'_> {
    type Target = Event;

    fn deref(&self) -> &Event {
        self.event
    }
}
