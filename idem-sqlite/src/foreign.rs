//! Packed markers that were written when the topic had another number of partitions, or the lane
//! another number of slices.

use idem_runtime::Result;
use idem_runtime::lane::LaneId;
use idem_runtime::packed::{Foreign, PackRow, WindowId};

use crate::Inner;
use crate::error::{failed, undecodable};
use crate::pack_row::{Selected, columns, select_packs};
use crate::time::from_millis;

const DOING: &str = "looking for packed markers of another layout";

/// Rows for every slice have no slices.
macro_rules! foreign {
    () => {
        "join {schema}lanes lane on lane.lane_id = pack.lane_id
         join {schema}lanes own
           on own.lane_id = ?1 and own.group_name = lane.group_name and own.topic = lane.topic
         where pack.scope = ?2 and pack.partitions > 0
           and (pack.partitions <> ?3 or pack.lane_id = ?1 and pack.slices <> ?4) "
    };
}

pub(crate) const SUMMED: &str = concat!(
    "select lane.group_name, lane.topic, lane.partition, pack.partitions, coalesce(pack.slices, 0),
            sum(pack.digests), max(pack.last_at)
     from {schema}packs pack ",
    foreign!(),
    "group by lane.lane_id, pack.partitions, coalesce(pack.slices, 0)
     order by lane.lane_id, pack.partitions, coalesce(pack.slices, 0)"
);

pub(crate) const HEADS: &str = concat!(
    select_packs!("", "x'' as data", ""),
    foreign!(),
    "and pack.pack_id > ?5 and pack.slices is not null order by pack.pack_id limit ?6"
);

/// Rows for every slice of other lanes.
pub(crate) const ELSEWHERE: &str = select_packs!(
    "",
    "join {schema}lanes lane on lane.lane_id = pack.lane_id
     join {schema}lanes own
       on own.lane_id = ?1 and own.group_name = lane.group_name and own.topic = lane.topic
     where lane.lane_id <> ?1 and pack.scope = ?2 and pack.slices is null and pack.pack_id > ?3
     order by pack.pack_id
     limit ?4"
);

pub(crate) async fn summed(
    store: &Inner,
    window: &WindowId<'_>,
    partitions: i32,
) -> Result<Vec<Foreign>> {
    type Found = (String, String, i32, i32, u16, i64, i64);
    let rows: Vec<Found> = sqlx::query_as(store.sql.foreign.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(partitions)
        .bind(columns(window.slice).0)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    let foreign = |(group, topic, partition, partitions, slices, count, last): Found| {
        let id = LaneId { group: group.into(), topic: topic.into(), partition };
        let count = u64::try_from(count).map_err(undecodable)?;
        Ok(Foreign { id, partitions, slices, count, last_at: from_millis(last) })
    };
    let foreign = rows.into_iter().map(foreign).collect::<sqlx::Result<_>>();
    foreign.map_err(|error| failed(DOING, error))
}

pub(crate) async fn heads(
    store: &Inner,
    window: &WindowId<'_>,
    partitions: i32,
    after: i64,
    limit: u32,
) -> Result<Vec<PackRow>> {
    let rows: Vec<Selected> = sqlx::query_as(store.sql.foreign_heads.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(partitions)
        .bind(columns(window.slice).0)
        .bind(after)
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(crate) async fn elsewhere(
    store: &Inner,
    window: &WindowId<'_>,
    after: i64,
    limit: u32,
) -> Result<Vec<PackRow>> {
    let rows: Vec<Selected> = sqlx::query_as(store.sql.packs_elsewhere.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(after)
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}
