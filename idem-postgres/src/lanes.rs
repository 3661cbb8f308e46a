//! The lanes' rows, outside of batches.

use std::collections::HashMap;
use std::sync::Arc;

use idem_runtime::Result;
use idem_runtime::lane::{
    AttemptRow, Held, LaneId, LaneRow, LogIdentity, Observed, Owner, Position, Slice,
};
use idem_runtime::store::{NewLog, Opening, Reposition};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::Inner;
use crate::error::failed;
use crate::owners::heartbeat;
use crate::times::from_micros;
use crate::tx::Session;

/// Rows as [`Selected`] reads them; position and revision of the lane, or of a slice of it.
macro_rules! select_lanes {
    ($at:literal, $which:literal) => {
        concat!(
            "select lane.lane_id, lane.group_name, lane.topic, lane.partition, lane.token,
                lane.floor, lane.handled_to, lane.cluster_id, lane.topic_id, lane.deaths, ",
            $at,
            ".position, ",
            $at,
            ".leader_epoch, ",
            $at,
            ".revision,
                (select jsonb_object_agg(mark.scope, mark.next_offset)
                 from {schema}.offset_marks mark
                 where mark.lane_id = lane.lane_id) as offset_marks,
                (select jsonb_agg(jsonb_build_array(
                     attempt.scope, attempt.source_offset, attempt.failures,
                     (extract(epoch from attempt.first_failed_at) * 1000000)::bigint,
                     attempt.is_open, attempt.deaths
                 ) order by attempt.source_offset, attempt.scope)
                 from {schema}.attempts attempt
                 where attempt.lane_id = lane.lane_id) as attempts,
                array(select key.scope from {schema}.parked_keys key
                      where key.lane_id = lane.lane_id
                      order by key.scope, key.key_digest) as parked_scopes,
                array(select key.message_key from {schema}.parked_keys key
                      where key.lane_id = lane.lane_id
                      order by key.scope, key.key_digest) as parked_keys
             from {schema}.lanes lane ",
            $which
        )
    };
}

pub(crate) const OF_TOPIC: &str =
    select_lanes!("lane", "where group_name = $1 and topic = $2 order by partition");
pub(crate) const BY_NUMBER: &str = select_lanes!("lane", "where lane.lane_id = $1");
pub(crate) const BY_SLICE: &str = select_lanes!(
    "slice",
    "join {schema}.lane_slices slice
       on slice.lane_id = lane.lane_id and slice.slices = $2 and slice.slice = $3
     where lane.lane_id = $1"
);

pub(crate) const HAS_ANY: &str = "select exists (select from {schema}.lanes where group_name = $1)";

pub(crate) const OPEN: &str = "
insert into {schema}.lanes
    (group_name, topic, partition, position, leader_epoch, cluster_id, topic_id)
select $1, $2, lane.partition, lane.position, lane.leader_epoch, $6, $7
from unnest($3::int[], $4::bigint[], $5::int[]) as lane (partition, position, leader_epoch)
order by lane.partition
on conflict (group_name, topic, partition) do nothing
";

/// What moves in slices moves the lane.
pub(crate) const OBSERVE: &str = "
select lane.lane_id, lane.token,
       lane.revision + coalesce((
           select sum(slice.revision) from {schema}.lane_slices slice
           where slice.lane_id = lane.lane_id
       ), 0)::bigint
from {schema}.lanes lane
where lane.lane_id = any($1)
";

pub(crate) const REPOSITION: &str = "
update {schema}.lanes
set position = $4, leader_epoch = $5, cluster_id = $6, topic_id = $7, revision = revision + 1,
    floor = case when $8 then 0 else floor end, log = log + $8::int,
    first_log = case when $8 and $10::bigint is null then log + 1 else first_log end,
    handled_to = case when $8 and $10::bigint is null then 0 else least($10::bigint, greatest(
        handled_to, position, (
            select max(slice.position) from {schema}.lane_slices slice where slice.lane_id = $1
        )
    )) end,
    updated_at = clock_timestamp()
where lane_id = $1 and token = $2 and revision = $3
  and not exists (
      select from unnest($9::bigint[]) with ordinality as known (revision, place)
      left join {schema}.lane_slices slice
          on slice.lane_id = $1 and slice.slices = cardinality($9) and slice.slice = known.place - 1
      where slice.revision is null or slice.revision < known.revision
  )
";

/// The log lost its tail, and is what it was below this offset. A floor that is not early says nothing of
/// it: Kafka had nothing below.
pub(crate) const CUT_FLOORS: &str = "
update {schema}.windows known
set log = lane.log, floor = case when known.is_early then least(known.floor, $2) else 0 end
from {schema}.lanes lane
where lane.lane_id = $1 and known.lane_id = lane.lane_id and known.log = lane.log - 1
";

pub(crate) const FORGET_OFFSET_MARKS: &str = "
with slices as (delete from {schema}.lane_slices where lane_id = $1),
     attempts as (delete from {schema}.attempts where lane_id = $1)
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
        lane.handled_to = row.try_get("handled_to")?;
        let marks: Option<Json<HashMap<String, i64>>> = row.try_get("offset_marks")?;
        lane.offset_marks = marks.map(|marks| marks.0).unwrap_or_default();
        lane.deaths = row.try_get::<i32, _>("deaths")?.unsigned_abs();
        let attempts: Option<Json<Vec<Attempt>>> = row.try_get("attempts")?;
        lane.attempts = attempts.into_iter().flat_map(|it| it.0).map(attempt).collect();
        let scopes: Vec<String> = row.try_get("parked_scopes")?;
        let keys: Vec<Vec<u8>> = row.try_get("parked_keys")?;
        lane.parked = scopes.into_iter().zip(keys).collect();
        Ok(Self(lane))
    }
}

/// Scope, offset, failures, when the first one was in microseconds, open, deaths.
type Attempt = (String, i64, u32, i64, bool, u32);

fn attempt((scope, offset, failures, first_failed, open, deaths): Attempt) -> AttemptRow {
    let first_failed_at = from_micros(first_failed);
    AttemptRow { scope, offset, failures, first_failed_at, open, deaths }
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
    let row = match held.slice {
        None => by_number(store, &mut session, held.number).await,
        Some(Slice { index, of }) => {
            let row = sqlx::query_as(store.sql.lane_by_slice.clone())
                .bind(held.number)
                .bind(i32::from(of))
                .bind(i32::from(index));
            let row = session.optional::<Selected>(row).await;
            row.map(|row| row.map(|row| row.0))
        }
    };
    let row = row.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(row)
}

pub(crate) async fn by_number(
    store: &Inner,
    session: &mut Session,
    number: i64,
) -> sqlx::Result<Option<LaneRow>> {
    let row = sqlx::query_as(store.sql.lane_by_number.clone()).bind(number);
    let row: Option<Selected> = session.optional(row).await?;
    Ok(row.map(|row| row.0))
}

pub(crate) async fn has_any(store: &Inner, group: &str) -> Result<bool> {
    const DOING: &str = "asking whether the group has lanes";
    let mut session = store.pools.read().await?;
    let found = sqlx::query_as::<_, (bool,)>(store.sql.has_lanes.clone()).bind(group);
    let found = session.optional(found).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(found.is_some_and(|(found,)| found))
}

pub(crate) async fn open_topics(store: &Inner, openings: &[Opening<'_>]) -> Result<()> {
    const DOING: &str = "creating the lanes of a topic";
    let mut session = store.pools.write().await?;
    for opening in openings {
        let (partitions, places): (Vec<i32>, Vec<Position>) = opening.lanes.iter().copied().unzip();
        let offsets: Vec<i64> = places.iter().map(|place| place.offset).collect();
        let epochs: Vec<Option<i32>> = places.iter().map(|place| place.leader_epoch).collect();
        let open = sqlx::query(store.sql.open_lanes.clone())
            .bind(opening.group)
            .bind(opening.topic)
            .bind(partitions)
            .bind(offsets)
            .bind(epochs)
            .bind(opening.identity.cluster_id.as_deref())
            .bind(opening.identity.topic_id.as_deref());
        session.execute(open).await.map_err(|error| failed(DOING, error))?;
    }
    session.finish(DOING).await
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

pub(crate) async fn reposition(store: &Inner, held: &Held, to: &Reposition<'_>) -> Result<bool> {
    const DOING: &str = "moving a lane";
    let failed = |error| failed(DOING, error);
    let high = match to.new_log {
        Some(NewLog::Shorter(high)) => Some(high),
        Some(NewLog::Another) | None => None,
    };
    let mut session = store.pools.write().await?;
    let reposition = sqlx::query(store.sql.reposition_lane.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(held.revision)
        .bind(to.position.offset)
        .bind(to.position.leader_epoch)
        .bind(to.identity.cluster_id.as_deref())
        .bind(to.identity.topic_id.as_deref())
        .bind(to.new_log.is_some())
        .bind(to.slices)
        .bind(high);
    let moved = session.execute(reposition).await.map_err(failed)? == 1;
    if moved && to.new_log.is_some() {
        let forget = sqlx::query(store.sql.forget_offset_marks.clone()).bind(held.number);
        session.execute(forget).await.map_err(failed)?;
    }
    if let Some(high) = high.filter(|_| moved) {
        let cut = sqlx::query(store.sql.cut_floors.clone()).bind(held.number).bind(high);
        session.execute(cut).await.map_err(failed)?;
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
