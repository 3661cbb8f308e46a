//! What a test can see of the store.

use std::fmt;

use super::letters::Letter;
use super::state::State;
use crate::dead_letter::DeadLetter;
use crate::key::Key;
use crate::lane::{LaneId, LaneRow, Owner, Position};
use crate::marker::MarkerState;
use crate::packed::{DigestKey, PackRow, may_have};
use crate::store::Terms;

/// How often something happened since the store was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Transactions begun.
    pub begins: usize,
    /// Claim statements, however many keys each had.
    pub claims: usize,
    /// Claims of lanes that know by themselves which keys are new.
    pub packs: usize,
    /// Transactions sealed.
    pub seals: usize,
    /// Transactions committed, whether the caller got the answer or not.
    pub commits: usize,
    /// Transactions undone, for whatever reason.
    pub rollbacks: usize,
    /// Rows of packed markers that took the place of others.
    pub repacks: usize,
    /// Runs of packed markers written.
    pub runs: usize,
    /// Times that runs of packed markers were merged into one.
    pub merges: usize,
    /// Questions which digests are in runs.
    pub asks: usize,
    /// Digests that were in them.
    pub answers: usize,
    /// Times that rows of packed markers were forgotten because they were out of date.
    pub forgets: usize,
}

/// A message key behind which events of a lane wait.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedKey {
    /// Whose events they are.
    pub scope: String,
    /// The message key.
    pub message_key: Vec<u8>,
    /// How many wait.
    pub waiting: u32,
    /// Whether they may be worked: the event they waited for was settled.
    pub released: bool,
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

    /// A lane's committed row, with the deaths of its owners, attempts and parked keys.
    pub fn lane(&self, lane: &LaneId) -> Option<&LaneRow> {
        self.state.data.lane(lane).map(|lane| &lane.row)
    }

    /// Who holds the lane; `None` before the first owner and after a clean release.
    pub fn owner(&self, lane: &LaneId) -> Option<&Owner> {
        self.state.data.lane(lane)?.owner.as_ref()
    }

    /// The committed rows of packed markers of a scope, in the order of their numbers.
    pub fn pack_rows(&self, scope: &str) -> Vec<PackRow> {
        let rows = self.state.data.packs.rows.values();
        rows.filter(|(of, _)| of == scope).map(|(_, row)| row.clone()).collect()
    }

    /// How many runs of packed markers there are.
    pub fn runs(&self) -> usize {
        self.state.data.packs.runs.values().filter(|run| run.is_finished).count()
    }

    /// How many are unfinished: somebody writes them, or has left them behind.
    pub fn unfinished_runs(&self) -> usize {
        self.state.data.packs.runs.len() - self.runs()
    }

    /// What the digests of packed markers are made with.
    pub fn digests(&self) -> DigestKey {
        DigestKey::new(self.state.data.digest_key.into_bytes())
    }

    /// What the marker of a key says, if there is one, in whatever form.
    pub fn marker(&self, scope: &str, key: &str) -> Option<MarkerState> {
        let mut markers = self.state.data.markers.iter();
        let marker = markers.find(|((it, known), _)| it == scope && known.as_str() == key);
        let is_packed = || {
            let digest = self.digests().digest(&Key::new(key).ok()?);
            let has = |row: &PackRow| may_have(&row.data, digest);
            self.pack_rows(scope).iter().any(has).then_some(MarkerState::Processed)
        };
        marker.map(|(_, it)| it.state).or_else(is_packed)
    }

    /// All dead letters and waiting events, in the order of their numbers.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.state.data.letters.values().map(Letter::shown).collect()
    }

    /// The groups of the instances that are kept, in order.
    pub fn instances(&self) -> Vec<String> {
        self.state.data.instances.keys().cloned().collect()
    }

    /// The message keys of a lane behind which events wait, with how many do.
    pub fn parked(&self, lane: &LaneId) -> Vec<ParkedKey> {
        let number = self.lane(lane).map(|row| row.number);
        let rows = self.state.data.parked.iter();
        let rows = rows.filter(|((lane, _, _), _)| Some(*lane) == number);
        rows.map(|((_, scope, message_key), row)| ParkedKey {
            scope: scope.clone(),
            message_key: message_key.clone(),
            waiting: row.waiting,
            released: row.released,
        })
        .collect()
    }

    /// The positions of a lane's slices, in order; empty when it is not divided.
    pub fn slices(&self, lane: &LaneId) -> Vec<Position> {
        let lane = self.state.data.lane(lane);
        lane.map(|it| it.slices.iter().map(|slice| slice.position).collect()).unwrap_or_default()
    }

    /// The terms of all transactions that were begun.
    pub fn terms(&self) -> &[Terms] {
        &self.state.terms
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
            .field("packs", &self.state.data.packs.rows.len())
            .field("rows", &self.state.data.rows.len())
            .field("lanes", &self.state.data.lanes.values().map(|it| &it.row).collect::<Vec<_>>())
            .field("letters", &self.state.data.letters)
            .field("parked", &self.state.data.parked)
            .field("open", &self.open())
            .field("waiting", &self.waiting())
            .field("counts", &self.counts())
            .finish()
    }
}
