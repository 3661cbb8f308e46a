//! Stand-in.
use super::{Digest, Pack, PackRow};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[derive(Debug)]
pub(crate) struct Budget(usize);
impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self(limit))
    }
    pub(crate) fn limit(&self) -> usize {
        self.0
    }
}
#[derive(Debug)]
pub(crate) enum Look {
    Known,
    New,
    Ask,
}
pub(crate) struct Filter;
impl Filter {
    pub(crate) fn build(_: &[Digest]) -> Self {
        Self
    }
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }
}
pub(crate) struct Window {
    set: HashMap<Digest, SystemTime>,
    forever: HashSet<Digest>,
    runs: Vec<i64>,
    seen: Option<i64>,
}
impl Window {
    pub(crate) fn new(_: &Arc<Budget>, _: Duration) -> Self {
        Self { set: HashMap::new(), forever: HashSet::new(), runs: vec![], seen: None }
    }
    pub(crate) fn look(&self, digest: Digest) -> Look {
        if self.set.contains_key(&digest) || self.forever.contains(&digest) {
            Look::Known
        } else if self.runs.is_empty() {
            Look::New
        } else {
            Look::Ask
        }
    }
    pub(crate) fn was_given_up(&self, digest: Digest) -> bool {
        self.forever.contains(&digest)
    }
    pub(crate) fn learn(&mut self, digests: &[Digest], at: SystemTime) {
        for d in digests {
            self.set.insert(*d, at);
        }
    }
    pub(crate) fn learn_forever(&mut self, digest: Digest) {
        self.forever.insert(digest);
    }
    pub(crate) fn see(&mut self, offset: i64) {
        self.seen = self.seen.max(Some(offset));
    }
    pub(crate) fn seen_to(&self) -> Option<i64> {
        self.seen
    }
    pub(crate) fn load(&mut self, pack: &Pack, row: &PackRow, this_log: bool) {
        for (_, d) in &pack.entries {
            self.set.insert(*d, row.last_at);
        }
        if this_log {
            self.see(row.last_offset);
        }
    }
    pub(crate) fn add_run(&mut self, id: i64, _: &[u8], _: u64) {
        self.runs.push(id);
    }
    pub(crate) fn drop_run(&mut self, id: i64) {
        self.runs.retain(|it| *it != id);
    }
    pub(crate) fn runs(&self) -> Vec<i64> {
        self.runs.clone()
    }
    pub(crate) fn evict_older_than(&mut self, at: SystemTime) {
        self.set.retain(|_, it| *it >= at);
    }
    pub(crate) fn evict(&mut self, digests: &[Digest], newest: SystemTime) {
        for d in digests {
            if self.set.get(d).is_some_and(|at| *at <= newest) {
                self.set.remove(d);
            }
        }
    }
    pub(crate) fn era(&self) -> Duration {
        Duration::ZERO
    }
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }
    pub(crate) fn bytes(&self) -> usize {
        self.set.len() * 20
    }
    pub(crate) fn is_over_budget(&self) -> bool {
        false
    }
}
