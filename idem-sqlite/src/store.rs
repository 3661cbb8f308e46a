//! The contract, delegated to the modules that keep its parts.

use std::error::Error as StdError;

use idem_runtime::lane::{Held, LaneId, LaneRow, Observed, Owner};
use idem_runtime::store::{Claim, Claimed, Fault, Opening, Reposition, Seal, Sealed, Writer};
use idem_runtime::{Key, Lends, Marker, Registration, Result, Store};
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use crate::{Sqlite, Tx, claim, fault, lanes, markers, scopes, seal};

impl Lends<SqliteConnection> for Sqlite {
    fn lend(tx: &mut Tx) -> &mut SqliteConnection {
        tx.lend()
    }
}

impl Store for Sqlite {
    type Tx = Tx;
    type Connection = SqliteConnection;
    const NAME: &'static str = "sqlite";

    async fn check(&self) -> Result<Uuid> {
        self.check_store().await
    }

    async fn register(&self, registration: &Registration<'_>) -> Result<()> {
        scopes::register(&self.inner, registration).await
    }

    async fn lanes(&self, group: &str, topic: &str) -> Result<Vec<LaneRow>> {
        lanes::of_topic(&self.inner, group, topic).await
    }

    async fn open_topic(&self, opening: &Opening<'_>) -> Result<()> {
        lanes::open_topic(&self.inner, opening).await
    }

    async fn take(&self, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
        lanes::take(&self.inner, lane, owner).await
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

    async fn begin(&self, _writer: &Writer<'_>) -> Result<Tx> {
        Tx::begin(&self.inner.writers).await
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

    async fn rollback(&self, tx: Tx) {
        tx.rollback().await;
    }

    async fn marker(&self, scope: &str, key: &Key) -> Result<Option<Marker>> {
        markers::find(&self.inner, scope, key).await
    }

    fn fault(error: &(dyn StdError + 'static)) -> Fault {
        fault::fault(error)
    }
}
