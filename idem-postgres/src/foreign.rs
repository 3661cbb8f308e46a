//! Packed markers that were written when the topic had another number of partitions, or the lane
//! another number of slices.

use idem_runtime::Result;
use idem_runtime::lane::LaneId;
use idem_runtime::packed::{Foreign, PackRow, WindowId};

use crate::Inner;
use crate::error::failed;
use crate::pack_row::{Selected, columns, select_packs, small};
use crate::times::from_micros;

const DOING: &str = "looking for packed markers of another layout";

/// The rows of `foreign`: those of the scope under another number of partitions, through an index that
/// has such rows side by side; and those of the window's own lane under the same number and in other
/// slices. Those for every slice have none.
macro_rules! foreign_packs {
    ($rest:literal) => {
        concat!(
            "with own as materialized (
                 select group_name, topic from {schema}.lanes where lane_id = $1
             ), foreign_packs as (
                 select pack.* from {schema}.packs pack
                 where pack.scope = $2 and pack.partitions > $3
                 union all
                 select pack.* from {schema}.packs pack
                 where pack.scope = $2 and pack.partitions > 0 and pack.partitions < $3
                 union all
                 select pack.* from {schema}.packs pack
                 where pack.lane_id = $1 and pack.scope = $2
                   and pack.partitions = $3 and pack.slices <> $4
             ) ",
            $rest
        )
    };
}

pub(crate) const SUMMED: &str = foreign_packs!(
    "select lane.group_name, lane.topic, lane.partition, pack.partitions, coalesce(pack.slices, 0),
            sum(pack.digests)::bigint,
            (extract(epoch from max(pack.last_at)) * 1000000)::bigint
     from foreign_packs pack
     join {schema}.lanes lane using (lane_id)
     join own on own.group_name = lane.group_name and own.topic = lane.topic
     group by lane.lane_id, pack.partitions, coalesce(pack.slices, 0)
     order by lane.lane_id, pack.partitions, coalesce(pack.slices, 0)"
);

pub(crate) const HEADS: &str = concat!(
    foreign_packs!(""),
    select_packs!(
        "",
        "''::bytea as data",
        "from foreign_packs pack
         join {schema}.lanes lane using (lane_id)
         join own on own.group_name = lane.group_name and own.topic = lane.topic
         where pack.pack_id > $5 and pack.slices is not null
         order by pack.pack_id
         limit $6"
    )
);

/// Through an index of rows for every slice alone, of which there are few.
pub(crate) const ELSEWHERE: &str = select_packs!(
    "",
    "from {schema}.packs pack
     join {schema}.lanes lane using (lane_id)
     join {schema}.lanes own on own.group_name = lane.group_name and own.topic = lane.topic
     where own.lane_id = $1 and lane.lane_id <> $1
       and pack.scope = $2 and pack.slices is null and pack.pack_id > $3
     order by pack.pack_id
     limit $4"
);

pub(crate) async fn elsewhere(
    store: &Inner,
    window: &WindowId<'_>,
    after: i64,
    limit: u32,
) -> Result<Vec<PackRow>> {
    let packs = sqlx::query_as::<_, Selected>(store.sql.packs_elsewhere.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(after)
        .bind(i64::from(limit));
    let mut session = store.pools.read().await?;
    let rows = session.all(packs).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(crate) async fn summed(
    store: &Inner,
    window: &WindowId<'_>,
    partitions: i32,
) -> Result<Vec<Foreign>> {
    type Row = (String, String, i32, i32, i32, i64, i64);
    let failed = |error| failed(DOING, error);
    let foreign = sqlx::query_as::<_, Row>(store.sql.foreign.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(partitions)
        .bind(columns(window.slice).0);
    let mut session = store.pools.read().await?;
    let rows = session.all(foreign).await.map_err(failed)?;
    session.finish(DOING).await?;
    let foreign = |(group, topic, partition, partitions, slices, count, last): Row| {
        Ok(Foreign {
            id: LaneId { group: group.into(), topic: topic.into(), partition },
            partitions,
            slices: small(slices)?,
            count: small(count)?,
            last_at: from_micros(last),
        })
    };
    rows.into_iter().map(foreign).collect::<sqlx::Result<_>>().map_err(failed)
}

pub(crate) async fn heads(
    store: &Inner,
    window: &WindowId<'_>,
    partitions: i32,
    after: i64,
    limit: u32,
) -> Result<Vec<PackRow>> {
    let packs = sqlx::query_as::<_, Selected>(store.sql.foreign_heads.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(partitions)
        .bind(columns(window.slice).0)
        .bind(after)
        .bind(i64::from(limit));
    let mut session = store.pools.read().await?;
    let rows = session.all(packs).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}
