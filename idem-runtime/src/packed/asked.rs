//! Runs as those ask them that they are not of, and the filters that these have in common.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::budget::Budget;
use super::digest::Digest;
use super::filter::{FOLDS, Filter};
use super::pack::Damaged;
use super::row;

/// The filter of a run.
#[derive(Debug)]
pub(crate) struct RunFilter(pub(crate) Filter);

impl RunFilter {
    /// The filter of a run with so many digests. Those that were forgotten since are in it.
    ///
    /// # Errors
    /// [`Damaged`] when it is none, or of fewer digests.
    pub(crate) fn read(id: i64, filter: &[u8], count: u64) -> Result<Self, Damaged> {
        let filter = Filter::from_bytes(filter)
            .map_err(|Damaged(what)| Damaged(format!("run {id}: {what}")))?;
        if filter.count() < count {
            let counts = format!("it is of {} digests, and its run has {count}", filter.count());
            return Err(Damaged(format!("the filter of run {id} is damaged: {counts}")));
        }
        Ok(Self(filter))
    }
}

/// The filters of runs that several windows ask, each of them once for all.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<HashMap<i64, Weak<Common>>>);

/// A filter that several windows have.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) filter: Filter,
    budget: Arc<Budget>,
}

impl Drop for Common {
    fn drop(&mut self) {
        self.budget.give_common(self.filter.bytes());
    }
}

/// A run that is not of the window that asks it, with its filter if there was memory for it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(super) id: i64,
    /// How many digests; 0 when nothing is known of it but that it is there.
    pub(super) count: u64,
    pub(super) filter: Option<Arc<Common>>,
}

impl Asked {
    /// A run without a filter.
    pub(crate) const fn always(id: i64) -> Self {
        Self { id, count: 0, filter: None }
    }

    /// How much memory its filter would have besides.
    pub(super) fn missing(&self) -> usize {
        match &self.filter {
            Some(it) => it.filter.bytes_at(0) - it.filter.bytes().min(it.filter.bytes_at(0)),
            None => Filter::bytes_of(self.count, 0),
        }
    }

    pub(super) fn may_contain(&self, digest: Digest) -> bool {
        self.filter.as_ref().is_none_or(|it| it.filter.may_contain(digest))
    }
}

impl Filters {
    /// A run. Its filter is kept for as long as somebody has it, if the budget allows it; folded, if
    /// there is no room for all of it.
    ///
    /// # Errors
    /// [`Damaged`] when the filter is: then every digest is asked for ([`Asked::always`]).
    pub(crate) fn add(&self, budget: &Arc<Budget>, run: &row::Run) -> Result<Asked, Damaged> {
        let RunFilter(mut filter) = RunFilter::read(run.id, &run.filter, run.count)?;
        let (id, count) = (run.id, run.count);
        let mut all = self.all();
        all.retain(|_, it| it.strong_count() > 0);
        if let Some(known) = all.get(&run.id).and_then(Weak::upgrade) {
            // In a database that went back, another run has the number.
            let is_same = known.filter == filter || {
                filter = filter.folded_to(known.filter.folds());
                known.filter == filter
            };
            if is_same {
                return Ok(Asked { id, count, filter: Some(known) });
            }
        }
        for folds in filter.folds()..=FOLDS {
            filter = filter.folded_to(folds);
            if budget.try_take_common(filter.bytes()) {
                let filter = Arc::new(Common { filter, budget: Arc::clone(budget) });
                all.insert(id, Arc::downgrade(&filter));
                return Ok(Asked { id, count, filter: Some(filter) });
            }
        }
        Ok(Asked { id, count, filter: None })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<i64, Weak<Common>>> {
        // No code that can panic half-way runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
