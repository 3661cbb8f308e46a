//! A handler's failure, and how it says that trying again is of no use.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{BoxError, Error, ErrorKind, report};

/// Why a handler did not finish an event.
///
/// Every error type converts into it, so that a handler may return any. It is deliberately not an
/// error type itself: that is what makes the conversion possible for all of them.
///
/// ```
/// use idem_runtime::Failure;
///
/// fn parse(text: &str) -> Result<i64, Failure> {
///     Ok(text.parse::<i64>()?)
/// }
/// assert!(parse("x").is_err());
/// ```
pub struct Failure {
    pub(crate) error: BoxError,
    pub(crate) kind: FailureKind,
    /// Which of the events that a batch handler was given.
    pub(crate) event: Option<usize>,
}

/// How a handler did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Returned,
    /// The handler succeeded, and its result is not stored.
    Unstored,
    Panicked,
    TimedOut,
}

impl Failure {
    /// A failure for a reason.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), kind: FailureKind::Returned, event: None }
    }

    /// A failure that trying again does not cure.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::new(permanent(error))
    }

    /// The same failure, as one that trying again does not cure.
    #[must_use]
    pub fn into_permanent(self) -> Self {
        Self { error: permanent(self.error).into(), ..self }
    }

    /// The same failure, as one of this event: its index in the `Vec` that a batch handler was given.
    ///
    /// A batch handler that says so spares the search: a batch of which nobody knows the event that
    /// failed is halved until that one is alone, which is a dozen transactions for a thousand events in
    /// place of two or three. An index that is not in the `Vec` says nothing.
    ///
    /// ```
    /// use idem_runtime::Failure;
    ///
    /// fn check(orders: &[i64]) -> Result<(), Failure> {
    ///     match orders.iter().position(|cents| *cents < 0) {
    ///         Some(index) => Err(Failure::permanent("a negative amount").of_event(index)),
    ///         None => Ok(()),
    ///     }
    /// }
    /// assert_eq!(check(&[5, -1]).unwrap_err().event(), Some(1));
    /// ```
    #[must_use]
    pub fn of_event(self, index: usize) -> Self {
        Self { event: Some(index), ..self }
    }

    /// Which of the events that a batch handler was given has failed, if it said so.
    pub fn event(&self) -> Option<usize> {
        self.event
    }

    pub(crate) fn panic(payload: Box<dyn std::any::Any + Send>) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a value that is not text".to_owned());
        let error = format!("the handler panicked: {text}").into();
        Self { error, kind: FailureKind::Panicked, event: None }
    }

    pub(crate) fn timeout(after: std::time::Duration) -> Self {
        let error = format!("the handler did not finish within {after:?}").into();
        Self { error, kind: FailureKind::TimedOut, event: None }
    }

    /// The error the handler returned.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self.error.as_ref()
    }

    /// The handler succeeded, and its result cannot be stored: trying again does not cure that.
    pub(crate) fn unstored(error: impl Into<BoxError>) -> Self {
        Self { kind: FailureKind::Unstored, ..Self::permanent(error) }
    }

    /// The handler succeeded, and the store did not keep its result.
    pub(crate) fn not_kept(error: Error) -> Self {
        Self { kind: FailureKind::Unstored, ..Self::new(error) }
    }

    /// Whether the handler succeeded, and only its result is not stored.
    pub(crate) fn is_unstored(&self) -> bool {
        self.kind == FailureKind::Unstored
    }

    /// Whether the handler itself returned an error.
    pub(crate) fn returned(&self) -> bool {
        self.kind == FailureKind::Returned
    }

    /// Whether the handler panicked instead of returning.
    pub fn panicked(&self) -> bool {
        self.kind == FailureKind::Panicked
    }

    /// Whether the handler took longer than its timeout.
    pub fn timed_out(&self) -> bool {
        self.kind == FailureKind::TimedOut
    }

    /// Whether the error, or one of its sources, was marked with [`permanent`].
    pub fn is_permanent(&self) -> bool {
        let mut next: Option<&(dyn StdError + 'static)> = Some(self.error.as_ref());
        while let Some(error) = next {
            if error.is::<Permanent>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&report(self.error.as_ref()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

/// Marks an error as permanent: the event is not tried again but given up on at once, as its
/// handler's `on_failure` says.
///
/// ```
/// use idem_runtime::{Failure, permanent};
///
/// fn bill(cents: i64) -> Result<(), Failure> {
///     if cents < 0 {
///         return Err(permanent(format!("{cents} cents cannot be billed")).into());
///     }
///     Ok(())
/// }
/// assert!(bill(-1).unwrap_err().is_permanent());
/// ```
pub fn permanent(error: impl Into<BoxError>) -> Permanent {
    Permanent(error.into())
}

/// An error that trying again does not cure; made by [`permanent`].
///
/// It reads as the error it marks, and is found wherever it stands among the sources of what the
/// handler returns.
pub struct Permanent(BoxError);

impl fmt::Debug for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Permanent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.0.as_ref())
    }
}

/// What a handler did that ended its transaction.
pub(crate) fn handler_broke() -> Error {
    Error::new(
        ErrorKind::HandlerBroke,
        "the handler ended the transaction it was lent (COMMIT or ROLLBACK): that is a bug in the \
         handler, remove the statement; nothing of this attempt was kept beside its marker",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_with_text_keeps_its_text() {
        let failure = Failure::panic(Box::new("boom"));
        assert!(failure.panicked());
        assert!(failure.to_string().contains("boom"));
    }

    #[test]
    fn a_permanent_error_is_found_below_others() {
        let inner = permanent("no such customer");
        let outer = Error::new(ErrorKind::Handler, "billing failed").with_source(inner);
        assert!(Failure::new(outer).is_permanent());
        assert!(!Failure::new("a passing one").is_permanent());
    }

    #[test]
    fn a_failure_that_is_made_permanent_keeps_its_error() {
        let failure = Failure::new(std::fmt::Error).into_permanent();
        assert!(failure.is_permanent());
        assert!(failure.error().source().is_some_and(|it| it.is::<std::fmt::Error>()));
    }

    #[test]
    fn a_permanent_error_reads_as_the_error_it_marks() {
        let failure = Failure::permanent("no such customer");
        assert_eq!(format!("{failure:?}"), "no such customer");
    }
}
