//! Slices: parts of a lane, each with a position and a revision of its own.

use idem_runtime::Result;
use idem_runtime::lane::Held;

use crate::Inner;
use crate::error::unwritable;
use crate::tx::Tx;

/// How far all slices were is known from then on.
pub(crate) const NOTE_HANDLED: &str = "
update {schema}lanes set handled_to = max(handled_to, coalesce((
    select max(slice.position) from {schema}lane_slices slice where slice.lane_id = ?1
), 0))
where lane_id = ?1
";

/// Those of another number of slices.
pub(crate) const FORGET_OTHERS: &str =
    "delete from {schema}lane_slices where lane_id = ?1 and slices <> ?2";

pub(crate) const CUT: &str = "
insert into {schema}lane_slices (lane_id, slices, slice, position, leader_epoch)
select lane.lane_id, ?2, value, lane.position, lane.leader_epoch
from {schema}lanes lane, json_each(?3)
where lane.lane_id = ?1
on conflict (lane_id, slices, slice) do nothing
";

pub(crate) const REVISIONS: &str =
    "select revision from {schema}lane_slices where lane_id = ?1 and slices = ?2 order by slice";

/// The seal of a slice: the lane's row is only looked at.
pub(crate) const SEAL: &str = "
update {schema}lane_slices
set position = ?6, leader_epoch = ?7, revision = revision + 1
where lane_id = ?1 and slices = ?3 and slice = ?4 and revision = ?5
  and exists (select 1 from {schema}lanes lane where lane.lane_id = ?1 and lane.token = ?2)
";

pub(crate) async fn cut(store: &Inner, held: &Held, slices: u16) -> Result<Option<Vec<i64>>> {
    const DOING: &str = "dividing a lane";
    let indexes: Vec<u16> = (0..slices).collect();
    let indexes = serde_json::to_string(&indexes).map_err(|error| unwritable(DOING, error))?;
    let mut tx = Tx::begin(&store.writers).await?;
    let cut = within(store, &mut tx, held, slices, indexes).await;
    tx.end(cut, DOING).await
}

async fn within(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    slices: u16,
    indexes: String,
) -> sqlx::Result<Option<Vec<i64>>> {
    let sql = &store.sql;
    let same: bool = sqlx::query_scalar(sql.token_is.clone())
        .bind(held.number)
        .bind(held.token.to_string())
        .fetch_one(tx.connection())
        .await?;
    if !same {
        return Ok(None);
    }
    let note = sqlx::query(sql.note_handled.clone()).bind(held.number);
    note.execute(tx.connection()).await?;
    let forget = sqlx::query(sql.forget_other_slices.clone()).bind(held.number).bind(slices);
    forget.execute(tx.connection()).await?;
    let cut = sqlx::query(sql.cut_lane.clone()).bind(held.number).bind(slices).bind(indexes);
    cut.execute(tx.connection()).await?;
    let revisions = sqlx::query_scalar(sql.slice_revisions.clone()).bind(held.number).bind(slices);
    revisions.fetch_all(tx.connection()).await.map(Some)
}
