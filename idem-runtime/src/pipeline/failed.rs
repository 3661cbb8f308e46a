//! What is known of a failure: whose it was, of what kind, and whether trying again is of use.

use crate::dead_letter::{FailureClass, error_text};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The event of the batch, if it is known.
    pub(crate) event: Option<usize>,
    /// The handler of the group, if it is known.
    pub(crate) handler: Option<usize>,
    /// The tasks of the batch whose handlers were run, if it is known.
    pub(crate) ran: Option<Vec<usize>>,
    pub(crate) class: FailureClass,
    pub(crate) permanent: bool,
    /// Whether the handler itself returned an error, and not something around it.
    pub(crate) returned: bool,
    /// With scope and source, for people.
    pub(crate) error: Error,
    /// What is kept with a dead letter.
    pub(crate) text: String,
}

impl Failed {
    /// A handler failed at an event, or at one of several that it was given together.
    pub(crate) fn handler(
        event: Option<usize>,
        handler: usize,
        scope: &str,
        failure: Failure,
        permanent: bool,
    ) -> Self {
        let (class, what) = if failure.panicked() {
            (FailureClass::Panic, "the handler panicked")
        } else if failure.timed_out() {
            (FailureClass::Timeout, "the handler took too long")
        } else if failure.is_unstored() {
            (FailureClass::Handler, "the handler's result was not stored")
        } else {
            (FailureClass::Handler, "the handler failed")
        };
        let returned = failure.returned();
        let text = error_text(&failure.error);
        let error = Error::new(ErrorKind::Handler, format!("scope {scope}: {what}"))
            .with_source(failure.error);
        Self { event, handler: Some(handler), ran: None, class, permanent, returned, error, text }
    }

    /// A failure that names no event: the transaction was ended or broken, or its commit refused.
    pub(crate) fn nobody(error: Error) -> Self {
        let text = error_text(&error.report().into());
        let class = FailureClass::Transaction;
        Self {
            event: None,
            handler: None,
            ran: None,
            class,
            permanent: false,
            returned: false,
            error,
            text,
        }
    }

    /// The connection broke each time this event was handled.
    pub(crate) fn connection(event: usize, error: Error) -> Self {
        let class = FailureClass::Connection;
        Self { event: Some(event), class, ..Self::nobody(error) }
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.class == FailureClass::Timeout
    }

    /// Whether a lost connection can have looked like this.
    pub(crate) fn may_be_the_connection(&self) -> bool {
        self.class == FailureClass::Handler && !self.permanent
    }
}
