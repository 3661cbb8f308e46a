//! Growing pauses with jitter.

use std::time::Duration;

/// Pauses that double from `first` to `longest`, each shortened at random by up to a half, so that
/// many lanes that failed together do not come back together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// For faults of a database that pass by themselves: 10 ms to 2 s.
    pub(crate) const fn for_store() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_secs(2))
    }

    /// How many pauses there were.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let full = growing(self.first, self.longest, self.tries);
        self.tries = self.tries.saturating_add(1);
        shortened(full)
    }

    pub(crate) async fn wait(&mut self) {
        // The pause that this type is for.
        tokio::time::sleep(self.next()).await;
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The first pause, doubled so many times, but not past the longest.
pub(crate) fn growing(first: Duration, longest: Duration, doublings: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest)
}

/// Shortened at random by up to a half.
pub(crate) fn shortened(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - jitter() / 2.0)
}

/// A random number from 0 to 1.
pub(crate) fn jitter() -> f64 {
    let bits = random() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let share = bits as f64 / (1_u64 << 53) as f64;
    share
}

#[cfg(not(test))]
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// The same numbers in each run of a test, so that what was seen once is seen again.
#[cfg(test)]
fn random() -> u64 {
    use std::cell::Cell;
    use std::hash::{DefaultHasher, Hasher};
    thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(COUNT.replace(COUNT.get() + 1));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_never_past_it() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let pauses: Vec<_> = (0..80).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= Duration::from_millis(10));
        assert!(pauses[0] >= Duration::from_millis(5));
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(1)));
        assert!(pauses[79] >= Duration::from_millis(500));
    }
}
