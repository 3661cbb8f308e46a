//! How much memory the windows of a process may have together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// So many bytes for all windows of a process. What is needed at once is taken, over the limit if it
/// must be, and counted; who can do without asks first.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// What of it is of no window alone.
    common: AtomicUsize,
    /// How many windows share it.
    windows: AtomicUsize,
    /// Whether somebody merges runs.
    merging: AtomicBool,
    /// What filters would have besides, if there were room for all of them as they are.
    missing: AtomicUsize,
    /// Who tells what is in them.
    measured: Mutex<Vec<Weak<dyn Measured>>>,
}

/// That nobody else of the process merges runs.
#[derive(Debug)]
pub(crate) struct Alone(Arc<Budget>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.merging.store(false, Ordering::Release);
    }
}

/// Something that is in the budget, and tells what it has when it is asked.
pub(crate) trait Measured: std::fmt::Debug + Send + Sync {
    /// Adds what it has now.
    fn measure(&self, measure: &mut Measure);
}

/// What the windows of a process have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Digests in memory.
    pub(crate) digests: u64,
    /// Runs that are asked, by their numbers, and whether all who ask have its filter.
    pub(crate) runs: BTreeMap<i64, bool>,
}

impl Budget {
    /// A budget of so many bytes, none of them taken.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            common: AtomicUsize::new(0),
            windows: AtomicUsize::new(0),
            merging: AtomicBool::new(false),
            missing: AtomicUsize::new(0),
            measured: Mutex::default(),
        })
    }

    /// From now on this is asked what it has, for as long as somebody else has it.
    pub(crate) fn ask(&self, measured: Weak<dyn Measured>) {
        let mut all = self.measured();
        all.retain(|it| it.strong_count() > 0);
        all.push(measured);
    }

    /// What there is now: asked when somebody wants to know, so that it costs nothing otherwise.
    pub(crate) fn measure(&self) -> Measure {
        let all: Vec<_> = self.measured().iter().filter_map(Weak::upgrade).collect();
        let mut measure = Measure::default();
        for measured in all {
            measured.measure(&mut measure);
        }
        measure
    }

    fn measured(&self) -> MutexGuard<'_, Vec<Weak<dyn Measured>>> {
        // No code that can panic half-way runs while it is held.
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes these bytes if they are within the limit; answers whether they are.
    pub(crate) fn try_take(&self, bytes: usize) -> bool {
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.limit)
            })
            .is_ok()
    }

    /// Takes these bytes, over the limit if it must be.
    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was taken.
    pub(crate) fn give(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more is given back than was taken");
    }

    /// Takes these bytes for what is of no window alone, if half of the limit is enough for all of that;
    /// answers whether it is. Then windows have less.
    pub(super) fn try_take_common(&self, bytes: usize) -> bool {
        let taken = self.common.try_update(Ordering::Relaxed, Ordering::Relaxed, |common| {
            common.checked_add(bytes).filter(|common| *common <= self.limit / 2)
        });
        if taken.is_ok() {
            self.take(bytes);
        }
        taken.is_ok()
    }

    /// Gives back what was taken so.
    pub(super) fn give_common(&self, bytes: usize) {
        self.common.fetch_sub(bytes, Ordering::Relaxed);
        self.give(bytes);
    }

    /// A window misses so many bytes for its filters, after it missed so many before.
    pub(super) fn miss(&self, before: usize, bytes: usize) {
        self.missing.fetch_add(bytes, Ordering::Relaxed);
        self.missing.fetch_sub(before, Ordering::Relaxed);
    }

    /// The limit with which there would be room for all filters; so many bytes of those that are common
    /// are missing, too.
    pub(super) fn needed(&self, common: usize) -> usize {
        let all = self.used() + self.missing.load(Ordering::Relaxed) + common;
        all.max((self.common.load(Ordering::Relaxed) + common) * 2)
    }

    /// The right to merge runs, if nobody of the process has it: each merge has a filter that is not
    /// counted.
    pub(crate) fn alone(self: &Arc<Self>) -> Option<Alone> {
        let taken = self.merging.swap(true, Ordering::Acquire);
        (!taken).then(|| Alone(Arc::clone(self)))
    }

    /// One window more shares it.
    pub(super) fn enter(&self) {
        self.windows.fetch_add(1, Ordering::Relaxed);
    }

    /// One window fewer.
    pub(super) fn leave(&self) {
        self.windows.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether more is taken than there is, and by a window that has so many bytes more than its part.
    pub(crate) fn is_over(&self, bytes: usize) -> bool {
        let windows = self.windows.load(Ordering::Relaxed).max(1);
        let theirs = self.limit.saturating_sub(self.common.load(Ordering::Relaxed));
        self.used() > self.limit && bytes > theirs / windows
    }

    /// Whether there is room for so many bytes, once others were given back.
    pub(super) fn has_room(&self, bytes: usize, given: usize) -> bool {
        self.used().saturating_sub(given).checked_add(bytes).is_some_and(|all| all <= self.limit)
    }

    /// How many of so many things of this size there is room for.
    pub(super) fn room_for(&self, things: usize, size: usize) -> usize {
        things.min(self.limit.saturating_sub(self.used()) / size)
    }

    /// How many bytes are taken.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes there are.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }
}

/// What one structure has of a budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Nothing yet.
    pub(super) const fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// So many bytes, if they are within the limit.
    pub(super) fn within(budget: &Arc<Budget>, bytes: usize) -> Option<Self> {
        budget.try_take(bytes).then(|| Self { budget: Arc::clone(budget), bytes })
    }

    /// So many bytes from now on, over the limit if it must be.
    pub(super) fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.take(bytes - self.bytes);
        } else {
            self.budget.give(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_gets_nothing_over_the_limit_and_who_must_have_it_does() {
        let budget = Budget::new(100);
        assert!(budget.try_take(60));
        assert!(!budget.try_take(41));
        assert!(!budget.try_take(usize::MAX));
        assert!(budget.try_take(40));
        budget.take(50);
        assert_eq!((budget.used(), budget.limit()), (150, 100));
        assert!(!budget.try_take(0));
        budget.give(60);
        assert!(budget.try_take(10));
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn what_is_common_has_half_at_most_and_windows_the_rest() {
        let budget = Budget::new(100);
        budget.enter();
        budget.enter();
        assert!(budget.try_take_common(50));
        assert!(!budget.try_take_common(1));
        assert!(!budget.try_take_common(usize::MAX));
        budget.take(51);
        assert!(budget.is_over(26) && !budget.is_over(25), "two windows have what is left");
        budget.give_common(50);
        assert_eq!(budget.used(), 51);
        assert!(budget.try_take_common(20));
    }

    #[test]
    fn a_share_gives_back_what_it_has_when_it_is_dropped() {
        let budget = Budget::new(100);
        let mut share = Share::new(Arc::clone(&budget));
        share.resize(130);
        assert_eq!(budget.used(), 130);
        assert!(Share::within(&budget, 1).is_none());
        share.resize(70);
        let other = Share::within(&budget, 30).unwrap();
        assert_eq!(budget.used(), 100);
        drop(share);
        assert_eq!(budget.used(), 30);
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_at_a_time_merges_runs() {
        let budget = Budget::new(100);
        let alone = budget.alone().unwrap();
        assert!(budget.alone().is_none());
        drop(alone);
        assert!(budget.alone().is_some());
    }

    #[test]
    fn many_threads_never_take_more_than_there_is() {
        let budget = Budget::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Some(share) = Share::within(&budget, 300) {
                            assert!(budget.used() <= budget.limit());
                            drop(share);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
