//! Schemas that were asked for. A schema never changes under its id; that there is none can.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::format::Known;

/// How long an id that could not be used is not asked for again.
const REFUSED: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Cache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_id: HashMap<u32, Entry>,
    /// Counts the uses.
    clock: u64,
}

struct Entry {
    known: Known,
    at: Instant,
    used: u64,
}

impl Cache {
    pub(super) fn get(&self, id: u32) -> Option<Known> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.clock += 1;
        let clock = entries.clock;
        let entry = entries.by_id.get_mut(&id)?;
        if entry.known.is_err() && entry.at.elapsed() >= REFUSED {
            return None;
        }
        entry.used = clock;
        Some(entry.known.clone())
    }

    /// Keeps one more. Of more than `most` the one that was used longest ago is forgotten.
    pub(super) fn put(&self, id: u32, known: Known, most: usize) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.clock += 1;
        let used = entries.clock;
        entries.by_id.insert(id, Entry { known, at: Instant::now(), used });
        while entries.by_id.len() > most {
            let oldest = entries.by_id.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { return };
            entries.by_id.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let cache = Cache::default();
        let none = || Known::Err("none".into());
        for id in [1, 2] {
            cache.put(id, none(), 2);
        }
        assert!(cache.get(1).is_some());
        cache.put(3, none(), 2);
        let kept: Vec<_> = (1..=3).filter(|id| cache.get(*id).is_some()).collect();
        assert_eq!(kept, [1, 3]);
    }
}
