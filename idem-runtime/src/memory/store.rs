//! The contract, kept in memory.

mod packed;

use std::error::Error as StdError;

use serde_json::Value;
use uuid::Uuid;

use super::Memory;
use super::claim::Claiming;
use super::data::Lane;
use super::faults::{CommitFault, Point};
use super::state::State;
use super::tx::{MemoryConnection, MemoryError, MemoryTx};
use crate::dead_letter::{DeadLetter, LetterFilter, LetterNote, NewLetter};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::lane::{AttemptRow, Held, LaneId, LaneRow, Observed, Owner};
use crate::marker::Marker;
use crate::packed::DigestKey;
use crate::scope::Registration;
use crate::store::{
    Claim, Claimed, Fault, GivenUp, Instance, Lends, Opening, Reposition, Seal, Sealed, Settlement,
    Store, Terms, Writer,
};

impl Memory {
    fn digests(&self) -> DigestKey {
        DigestKey::new(self.shared.lock().data.digest_key.into_bytes())
    }

    /// Each step begins here: it hangs or fails as the test wants.
    async fn enter(&self, point: Point) -> Result<()> {
        let stop = self.shared.change(|state| state.script.pauses.stop_at(point));
        if let Some(pause) = stop {
            self.shared.until(|state| state.script.pauses.is_released(pause).then_some(())).await;
        }
        #[cfg(test)]
        {
            let panics = self.shared.lock().script.panics(point);
            assert!(!panics, "the test made {point:?} panic");
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
        self.shared.until(|state| state.register(registration)).await
    }

    async fn keep_instance(&self, instance: &Instance<'_>) -> Result<Vec<String>> {
        self.enter(Point::KeepInstance).await?;
        if instance.forget_after.is_some() {
            self.enter(Point::ForgetInstances).await?;
        }
        self.shared.until(|state| state.keep_instance(instance)).await
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

    async fn has_lanes(&self, group: &str) -> Result<bool> {
        self.enter(Point::HasLanes).await?;
        let state = self.shared.lock();
        Ok(state.data.lanes.values().any(|lane| *lane.row.id.group == *group))
    }

    async fn open_topics(&self, openings: &[Opening<'_>]) -> Result<()> {
        self.enter(Point::OpenTopics).await?;
        self.shared.change(|state| {
            for opening in openings {
                state.data.open_topic(opening);
            }
        });
        Ok(())
    }

    async fn take(&self, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
        self.enter(Point::Take).await?;
        Ok(self.shared.until(|state| state.take(lane, owner)).await)
    }

    async fn read(&self, held: &Held) -> Result<Option<LaneRow>> {
        self.enter(Point::Read).await?;
        let state = self.shared.lock();
        Ok(state.data.lanes.get(&held.number).and_then(|lane| lane.read(held)))
    }

    async fn observe(&self, owner: &Owner, lanes: &[i64]) -> Result<Vec<Observed>> {
        self.enter(Point::Observe).await?;
        Ok(self.shared.change(|state| {
            state.beat(owner);
            let rows = lanes.iter().filter_map(|number| state.data.lanes.get(number));
            rows.map(Lane::observed).collect()
        }))
    }

    async fn reposition(&self, held: &Held, to: &Reposition<'_>) -> Result<bool> {
        self.enter(Point::Reposition).await?;
        Ok(self.shared.until(|state| state.reposition(held, to)).await)
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

    async fn begin(&self, _writer: &Writer<'_>, terms: &Terms) -> Result<MemoryTx> {
        self.enter(Point::Begin).await?;
        let id = self.shared.change(|state| state.begin(terms));
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
        let id = tx.id();
        let step = |state: &mut State| state.claim(id, writer, claims, &mut claiming);
        self.shared.statement(id, step).await
    }

    async fn seal(
        &self,
        tx: &mut MemoryTx,
        writer: &Writer<'_>,
        seal: Option<&Seal<'_>>,
    ) -> Result<Sealed> {
        self.enter(Point::Seal).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.seal(id, writer, seal)).await
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

    async fn rollback(&self, tx: MemoryTx) -> bool {
        let entered = self.enter(Point::Rollback).await;
        let was_open = self.shared.change(|state| state.roll_back(tx.id()));
        entered.is_ok() && was_open
    }

    async fn marker(&self, scope: &str, key: &Key) -> Result<Option<Marker>> {
        self.enter(Point::Marker).await?;
        let state = self.shared.lock();
        Ok(state.read_marker(scope, key))
    }

    async fn given_up(
        &self,
        tx: &mut MemoryTx,
        keys: &[(&str, &Key)],
    ) -> Result<Vec<Option<GivenUp>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.enter(Point::GivenUp).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.given_up(id, keys).map(Some)).await
    }

    async fn known(&self, tx: &mut MemoryTx, keys: &[(&str, &Key)]) -> Result<Vec<Option<Marker>>> {
        self.enter(Point::Known).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.known(id, keys).map(Some)).await
    }

    async fn keep_results(
        &self,
        tx: &mut MemoryTx,
        results: &[(&str, &Key, &Value)],
    ) -> Result<()> {
        self.enter(Point::KeepResults).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.keep_results(id, results).map(Some)).await
    }

    async fn take_back(&self, scope: &str, key: &Key, attempt: Uuid) -> Result<()> {
        self.enter(Point::TakeBack).await?;
        self.shared.change(|state| state.take_back(&(scope.to_owned(), key.clone()), attempt));
        Ok(())
    }

    async fn give_up(
        &self,
        tx: &mut MemoryTx,
        held: &Held,
        letters: &[NewLetter<'_>],
    ) -> Result<()> {
        self.enter(Point::GiveUp).await?;
        #[cfg(test)]
        if self.shared.change(|state| state.script.skips(Point::GiveUp)) {
            return Ok(());
        }
        let id = tx.id();
        self.shared.statement(id, |state| state.give_up(id, held, letters)).await
    }

    async fn parked(
        &self,
        tx: &mut MemoryTx,
        held: &Held,
        keys: &[(&str, &[u8])],
    ) -> Result<Vec<Option<u32>>> {
        let sorted = keys.is_sorted_by(|a, b| a < b);
        assert!(sorted, "parked keys are asked for sorted, and without duplicates");
        self.enter(Point::Parked).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.parked(id, held, keys)).await
    }

    async fn released(&self, held: &Held, from: i64, limit: u32) -> Result<Vec<DeadLetter>> {
        self.enter(Point::Released).await?;
        Ok(self.shared.lock().data.released(held.number, from, limit))
    }

    async fn unpark(&self, tx: &mut MemoryTx, held: &Held, letters: &[i64]) -> Result<()> {
        self.enter(Point::Unpark).await?;
        #[cfg(test)]
        if self.shared.change(|state| state.script.skips(Point::Unpark)) {
            return Ok(());
        }
        let id = tx.id();
        self.shared.statement(id, |state| state.unpark(id, held, letters)).await
    }

    async fn note_attempt(&self, held: &Held, attempt: &AttemptRow) -> Result<bool> {
        self.enter(Point::NoteAttempt).await?;
        Ok(self.shared.until(|state| state.note_attempt(held, attempt)).await)
    }

    async fn forget_attempts(
        &self,
        tx: &mut MemoryTx,
        held: &Held,
        offsets: &[i64],
        calm: bool,
    ) -> Result<()> {
        self.enter(Point::ForgetAttempts).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.forget_attempts(id, held, offsets, calm)).await
    }

    async fn cut(&self, held: &Held, slices: u16) -> Result<Option<Vec<i64>>> {
        self.enter(Point::Cut).await?;
        Ok(self.shared.until(|state| state.cut(held, slices)).await)
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
        self.enter(Point::Letters).await?;
        Ok(self.shared.lock().data.listed(filter))
    }

    async fn lock_letter(&self, tx: &mut MemoryTx, letter: i64) -> Result<Option<DeadLetter>> {
        self.enter(Point::LockLetter).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.lock_letter(id, letter)).await
    }

    async fn settle_letter(
        &self,
        tx: &mut MemoryTx,
        letter: i64,
        settlement: &Settlement<'_>,
    ) -> Result<()> {
        self.enter(Point::SettleLetter).await?;
        let id = tx.id();
        self.shared.statement(id, |state| state.settle_letter(id, letter, settlement)).await
    }

    async fn history(&self, letter: i64) -> Result<Vec<LetterNote>> {
        self.enter(Point::History).await?;
        let state = self.shared.lock();
        Ok(state.data.letters.get(&letter).map(|it| it.notes.clone()).unwrap_or_default())
    }

    async fn unforwarded(&self, lanes: &[i64], limit: u32) -> Result<Vec<DeadLetter>> {
        self.enter(Point::Unforwarded).await?;
        Ok(self.shared.lock().data.unforwarded(lanes, limit))
    }

    async fn forwarded(&self, letters: &[i64]) -> Result<()> {
        self.enter(Point::Forwarded).await?;
        self.shared.until(|state| state.forwarded(letters)).await;
        Ok(())
    }

    async fn forget_marker(&self, scope: &str, key: &Key) -> Result<bool> {
        self.enter(Point::ForgetMarker).await?;
        let digest = self.digests().digest(key);
        self.shared.until(|state| state.forget_marker(scope, key, digest)).await
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
