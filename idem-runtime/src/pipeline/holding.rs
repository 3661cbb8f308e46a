//! What the owner of a lane knows of it between batches: its row, and what follows from it.
//!
//! It changes only after a confirmed commit.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use crate::lane::{AttemptRow, Held, LaneRow, Slice};
use crate::pipeline::slices::slice_of_key;
use crate::pipeline::windows::Windows;

#[derive(Debug, Clone)]
pub(crate) struct Holding {
    pub(crate) row: LaneRow,
    pub(crate) parked: ParkedKeys,
    /// The slice, of which revision and position are then.
    pub(crate) slice: Option<Slice>,
    /// Offsets of events that are done and of which attempts are noted all the same: the note came
    /// after a commit whose answer was lost. They are forgotten with the next batch.
    pub(crate) stale: Vec<i64>,
    /// The letters of released events that the last batch of such was done with: they wait no longer.
    pub(crate) released: HashSet<i64>,
    /// Of packed markers.
    pub(crate) windows: Windows,
}

impl Holding {
    pub(crate) fn new(mut row: LaneRow) -> Self {
        let mut parked = ParkedKeys::default();
        for (scope, message_key) in std::mem::take(&mut row.parked) {
            parked.insert(&scope, &message_key);
        }
        let mut stale = Vec::new();
        if parked.is_empty() {
            // Nothing waits, so that nothing below the position is tried any more.
            let below = |attempt: &AttemptRow| attempt.offset < row.position.offset;
            stale = row.attempts.iter().filter(|it| below(it)).map(|it| it.offset).collect();
            stale.dedup();
            row.attempts.retain(|attempt| !stale.contains(&attempt.offset));
        }
        let (released, windows) = (HashSet::new(), Windows::default());
        Self { row, parked, slice: None, stale, released, windows }
    }

    /// A slice of the lane, at this revision.
    pub(crate) fn slice(&self, slice: Slice, revision: i64) -> Self {
        let mut parked = self.parked.clone();
        parked.retain(|message_key| slice_of_key(message_key, slice.of) == slice.index);
        Self {
            row: LaneRow { revision, ..self.row.clone() },
            parked,
            slice: Some(slice),
            stale: self.stale.clone(),
            released: HashSet::new(),
            windows: Windows::default(),
        }
    }

    /// The lane as its owner knows it.
    pub(crate) fn held(&self) -> Held {
        Held { slice: self.slice, ..self.row.held() }
    }

    /// What is known of the attempts of a handler at an event; of the event as a whole, when the
    /// scope is empty.
    pub(crate) fn attempts(&self, scope: &str, offset: i64) -> Option<&AttemptRow> {
        self.row.attempts.iter().find(|it| it.offset == offset && it.scope == scope)
    }

    /// The same, to be changed; made when there is none.
    pub(crate) fn attempts_mut(&mut self, scope: &str, offset: i64) -> &mut AttemptRow {
        let rows = &mut self.row.attempts;
        let known = rows.iter().position(|it| it.offset == offset && it.scope == scope);
        let index = known.unwrap_or_else(|| {
            rows.push(AttemptRow {
                scope: scope.to_owned(),
                offset,
                failures: 0,
                first_failed_at: SystemTime::now(),
                open: false,
                deaths: 0,
            });
            rows.len() - 1
        });
        &mut rows[index]
    }

    /// How many attempts of the handler at the event failed.
    pub(crate) fn failures(&self, scope: &str, offset: i64) -> u32 {
        self.attempts(scope, offset).map_or(0, |it| it.failures)
    }
}

/// The message keys behind which events wait, for each scope.
///
/// Only the lane's owner parks, so that none is missing; a key that was released meanwhile may still
/// be in it, which the database is asked about.
#[derive(Debug, Default, Clone)]
pub(crate) struct ParkedKeys(HashMap<String, HashSet<Vec<u8>>>);

impl ParkedKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, scope: &str, message_key: &[u8]) -> bool {
        self.0.get(scope).is_some_and(|keys| keys.contains(message_key))
    }

    pub(crate) fn insert(&mut self, scope: &str, message_key: &[u8]) {
        self.0.entry(scope.to_owned()).or_default().insert(message_key.to_owned());
    }

    fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        for keys in self.0.values_mut() {
            keys.retain(|key| keep(key));
        }
        self.0.retain(|_, keys| !keys.is_empty());
    }

    pub(crate) fn remove(&mut self, scope: &str, message_key: &[u8]) {
        if let Some(keys) = self.0.get_mut(scope) {
            keys.remove(message_key);
            if keys.is_empty() {
                self.0.remove(scope);
            }
        }
    }
}
