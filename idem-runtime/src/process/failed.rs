//! What the caller is told of a handler that failed.

use crate::error::{Error, ErrorKind};
use crate::failure::{Failure, handler_broke};
use crate::store::{Fault, Store};

pub(crate) fn failed<S: Store>(failure: Failure) -> Error {
    let (panicked, is_unstored) = (failure.panicked(), failure.is_unstored());
    // Of a statement of idem's own the store has said what it is.
    let kept = failure.error.downcast_ref::<Error>().filter(|_| is_unstored);
    match kept.map(|error| (error.kind(), error.is_retryable())) {
        Some((ErrorKind::HandlerBroke, _)) => return handler_broke().with_source(failure.error),
        Some((_, true)) => {
            let message = "the database failed when the handler's result was to be stored";
            return Error::new(ErrorKind::Transient, message).with_source(failure.error);
        }
        _ => {}
    }
    let (kind, message) = match S::fault(failure.error()) {
        Fault::Transient | Fault::Lost => {
            (ErrorKind::Transient, "the database failed in the handler")
        }
        Fault::HandlerBroke => return handler_broke().with_source(failure.error),
        Fault::Handler if panicked => (ErrorKind::Handler, "the handler panicked"),
        Fault::Handler | Fault::Permanent if is_unstored => {
            (ErrorKind::Handler, "the handler's result was not stored")
        }
        Fault::Handler | Fault::Permanent => (ErrorKind::Handler, "the handler failed"),
    };
    Error::new(kind, message).with_source(failure.error)
}
