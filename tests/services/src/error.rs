//! The one error type: a sentence that says what went wrong and what to do about it.
//!
//! It has no kinds to match on. Nobody recovers from a service that does not start; somebody reads
//! the message in a test's output, so it carries the tail of the server's log.

use std::fmt;
use std::io;

/// Why a service could not be installed, started, broken or found.
pub struct Error {
    message: String,
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// For `map_err`: an I/O error, and what was being done when it happened.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let message = format!("could not {}", doing.into());
        move |source| Self { message, source: Some(source) }
    }

    /// The same error with more to read below it, such as the end of a log.
    pub(crate) fn with_details(mut self, details: &str) -> Self {
        if !details.trim().is_empty() {
            self.message.push('\n');
            self.message.push_str(details.trim_end());
        }
        self
    }
}

impl fmt::Display for Error {
    // The source is printed here too: these errors end in a test's output, where `main` and `?` show
    // one error only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

// A test that returns an error is shown its `Debug` form, in which a log must stay readable.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_says_what_was_being_done() {
        let error = Error::io("read the log")(io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "could not read the log: disk on fire");
    }

    #[test]
    fn details_stand_on_their_own_lines_and_empty_ones_nowhere() {
        let plain = Error::new("kafka died").with_details(" \n");
        assert_eq!(plain.to_string(), "kafka died");
        let detailed = Error::new("kafka died").with_details("last words\n");
        assert_eq!(detailed.to_string(), "kafka died\nlast words");
        assert_eq!(format!("{detailed:?}"), "kafka died\nlast words");
    }
}
