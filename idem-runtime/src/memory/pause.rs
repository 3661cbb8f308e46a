//! Points where the store stays until the test lets it go.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DEADLINE;
use super::faults::Point;
use super::state::Shared;

/// A place where the store stays until this is released or dropped.
#[must_use = "a pause that is dropped is released"]
pub struct Pause {
    shared: Arc<Shared>,
    number: u64,
}

impl Pause {
    pub(super) fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number }
    }

    /// Waits until the store is there.
    ///
    /// # Panics
    /// When it does not get there within 20 seconds: the test failed.
    pub async fn reached(&self) {
        let number = self.number;
        let reached = self.shared.until(|it| it.script.pauses.is_reached(number).then_some(()));
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        assert!(reached.is_ok(), "the store did not get there within {DEADLINE:?}");
    }

    /// Whether the store is there.
    pub fn is_reached(&self) -> bool {
        let number = self.number;
        self.shared.lock().script.pauses.is_reached(number)
    }

    /// Lets the store go on.
    pub fn release(self) {}
}

impl Drop for Pause {
    fn drop(&mut self) {
        let number = self.number;
        self.shared.change(|state| {
            state.script.pauses.0.remove(&number);
            if let Some(tx) = state.script.lands_with(number) {
                // Nobody is there to hear whether it landed.
                let _ = state.commit(tx);
            }
        });
    }
}

#[derive(Default)]
pub(super) struct Pauses(BTreeMap<u64, Waiting>);

struct Waiting {
    point: Option<Point>,
    reached: bool,
}

impl Pauses {
    pub(super) fn add(&mut self, point: Option<Point>) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.0.insert(number, Waiting { point, reached: false });
        number
    }

    /// The pause that this point has to stay at, which is reached by that.
    pub(super) fn stop_at(&mut self, point: Point) -> Option<u64> {
        let wanted = |pause: &Waiting| pause.point == Some(point) && !pause.reached;
        let (number, pause) = self.0.iter_mut().find(|(_, pause)| wanted(pause))?;
        pause.reached = true;
        Some(*number)
    }

    pub(super) fn reach(&mut self, number: u64) {
        if let Some(pause) = self.0.get_mut(&number) {
            pause.reached = true;
        }
    }

    pub(super) fn is_reached(&self, number: u64) -> bool {
        self.0.get(&number).is_none_or(|pause| pause.reached)
    }

    pub(super) fn is_released(&self, number: u64) -> bool {
        !self.0.contains_key(&number)
    }
}
