//! Waiting for a condition, never for an amount of time.
//!
//! The only place that sleeps: everything that has to wait, tests included, polls through
//! [`wait_until`], so a fast machine is not held up and a slow one is not misjudged.

use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// The pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

/// Calls `look` until it returns `Some`, and returns what it found.
///
/// `what` completes the sentence "waited 5s for …" of the error.
///
/// # Errors
///
/// When `deadline` has passed and a last look found nothing, or as soon as `look` fails.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        let too_late = started.elapsed() >= deadline;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if too_late {
            return Err(Error::new(format!("waited {deadline:?} for {what}")));
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let found = wait_until("the third look", Duration::from_secs(60), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn a_condition_that_never_comes_true_is_looked_at_once_more_and_then_named() {
        let mut looks = 0;
        let error = wait_until("godot", Duration::ZERO, || {
            looks += 1;
            Ok(None::<()>)
        })
        .unwrap_err();
        assert_eq!((looks, error.to_string().as_str()), (1, "waited 0ns for godot"));
    }
}
