//! The contract, delegated to the modules that keep its parts.

mod packed;

use std::error::Error as StdError;

use idem_runtime::lane::{AttemptRow, Held, LaneId, LaneRow, Observed, Owner};
use idem_runtime::store::{
    Claim, Claimed, Fault, GivenUp, Instance, Opening, Reposition, Seal, Sealed, Settlement, Terms,
    Writer,
};
use idem_runtime::{
    DeadLetter, Key, Lends, LetterFilter, LetterNote, Marker, NewLetter, Registration, Result,
    Store,
};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::session::is_serializable;
use crate::{
    Postgres, Tx, attempts, claim, dead_letters, fault, forget, given_up, instances, lanes,
    letters, markers, parking, scopes, seal, settle, slices, take,
};

impl Lends<PgConnection> for Postgres {
    fn lend(tx: &mut Tx) -> &mut PgConnection {
        tx.lend()
    }
}

impl Store for Postgres {
    type Tx = Tx;
    type Connection = PgConnection;
    const NAME: &'static str = "postgres";

    async fn check(&self) -> Result<Uuid> {
        self.check_store().await
    }

    async fn register(&self, registration: &Registration<'_>) -> Result<()> {
        scopes::register(&self.inner, registration).await
    }

    async fn keep_instance(&self, instance: &Instance<'_>) -> Result<Vec<String>> {
        instances::keep(&self.inner, instance).await
    }

    async fn lanes(&self, group: &str, topic: &str) -> Result<Vec<LaneRow>> {
        lanes::of_topic(&self.inner, group, topic).await
    }

    async fn has_lanes(&self, group: &str) -> Result<bool> {
        lanes::has_any(&self.inner, group).await
    }

    async fn open_topics(&self, openings: &[Opening<'_>]) -> Result<()> {
        lanes::open_topics(&self.inner, openings).await
    }

    async fn take(&self, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
        take::take(&self.inner, lane, owner).await
    }

    async fn read(&self, held: &Held) -> Result<Option<LaneRow>> {
        lanes::read(&self.inner, held).await
    }

    async fn observe(&self, owner: &Owner, lanes: &[i64]) -> Result<Vec<Observed>> {
        lanes::observe(&self.inner, owner, lanes).await
    }

    async fn reposition(&self, held: &Held, to: &Reposition<'_>) -> Result<bool> {
        lanes::reposition(&self.inner, held, to).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        lanes::release(&self.inner, held).await
    }

    async fn begin(&self, writer: &Writer<'_>, terms: &Terms) -> Result<Tx> {
        let session = self.inner.pools.batch(writer, terms).await?;
        Ok(Tx::new(session, is_serializable(terms)))
    }

    async fn claim(
        &self,
        tx: &mut Tx,
        writer: &Writer<'_>,
        claims: &[Claim<'_>],
    ) -> Result<Claimed> {
        claim::claim(&self.inner, tx, writer, claims).await
    }

    async fn seal(
        &self,
        tx: &mut Tx,
        writer: &Writer<'_>,
        seal: Option<&Seal<'_>>,
    ) -> Result<Sealed> {
        seal::seal(&self.inner, tx, writer, seal).await
    }

    async fn commit(&self, tx: Tx) -> Result<()> {
        tx.commit().await
    }

    async fn rollback(&self, tx: Tx) -> bool {
        tx.rollback().await
    }

    async fn marker(&self, scope: &str, key: &Key) -> Result<Option<Marker>> {
        markers::find(&self.inner, scope, key).await
    }

    async fn given_up(&self, tx: &mut Tx, keys: &[(&str, &Key)]) -> Result<Vec<Option<GivenUp>>> {
        given_up::given_up(&self.inner, tx, keys).await
    }

    async fn known(&self, tx: &mut Tx, keys: &[(&str, &Key)]) -> Result<Vec<Option<Marker>>> {
        markers::known(&self.inner, tx, keys).await
    }

    async fn keep_results(&self, tx: &mut Tx, results: &[(&str, &Key, &Value)]) -> Result<()> {
        markers::keep_results(&self.inner, tx, results).await
    }

    async fn take_back(&self, scope: &str, key: &Key, attempt: Uuid) -> Result<()> {
        markers::take_back(&self.inner, scope, key, attempt).await
    }

    async fn give_up(&self, tx: &mut Tx, held: &Held, letters: &[NewLetter<'_>]) -> Result<()> {
        dead_letters::give_up(&self.inner, tx, held, letters).await
    }

    async fn parked(
        &self,
        tx: &mut Tx,
        held: &Held,
        keys: &[(&str, &[u8])],
    ) -> Result<Vec<Option<u32>>> {
        parking::parked(&self.inner, tx, held, keys).await
    }

    async fn released(&self, held: &Held, from: i64, limit: u32) -> Result<Vec<DeadLetter>> {
        parking::released(&self.inner, held, from, limit).await
    }

    async fn unpark(&self, tx: &mut Tx, held: &Held, letters: &[i64]) -> Result<()> {
        parking::unpark(&self.inner, tx, held, letters).await
    }

    async fn note_attempt(&self, held: &Held, attempt: &AttemptRow) -> Result<bool> {
        attempts::note(&self.inner, held, attempt).await
    }

    async fn forget_attempts(
        &self,
        tx: &mut Tx,
        held: &Held,
        offsets: &[i64],
        calm: bool,
    ) -> Result<()> {
        attempts::forget(&self.inner, tx, held, offsets, calm).await
    }

    async fn cut(&self, held: &Held, slices: u16) -> Result<Option<Vec<i64>>> {
        slices::cut(&self.inner, held, slices).await
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
        letters::find(&self.inner, filter).await
    }

    async fn lock_letter(&self, tx: &mut Tx, id: i64) -> Result<Option<DeadLetter>> {
        settle::lock(&self.inner, tx, id).await
    }

    async fn settle_letter(&self, tx: &mut Tx, id: i64, settlement: &Settlement<'_>) -> Result<()> {
        settle::settle(&self.inner, tx, id, settlement).await
    }

    async fn history(&self, id: i64) -> Result<Vec<LetterNote>> {
        letters::history(&self.inner, id).await
    }

    async fn unforwarded(&self, lanes: &[i64], limit: u32) -> Result<Vec<DeadLetter>> {
        letters::unforwarded(&self.inner, lanes, limit).await
    }

    async fn forwarded(&self, letters: &[i64]) -> Result<()> {
        letters::forwarded(&self.inner, letters).await
    }

    async fn forget_marker(&self, scope: &str, key: &Key) -> Result<bool> {
        forget::forget(&self.inner, scope, key).await
    }

    fn fault(error: &(dyn StdError + 'static)) -> Fault {
        fault::fault(error)
    }
}
