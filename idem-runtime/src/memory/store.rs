//! The contract, kept in memory.

use std::error::Error as StdError;

use uuid::Uuid;

use super::Memory;
use super::faults::{CommitFault, Point};
use super::state::Claiming;
use super::tx::{MemoryConnection, MemoryError, MemoryTx};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::lane::{Held, LaneId, LaneRow, Observed, Owner};
use crate::marker::Marker;
use crate::scope::Registration;
use crate::store::{
    Claim, Claimed, Fault, Lends, Opening, Reposition, Seal, Sealed, Store, Writer,
};

impl Memory {
    /// Each step begins here: it hangs or fails as the test wants.
    async fn enter(&self, point: Point) -> Result<()> {
        let stop = self.shared.change(|state| state.script.pauses.stop_at(point));
        if let Some(pause) = stop {
            self.shared.until(|state| state.script.pauses.is_released(pause).then_some(())).await;
        }
        let mut state = self.shared.lock();
        if state.down {
            return Err(Error::new(ErrorKind::Connection, "the database cannot be reached"));
        }
        state.script.failure(point).map_or(Ok(()), Err)
    }
}

impl Lends<MemoryConnection> for Memory {
    fn lend(tx: &mut MemoryTx) -> &mut MemoryConnection {
        &mut tx.connection
    }
}

impl Store for Memory {
    type Tx = MemoryTx;
    type Connection = MemoryConnection;
    const NAME: &'static str = "memory";

    async fn check(&self) -> Result<Uuid> {
        self.enter(Point::Check).await?;
        let id = self.shared.lock().data.id;
        id.ok_or_else(|| {
            Error::new(ErrorKind::Migration, "the store in memory was not migrated: call migrate()")
        })
    }

    async fn register(&self, registration: &Registration<'_>) -> Result<()> {
        self.enter(Point::Register).await?;
        self.shared.change(|state| state.data.register(registration))
    }

    async fn lanes(&self, group: &str, topic: &str) -> Result<Vec<LaneRow>> {
        self.enter(Point::Lanes).await?;
        let state = self.shared.lock();
        let rows = state.data.lanes.values().map(|lane| &lane.row);
        let of = |row: &&LaneRow| *row.id.group == *group && *row.id.topic == *topic;
        let mut rows: Vec<_> = rows.filter(of).cloned().collect();
        rows.sort_by_key(|row| row.id.partition);
        Ok(rows)
    }

    async fn open_topic(&self, opening: &Opening<'_>) -> Result<()> {
        self.enter(Point::OpenTopic).await?;
        self.shared.change(|state| state.data.open_topic(opening));
        Ok(())
    }

    async fn take(&self, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
        self.enter(Point::Take).await?;
        let answer = self.shared.until(|state| {
            let number = state.data.lane_mut(lane).map(|lane| lane.row.number);
            if number.is_some_and(|number| state.lane_holder(number).is_some()) {
                return None;
            }
            state.version += 1;
            Some(state.data.lane_mut(lane).map(|lane| {
                lane.row.token = Uuid::new_v4();
                lane.owner = Some(owner.clone());
                lane.row.clone()
            }))
        });
        Ok(answer.await)
    }

    async fn read(&self, held: &Held) -> Result<Option<LaneRow>> {
        self.enter(Point::Read).await?;
        let state = self.shared.lock();
        Ok(state.data.lanes.get(&held.number).map(|lane| lane.row.clone()))
    }

    async fn observe(&self, _owner: &Owner, lanes: &[i64]) -> Result<Vec<Observed>> {
        self.enter(Point::Observe).await?;
        let state = self.shared.lock();
        let rows = lanes.iter().filter_map(|number| state.data.lanes.get(number));
        let observed = rows.map(|lane| Observed {
            number: lane.row.number,
            token: lane.row.token,
            revision: lane.row.revision,
        });
        Ok(observed.collect())
    }

    async fn reposition(&self, held: &Held, to: &Reposition<'_>) -> Result<bool> {
        self.enter(Point::Reposition).await?;
        let answer = self.shared.until(|state| {
            if state.lane_holder(held.number).is_some() {
                return None;
            }
            state.version += 1;
            let Some(lane) = state.data.lanes.get_mut(&held.number) else { return Some(false) };
            if lane.row.token != held.token || lane.row.revision != held.revision {
                return Some(false);
            }
            lane.row.revision += 1;
            lane.row.position = to.position;
            lane.row.identity = to.identity.clone();
            if to.new_log {
                lane.row.offset_marks.clear();
                lane.row.floor = 0;
            }
            Some(true)
        });
        Ok(answer.await)
    }

    async fn release(&self, held: &Held) -> Result<()> {
        self.enter(Point::Release).await?;
        self.shared.change(|state| {
            let lane = state.data.lanes.get_mut(&held.number);
            if let Some(lane) = lane.filter(|lane| lane.row.token == held.token) {
                lane.owner = None;
            }
        });
        Ok(())
    }

    async fn begin(&self, _writer: &Writer<'_>) -> Result<MemoryTx> {
        self.enter(Point::Begin).await?;
        let id = self.shared.change(|state| state.begin());
        Ok(MemoryTx::new(self.shared.clone(), id))
    }

    async fn claim(
        &self,
        tx: &mut MemoryTx,
        writer: &Writer<'_>,
        claims: &[Claim<'_>],
    ) -> Result<Claimed> {
        let sorted = claims.is_sorted_by(|a, b| (a.scope, a.key) < (b.scope, b.key));
        assert!(sorted, "claims come sorted by scope and key, and without duplicates");
        self.enter(Point::Claim).await?;
        let mut claiming = Claiming::default();
        self.shared.until(|state| state.claim(tx.id(), writer, claims, &mut claiming)).await
    }

    async fn seal(
        &self,
        tx: &mut MemoryTx,
        writer: &Writer<'_>,
        seal: Option<&Seal<'_>>,
    ) -> Result<Sealed> {
        self.enter(Point::Seal).await?;
        self.shared.until(|state| state.seal(tx.id(), writer, seal)).await
    }

    async fn commit(&self, tx: MemoryTx) -> Result<()> {
        self.enter(Point::Commit).await?;
        let id = tx.id();
        let lost = || Error::new(ErrorKind::UnknownCommit, "the commit's answer was lost");
        self.shared.change(|state| match state.script.commit_fault() {
            None => state.commit(id),
            Some(CommitFault::Landed) => {
                state.commit(id)?;
                Err(lost())
            }
            // Released before a commit came to it.
            Some(CommitFault::InFlight(pause)) if state.script.pauses.is_released(pause) => {
                state.commit(id)?;
                Err(lost())
            }
            Some(CommitFault::InFlight(pause)) => {
                state.script.set_in_flight(pause, id);
                Err(lost())
            }
        })
    }

    async fn rollback(&self, tx: MemoryTx) {
        drop(tx);
    }

    async fn marker(&self, scope: &str, key: &Key) -> Result<Option<Marker>> {
        self.enter(Point::Marker).await?;
        let state = self.shared.lock();
        Ok(state.data.markers.get(&(scope.to_owned(), key.clone())).cloned())
    }

    fn fault(error: &(dyn StdError + 'static)) -> Fault {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<MemoryError>() {
                return error.fault();
            }
            next = error.source();
        }
        Fault::Handler
    }
}
