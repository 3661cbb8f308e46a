//! Events that no handler of a group wants.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What becomes of an event that no handler of its group wants, because of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Unmatched {
    /// It is counted, each type is named in the log now and then, and the lane goes on.
    #[default]
    Ignore,
    /// It is a dead letter under the scope `GROUP.unmatched`, which a
    /// [`Replay`](crate::Replay) gives to the handlers that want it by then.
    DeadLetter,
    /// The lane stops before it and says so.
    Stop,
}

/// The scope of a group's unmatched events.
pub(crate) fn unmatched_scope(group: &str) -> String {
    format!("{group}.unmatched")
}

/// The longest type that is shown.
const SHOWN: usize = 100;

/// Why nobody gets an event. Of types that look alike it is the same, so that their letters are
/// counted together.
pub(crate) fn no_handler(group: &str, event_type: Option<&str>) -> String {
    match event_type {
        Some(event_type) => {
            let shown: String = event_type.chars().take(SHOWN).map(plain).collect();
            format!("no handler of group {group} wants an event of type {shown}")
        }
        None => format!("no handler of group {group} wants an event without a type"),
    }
}

/// A type is what a producer wrote: no line of a log ends in the middle of one.
fn plain(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

/// What was said lately of unmatched events, so that it is not said for each.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<String, Instant>>);

impl Told {
    /// How long a type is not named again.
    const QUIET: Duration = Duration::from_secs(300);
    /// How many types are remembered. Beyond that nothing is said until some are forgotten.
    const MOST: usize = 256;

    /// Whether this is to be said now.
    pub(crate) fn is_news(&self, what: &str) -> bool {
        let now = Instant::now();
        // No code that can panic runs while it is held.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(what).is_some_and(|last| now - *last < Self::QUIET) {
            return false;
        }
        if told.len() >= Self::MOST {
            told.retain(|_, last| now - *last < Self::QUIET);
        }
        told.len() < Self::MOST && told.insert(what.to_owned(), now).is_none_or(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_said_once_and_no_more_than_can_be_remembered() {
        let told = Told::default();
        assert!(told.is_news("a") && !told.is_news("a") && told.is_news("b"));
        let said = (0..1000).filter(|n| told.is_news(&n.to_string())).count();
        assert_eq!(said, Told::MOST - 2);
    }

    #[test]
    fn a_type_is_shown_short_and_on_one_line() {
        let text = no_handler("g", Some(&format!("a\nb{}", "x".repeat(500))));
        assert!(text.contains("a?bxx") && text.len() < 200, "{text}");
    }
}
