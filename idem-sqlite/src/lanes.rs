//! The lanes' rows, outside of batches.

use idem_runtime::Result;
use idem_runtime::lane::{Held, LaneRow};
use idem_runtime::store::{NewLog, Opening, Reposition};

use crate::Inner;
use crate::error::{failed, unwritable};
use crate::lane_row::{Selected, by_number, by_slice};
use crate::statements::now;
use crate::tx::Tx;

pub(crate) const HAS_ANY: &str =
    "select exists (select 1 from {schema}lanes where group_name = ?1)";

pub(crate) const OPEN: &str = "
insert into {schema}lanes
    (group_name, topic, partition, position, leader_epoch, cluster_id, topic_id)
select ?1, ?2, value ->> 0, value ->> 1, value ->> 2, ?4, ?5
from json_each(?3)
where true
on conflict (group_name, topic, partition) do nothing
";

pub(crate) const REPOSITION: &str = concat!(
    "update {schema}lanes
     set position = ?4, leader_epoch = ?5, cluster_id = ?6, topic_id = ?7, revision = revision + 1,
         floor = case when ?8 then 0 else floor end, log = log + ?8,
         first_log = case when ?8 and ?10 is null then log + 1 else first_log end,
         handled_to = case when ?8 and ?10 is null then 0 else min(
             coalesce(?10, 9223372036854775807), max(handled_to, position, coalesce((
                 select max(slice.position) from {schema}lane_slices slice where slice.lane_id = ?1
             ), 0))
         ) end,
         updated_at = ",
    now!(),
    " where lane_id = ?1 and token = ?2 and revision = ?3
        and not exists (
            select 1 from json_each(?9) known
            left join {schema}lane_slices slice
                on slice.lane_id = ?1 and slice.slices = json_array_length(?9)
                and slice.slice = known.key
            where slice.revision is null or slice.revision < known.value
        )"
);

/// The log lost its tail, and is what it was below this offset. A floor that is not early says nothing of
/// it: Kafka had nothing below.
pub(crate) const CUT_FLOORS: &str = "
update {schema}windows as known
set log = lane.log, floor = case when known.is_early then min(known.floor, ?2) else 0 end
from {schema}lanes lane
where lane.lane_id = ?1 and known.lane_id = lane.lane_id and known.log = lane.log - 1
";

pub(crate) const FORGET_OFFSET_MARKS: &str = "delete from {schema}offset_marks where lane_id = ?1";

pub(crate) const FORGET_SLICES: &str = "delete from {schema}lane_slices where lane_id = ?1";

/// They name offsets of the log that was.
pub(crate) const FORGET_ATTEMPTS: &str = "delete from {schema}attempts where lane_id = ?1";

pub(crate) const RELEASE: &str = concat!(
    "update {schema}lanes set released_at = ",
    now!(),
    " where lane_id = ?1 and token = ?2"
);

pub(crate) async fn of_topic(store: &Inner, group: &str, topic: &str) -> Result<Vec<LaneRow>> {
    let rows: Vec<Selected> = sqlx::query_as(store.sql.lanes_of_topic.clone())
        .bind(group)
        .bind(topic)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed("reading the lanes of a topic", error))?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(crate) async fn read(store: &Inner, held: &Held) -> Result<Option<LaneRow>> {
    let row = match held.slice {
        None => by_number(store, &store.readers, held.number).await,
        Some(slice) => by_slice(store, &store.readers, held.number, slice).await,
    };
    row.map_err(|error| failed("reading a lane", error))
}

pub(crate) async fn has_any(store: &Inner, group: &str) -> Result<bool> {
    sqlx::query_scalar(store.sql.has_lanes.clone())
        .bind(group)
        .fetch_one(&store.readers)
        .await
        .map_err(|error| failed("asking whether the group has lanes", error))
}

pub(crate) async fn open_topics(store: &Inner, openings: &[Opening<'_>]) -> Result<()> {
    const DOING: &str = "creating the lanes of a topic";
    let rows = |opening: &Opening<'_>| {
        let lanes = opening.lanes.iter();
        let lanes: Vec<_> =
            lanes.map(|(it, place)| (it, place.offset, place.leader_epoch)).collect();
        serde_json::to_string(&lanes).map_err(|error| unwritable(DOING, error))
    };
    let lanes = openings.iter().map(rows).collect::<Result<Vec<_>>>()?;
    let mut tx = Tx::begin(&store.writers).await?;
    let done = async {
        for (opening, lanes) in openings.iter().zip(lanes) {
            sqlx::query(store.sql.open_lanes.clone())
                .bind(opening.group)
                .bind(opening.topic)
                .bind(lanes)
                .bind(opening.identity.cluster_id.as_deref())
                .bind(opening.identity.topic_id.as_deref())
                .execute(tx.connection())
                .await?;
        }
        Ok(())
    };
    let done = done.await;
    tx.end(done, DOING).await
}

pub(crate) async fn reposition(store: &Inner, held: &Held, to: &Reposition<'_>) -> Result<bool> {
    const DOING: &str = "moving a lane";
    let slices = serde_json::to_string(to.slices).map_err(|error| unwritable(DOING, error))?;
    let high = match to.new_log {
        Some(NewLog::Shorter(high)) => Some(high),
        Some(NewLog::Another) | None => None,
    };
    let mut tx = Tx::begin(&store.writers).await?;
    let moved = async {
        let moved = sqlx::query(store.sql.reposition_lane.clone())
            .bind(held.number)
            .bind(held.token.to_string())
            .bind(held.revision)
            .bind(to.position.offset)
            .bind(to.position.leader_epoch)
            .bind(to.identity.cluster_id.as_deref())
            .bind(to.identity.topic_id.as_deref())
            .bind(to.new_log.is_some())
            .bind(slices)
            .bind(high)
            .execute(tx.connection())
            .await?;
        let moved = moved.rows_affected() == 1;
        if let Some(high) = high.filter(|_| moved) {
            let cut = sqlx::query(store.sql.cut_floors.clone()).bind(held.number).bind(high);
            cut.execute(tx.connection()).await?;
        }
        if moved && to.new_log.is_some() {
            let sql = &store.sql;
            for forget in [&sql.forget_offset_marks, &sql.forget_slices, &sql.forget_all_attempts] {
                sqlx::query(forget.clone()).bind(held.number).execute(tx.connection()).await?;
            }
        }
        Ok(moved)
    };
    let moved = moved.await;
    tx.end(moved, DOING).await
}

pub(crate) async fn release(store: &Inner, held: &Held) -> Result<()> {
    let mut tx = Tx::begin(&store.writers).await?;
    let done = sqlx::query(store.sql.release_lane.clone())
        .bind(held.number)
        .bind(held.token.to_string())
        .execute(tx.connection())
        .await;
    tx.end(done, "releasing a lane").await.map(drop)
}
