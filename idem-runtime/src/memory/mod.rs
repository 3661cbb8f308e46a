//! A store in memory, for tests of the pipeline and of handlers.
//!
//! It has real transactions: what a transaction stages is nobody else's business until it commits,
//! a claim waits for the transaction that holds its key, and the seal's compare-and-set is the
//! databases'. And it can be made to fail at each step ([`Faults`]), to lose its latest
//! transactions ([`Memory::restore`]) and to say when something happened
//! ([`Memory::wait_for`]), so that no test waits for time.
//!
//! Not here: durability, isolation levels, SQL. What only a database can get wrong is the
//! conformance suite's business.

mod claim;
mod data;
mod faults;
mod instances;
mod lanes;
mod letters;
mod packs;
mod parking;
mod pause;
mod seal;
mod state;
mod store;
mod tx;
mod upkeep;
mod view;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use data::Snapshot;
pub use faults::{Faults, Point};
pub use pause::Pause;
pub use tx::{MemoryConnection, MemoryError, MemoryTx};
pub use view::{Counts, ParkedKey, View};

use crate::key::Key;
use crate::lane::{LaneId, LaneRow};
use crate::packed::PackRow;
use data::Data;
use state::Shared;

/// How long [`Memory::wait_for`] waits before it calls the test failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// A store in memory. Clones are the same store.
///
/// ```
/// # use idem_runtime::{Failure, Store, memory::Memory};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = Memory::new();
/// for _ in 0..2 {
///     let _ = store
///         .process_if_new("bill", "e1", async |tx| Ok(tx.insert("invoices", "order 7").await?))
///         .await?;
/// }
/// assert_eq!(store.rows("invoices"), ["order 7"]);
/// # Ok::<(), idem_runtime::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store that is ready for use.
    pub fn new() -> Self {
        let store = Self::unmigrated();
        store.migrate();
        store
    }

    /// An empty store that fails its check until [`migrate`](Self::migrate) is called.
    pub fn unmigrated() -> Self {
        Self { shared: Arc::new(Shared::new(Data::default())) }
    }

    /// Makes an unmigrated store ready for use.
    pub fn migrate(&self) {
        self.shared.change(|state| state.data.migrate());
    }

    /// The committed rows of a table, in the order of their commits.
    pub fn rows(&self, table: &str) -> Vec<String> {
        self.look(|view| view.rows(table))
    }

    /// A lane's committed row.
    pub fn lane(&self, lane: &LaneId) -> Option<LaneRow> {
        self.look(|view| view.lane(lane).cloned())
    }

    /// The committed rows of packed markers of a scope, in the order of their numbers.
    pub fn pack_rows(&self, scope: &str) -> Vec<PackRow> {
        self.look(|view| view.pack_rows(scope))
    }

    /// What was begun, claimed and committed so far.
    pub fn counts(&self) -> Counts {
        self.look(|view| view.counts())
    }

    /// Looks at the store as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        look(&View::new(&self.shared.lock()))
    }

    /// Waits until the condition holds. It is tried after each change, not after a time.
    ///
    /// # Panics
    /// When the condition does not hold within 20 seconds: the test failed.
    #[track_caller]
    pub fn wait_for(&self, mut holds: impl FnMut(&View<'_>) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let seen = self.shared.until(|state| holds(&View::new(state)).then_some(()));
            if tokio::time::timeout(DEADLINE, seen).await.is_err() {
                let now = self.look(|view| format!("{view:?}"));
                panic!("{caller} waited {DEADLINE:?} in vain; now: {now}");
            }
        }
    }

    /// Makes the store fail, hang or lie about its next steps.
    pub fn faults(&self) -> Faults<'_> {
        Faults::new(&self.shared)
    }

    /// The committed state, to come back to.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.shared.lock().data.clone())
    }

    /// Puts the database back to an earlier state, as a fail-over to a replica that lagged or a
    /// point-in-time restore does. Open transactions are lost.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.shared.change(|state| {
            state.lose_open();
            state.data = snapshot.0.clone();
        });
    }

    /// Deletes a lane's row. Answers whether it was there.
    pub fn drop_lane(&self, lane: &LaneId) -> bool {
        self.shared.change(|state| state.data.drop_lane(lane))
    }

    /// Forgets a key, as an operator does to have its event processed again. Answers whether it was
    /// known.
    pub fn forget(&self, scope: &str, key: &str) -> bool {
        let Ok(key) = Key::written(key) else { return false };
        self.shared.change(|state| state.data.markers.remove(&(scope.to_owned(), key)).is_some())
    }

    /// Spoils the committed rows of packed markers of a scope, as a disk does; spoiled again they are
    /// whole. Answers how many there are.
    pub fn spoil_packs(&self, scope: &str) -> usize {
        self.shared.change(|state| {
            let rows = state.data.packs.rows.values_mut().filter(|(of, _)| of == scope);
            let spoiled = rows.filter_map(|(_, row)| row.data.last_mut());
            spoiled.map(|byte| *byte ^= 1).count()
        })
    }

    /// Gives the store another key for digests, and another identity, as data has that is put into a
    /// schema which was made anew.
    pub fn renew_digest_key(&self) {
        self.shared.change(|state| state.data.renew());
    }

    /// Makes the committed rows of packed markers of a scope so much older, for whoever reads them from
    /// now on.
    pub fn age_packs(&self, scope: &str, by: Duration) {
        let aged = |time: SystemTime| time.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH);
        self.shared.change(|state| {
            for (_, row) in state.data.packs.rows.values_mut().filter(|(of, _)| of == scope) {
                (row.first_at, row.last_at) = (aged(row.first_at), aged(row.last_at));
            }
        });
    }

    /// Makes every heartbeat of owners so much older: those that were heard of before are dead for
    /// whoever waits no longer than this.
    pub fn age_heartbeats(&self, by: Duration) {
        self.shared.change(|state| {
            for heard in state.data.heartbeats.values_mut() {
                *heard = heard.checked_sub(by).unwrap_or(std::time::SystemTime::UNIX_EPOCH);
            }
        });
    }

    /// Sets a lane's floor, as clean-up will.
    pub fn set_floor(&self, lane: &LaneId, floor: i64) {
        self.shared.change(|state| {
            if let Some(lane) = state.data.lane_mut(lane) {
                lane.row.floor = floor;
            }
        });
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.look(|view| f.debug_tuple("Memory").field(view).finish())
    }
}
