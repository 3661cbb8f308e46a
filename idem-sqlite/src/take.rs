//! Taking a lane: a new token, and what became of the owner before.

use idem_runtime::Result;
use idem_runtime::lane::{LaneId, LaneRow, Owner};
use uuid::Uuid;

use crate::lane_row::by_number;
use crate::statements::now;
use crate::tx::Tx;
use crate::{Inner, observe, time};

/// Whether the owner before died holding the lane: it did not release it, is not the new owner, and
/// its successor is here, or its heart no longer beats.
pub(crate) const FORMER: &str = concat!(
    "select lane_id,
         owner_id is not null and released_at is null and owner_id <> ?4 and (
             owner_name is ?5
             or not exists (
                 select 1 from {schema}owners owner
                 where owner.owner_id = lane.owner_id and owner.heartbeat_at >= ",
    now!(),
    " - ?6
             )
         )
     from {schema}lanes lane
     where group_name = ?1 and topic = ?2 and partition = ?3"
);

pub(crate) const TAKE: &str = concat!(
    "update {schema}lanes
     set token = ?2, owner_id = ?3, owner_name = ?4, deaths = deaths + ?5, released_at = null,
         taken_at = ",
    now!(),
    " where lane_id = ?1"
);

/// Whatever the owner before had open is over.
pub(crate) const CLOSE_ATTEMPTS: &str = "
update {schema}attempts set is_open = 0, deaths = deaths + ?2 where lane_id = ?1 and is_open
";

pub(crate) async fn take(store: &Inner, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
    let mut tx = Tx::begin(&store.writers).await?;
    let taken = within(store, &mut tx, lane, owner).await;
    tx.end(taken, "taking a lane").await
}

async fn within(
    store: &Inner,
    tx: &mut Tx,
    lane: &LaneId,
    owner: &Owner,
) -> sqlx::Result<Option<LaneRow>> {
    let id = owner.id.to_string();
    let former: Option<(i64, bool)> = sqlx::query_as(store.sql.former_owner.clone())
        .bind(&*lane.group)
        .bind(&*lane.topic)
        .bind(lane.partition)
        .bind(&id)
        .bind(&owner.name)
        .bind(time::millis(owner.dead_after))
        .fetch_optional(tx.connection())
        .await?;
    let Some((number, died)) = former else { return Ok(None) };
    sqlx::query(store.sql.take_lane.clone())
        .bind(number)
        .bind(Uuid::new_v4().to_string())
        .bind(&id)
        .bind(&owner.name)
        .bind(died)
        .execute(tx.connection())
        .await?;
    let close = sqlx::query(store.sql.close_attempts.clone()).bind(number).bind(died);
    close.execute(tx.connection()).await?;
    observe::beat(store, tx.connection(), owner).await?;
    by_number(store, tx.connection(), number).await
}
