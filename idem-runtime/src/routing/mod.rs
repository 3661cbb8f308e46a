//! To whom an event goes: topics by name or pattern, and event types by pattern.
//!
//! Everything here is made ready when a handler is registered. What is left for an event is one look
//! at its type, and that only where a handler asks for one.

mod correlation;
mod event_type;
mod pattern;
mod readers;
mod topic;
mod unmatched;

use std::sync::Arc;

pub use self::correlation::Correlation;
pub(crate) use self::event_type::field;
pub use self::event_type::{EventType, EventTypes};
pub(crate) use self::pattern::Pattern;
pub(crate) use self::readers::{Readers, Types, Wish};
pub(crate) use self::topic::Topic;
#[cfg(feature = "kafka")]
pub(crate) use self::topic::subscription;
pub use self::unmatched::Unmatched;
pub(crate) use self::unmatched::{Told, no_handler, unmatched_scope};

/// What a group says of all its handlers' events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Where an event's type is, for handlers that do not say.
    pub(crate) event_type: EventType,
    /// What becomes of an event that no handler wants.
    pub(crate) unmatched: Unmatched,
    /// Where the ids are that say what an event belongs to.
    pub(crate) correlation: Arc<Correlation>,
}
