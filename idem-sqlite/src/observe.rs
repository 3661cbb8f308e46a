//! A look at all lanes at once, and the heartbeat that goes with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use idem_runtime::Result;
use idem_runtime::lane::{Observed, Owner};
use sqlx::sqlite::SqliteExecutor;

use crate::Inner;
use crate::error::{failed, unwritable};
use crate::lane_row::uuid;
use crate::statements::now;
use crate::tx::Tx;

pub(crate) const OBSERVE: &str = "
select lane_id, token,
    revision + coalesce((select sum(slice.revision) from {schema}lane_slices slice
                         where slice.lane_id = lane.lane_id), 0)
from {schema}lanes lane
where lane_id in (select value from json_each(?1))
";

pub(crate) const HEARTBEAT: &str = concat!(
    "insert into {schema}owners (owner_id, name) values (?1, ?2)
     on conflict (owner_id) do update set name = excluded.name, heartbeat_at = ",
    now!()
);

pub(crate) async fn observe(
    store: &Arc<Inner>,
    owner: &Owner,
    lanes: &[i64],
) -> Result<Vec<Observed>> {
    const DOING: &str = "comparing the lanes";
    heartbeat(store, owner);
    let lanes = serde_json::to_string(lanes).map_err(|error| unwritable(DOING, error))?;
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(store.sql.observe_lanes.clone())
        .bind(lanes)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    rows.into_iter()
        .map(|(number, token, revision)| Ok(Observed { number, token: uuid(&token)?, revision }))
        .collect::<sqlx::Result<_>>()
        .map_err(|error| failed(DOING, error))
}

/// Writes the heartbeat when its turn comes: a look at the lanes does not wait for a handler.
fn heartbeat(store: &Arc<Inner>, owner: &Owner) {
    if store.heartbeat_waits.swap(true, Ordering::AcqRel) {
        return;
    }
    let (store, owner) = (Arc::clone(store), owner.clone());
    tokio::spawn(async move {
        let beaten = async {
            let mut tx = Tx::begin(&store.writers).await?;
            let done = beat(&store, tx.connection(), &owner).await;
            tx.end(done, "heartbeat").await
        };
        if let Err(error) = beaten.await {
            tracing::debug!(error = %error.report(), "the heartbeat was not written");
        }
        store.heartbeat_waits.store(false, Ordering::Release);
    });
}

pub(crate) async fn beat(
    store: &Inner,
    on: impl SqliteExecutor<'_>,
    owner: &Owner,
) -> sqlx::Result<()> {
    sqlx::query(store.sql.heartbeat.clone())
        .bind(owner.id.to_string())
        .bind(&owner.name)
        .execute(on)
        .await
        .map(drop)
}
