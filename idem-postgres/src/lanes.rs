//! The lanes' rows, outside of batches.

use std::collections::HashMap;
use std::sync::Arc;

use idem_runtime::Result;
use idem_runtime::lane::{Held, LaneId, LaneRow, LogIdentity, Observed, Owner, Position};
use idem_runtime::store::{Opening, Reposition};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row, SqlStr};
use uuid::Uuid;

use crate::Inner;
use crate::error::failed;
use crate::tx::Session;

macro_rules! select_lanes {
    ($which:literal) => {
        concat!(
            "select lane_id, group_name, topic, partition, position, leader_epoch, token, revision,
                floor, cluster_id, topic_id,
                (select jsonb_object_agg(mark.scope, mark.next_offset)
                 from {schema}.offset_marks mark where mark.lane_id = lane.lane_id) as offset_marks
             from {schema}.lanes lane ",
            $which
        )
    };
}

pub(crate) const OF_TOPIC: &str =
    select_lanes!("where group_name = $1 and topic = $2 order by partition");
pub(crate) const BY_NUMBER: &str = select_lanes!("where lane_id = $1");

pub(crate) const OPEN: &str = "
insert into {schema}.lanes
    (group_name, topic, partition, position, leader_epoch, cluster_id, topic_id)
select $1, $2, lane.partition, lane.position, lane.leader_epoch, $6, $7
from unnest($3::int[], $4::bigint[], $5::int[]) as lane (partition, position, leader_epoch)
order by lane.partition
on conflict (group_name, topic, partition) do nothing
";

/// Waits for the transaction that has sealed the lane and not ended yet, and for no other.
pub(crate) const TAKE: &str = "
update {schema}.lanes
set token = $4, owner_id = $5, owner_name = $6, taken_at = clock_timestamp(), released_at = null
where group_name = $1 and topic = $2 and partition = $3
returning lane_id
";

pub(crate) const OBSERVE: &str =
    "select lane_id, token, revision from {schema}.lanes where lane_id = any($1)";

pub(crate) const HEARTBEAT: &str = "
insert into {schema}.owners (owner_id, name) values ($1, $2)
on conflict (owner_id) do update set name = excluded.name, heartbeat_at = clock_timestamp()
";

pub(crate) const REPOSITION: &str = "
update {schema}.lanes
set position = $4, leader_epoch = $5, cluster_id = $6, topic_id = $7, revision = revision + 1,
    floor = case when $8 then 0 else floor end, updated_at = clock_timestamp()
where lane_id = $1 and token = $2 and revision = $3
";

pub(crate) const FORGET_OFFSET_MARKS: &str = "
with slices as (delete from {schema}.lane_slices where lane_id = $1)
delete from {schema}.offset_marks where lane_id = $1
";

pub(crate) const RELEASE: &str = "
update {schema}.lanes set released_at = clock_timestamp() where lane_id = $1 and token = $2
";

/// A row as the statements above select it.
struct Selected(LaneRow);

impl<'r> FromRow<'r, PgRow> for Selected {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let id = LaneId {
            group: Arc::from(row.try_get::<&str, _>("group_name")?),
            topic: Arc::from(row.try_get::<&str, _>("topic")?),
            partition: row.try_get("partition")?,
        };
        let position = Position {
            offset: row.try_get("position")?,
            leader_epoch: row.try_get("leader_epoch")?,
        };
        let identity = LogIdentity {
            cluster_id: row.try_get("cluster_id")?,
            topic_id: row.try_get("topic_id")?,
        };
        let mut lane = LaneRow::new(id, row.try_get("lane_id")?, position, identity);
        lane.token = row.try_get("token")?;
        lane.revision = row.try_get("revision")?;
        lane.floor = row.try_get("floor")?;
        let marks: Option<Json<HashMap<String, i64>>> = row.try_get("offset_marks")?;
        lane.offset_marks = marks.map(|marks| marks.0).unwrap_or_default();
        Ok(Self(lane))
    }
}

pub(crate) async fn of_topic(store: &Inner, group: &str, topic: &str) -> Result<Vec<LaneRow>> {
    const DOING: &str = "reading the lanes of a topic";
    let mut session = store.pools.read().await?;
    let rows = sqlx::query_as(store.sql.lanes_of_topic.clone()).bind(group).bind(topic);
    let rows: Vec<Selected> = session.all(rows).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(crate) async fn read(store: &Inner, held: &Held) -> Result<Option<LaneRow>> {
    const DOING: &str = "reading a lane";
    let mut session = store.pools.read().await?;
    let row = by_number(store, &mut session, held.number).await;
    let row = row.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(row)
}

async fn by_number(
    store: &Inner,
    session: &mut Session,
    number: i64,
) -> sqlx::Result<Option<LaneRow>> {
    let row = sqlx::query_as(store.sql.lane_by_number.clone()).bind(number);
    let row: Option<Selected> = session.optional(row).await?;
    Ok(row.map(|row| row.0))
}

pub(crate) async fn open_topic(store: &Inner, opening: &Opening<'_>) -> Result<()> {
    const DOING: &str = "creating the lanes of a topic";
    let (partitions, places): (Vec<i32>, Vec<Position>) = opening.lanes.iter().copied().unzip();
    let offsets: Vec<i64> = places.iter().map(|place| place.offset).collect();
    let epochs: Vec<Option<i32>> = places.iter().map(|place| place.leader_epoch).collect();
    let mut session = store.pools.write().await?;
    let open = sqlx::query(store.sql.open_lanes.clone())
        .bind(opening.group)
        .bind(opening.topic)
        .bind(partitions)
        .bind(offsets)
        .bind(epochs)
        .bind(opening.identity.cluster_id.as_deref())
        .bind(opening.identity.topic_id.as_deref());
    session.execute(open).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await
}

/// The row is locked and gets a new token; what depends on having waited is read in a later
/// statement, which sees what the transaction that was waited for has committed.
pub(crate) async fn take(store: &Inner, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
    const DOING: &str = "taking a lane";
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.write().await?;
    let take = sqlx::query_as::<_, (i64,)>(store.sql.take_lane.clone())
        .bind(&*lane.group)
        .bind(&*lane.topic)
        .bind(lane.partition)
        .bind(Uuid::new_v4())
        .bind(owner.id)
        .bind(&owner.name);
    let row = match session.optional(take).await.map_err(failed)? {
        Some((number,)) => by_number(store, &mut session, number).await.map_err(failed)?,
        None => None,
    };
    session.finish(DOING).await?;
    Ok(row)
}

pub(crate) async fn observe(store: &Inner, owner: &Owner, lanes: &[i64]) -> Result<Vec<Observed>> {
    const DOING: &str = "looking at the lanes";
    let mut session = store.pools.read().await?;
    let rows = sqlx::query_as::<_, (i64, Uuid, i64)>(store.sql.observe_lanes.clone()).bind(lanes);
    let rows = session.all(rows).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    // The answer is what counts; a heartbeat that is missed is made up for by the next one.
    if let Err(error) = heartbeat(store, owner).await {
        tracing::debug!(error = %error.report(), "missed a heartbeat");
    }
    let observed = |(number, token, revision)| Observed { number, token, revision };
    Ok(rows.into_iter().map(observed).collect())
}

async fn heartbeat(store: &Inner, owner: &Owner) -> Result<()> {
    const DOING: &str = "heartbeat";
    /// Whoever locks the row, the watch over the lanes does not wait for it.
    const IMPATIENT: SqlStr = SqlStr::from_static("set local lock_timeout = 250");
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.write().await?;
    session.execute(sqlx::query(IMPATIENT)).await.map_err(failed)?;
    let beat = sqlx::query(store.sql.heartbeat.clone()).bind(owner.id).bind(&owner.name);
    session.execute(beat).await.map_err(failed)?;
    session.finish(DOING).await
}

pub(crate) async fn reposition(store: &Inner, held: &Held, to: &Reposition<'_>) -> Result<bool> {
    const DOING: &str = "moving a lane";
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.write().await?;
    let reposition = sqlx::query(store.sql.reposition_lane.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(held.revision)
        .bind(to.position.offset)
        .bind(to.position.leader_epoch)
        .bind(to.identity.cluster_id.as_deref())
        .bind(to.identity.topic_id.as_deref())
        .bind(to.new_log);
    let moved = session.execute(reposition).await.map_err(failed)? == 1;
    if moved && to.new_log {
        let forget = sqlx::query(store.sql.forget_offset_marks.clone()).bind(held.number);
        session.execute(forget).await.map_err(failed)?;
    }
    session.finish(DOING).await?;
    Ok(moved)
}

pub(crate) async fn release(store: &Inner, held: &Held) -> Result<()> {
    const DOING: &str = "releasing a lane";
    let mut session = store.pools.write().await?;
    let release = sqlx::query(store.sql.release_lane.clone()).bind(held.number).bind(held.token);
    session.execute(release).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await
}
