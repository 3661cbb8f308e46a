//! What a test can see of the store.

use std::fmt;

use super::state::State;
use crate::lane::{LaneId, LaneRow, Owner};

/// How often something happened since the store was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Transactions begun.
    pub begins: usize,
    /// Claim statements, however many keys each had.
    pub claims: usize,
    /// Transactions sealed.
    pub seals: usize,
    /// Transactions committed, whether the caller got the answer or not.
    pub commits: usize,
    /// Transactions undone, for whatever reason.
    pub rollbacks: usize,
}

/// The store as it is at one moment.
pub struct View<'a> {
    state: &'a State,
}

impl<'a> View<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state }
    }

    /// The committed rows of a table, in the order of their commits.
    pub fn rows(&self, table: &str) -> Vec<String> {
        let rows = self.state.data.rows.iter();
        rows.filter(|row| row.table == table).map(|row| row.value.clone()).collect()
    }

    /// The committed keys of a scope, in order.
    pub fn keys(&self, scope: &str) -> Vec<String> {
        let markers = self.state.data.markers.keys();
        markers.filter(|(it, _)| it == scope).map(|(_, key)| key.to_string()).collect()
    }

    /// A lane's committed row.
    pub fn lane(&self, lane: &LaneId) -> Option<&LaneRow> {
        self.state.data.lanes.values().map(|it| &it.row).find(|row| row.id == *lane)
    }

    /// Who holds the lane; `None` before the first owner and after a clean release.
    pub fn owner(&self, lane: &LaneId) -> Option<&Owner> {
        let lane = self.state.data.lanes.values().find(|it| it.row.id == *lane)?;
        lane.owner.as_ref()
    }

    /// What happened so far, counted.
    pub fn counts(&self) -> Counts {
        self.state.counts
    }

    /// How many transactions are open.
    pub fn open(&self) -> usize {
        self.state.open.len()
    }

    /// How many of them wait for another one.
    pub fn waiting(&self) -> usize {
        self.state.open.values().filter(|tx| tx.waits_for.is_some()).count()
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("markers", &self.state.data.markers.len())
            .field("rows", &self.state.data.rows.len())
            .field("lanes", &self.state.data.lanes.values().map(|it| &it.row).collect::<Vec<_>>())
            .field("open", &self.open())
            .field("waiting", &self.waiting())
            .field("counts", &self.counts())
            .finish()
    }
}
