//! Packed markers from outside of their lane: finding a key, and packing one.

use futures_util::TryStreamExt as _;
use idem_runtime::lane::LaneId;
use idem_runtime::packed::{Digest, NewPack, PackRow, has, only};
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::Inner;
use crate::error::failed;
use crate::pack_row::{Selected, select_packs};
use crate::packs::{insert, new_row};
use crate::time::from_millis;
use crate::tx::Tx;

/// To be looked at by who decodes it: the digest may be anywhere in the data. In no order, so that rows
/// come as they are read.
pub(crate) const FIND: &str = select_packs!(
    "lane.group_name, lane.topic, lane.partition, ",
    "join {schema}lanes lane on lane.lane_id = pack.lane_id
     where pack.scope = ?1 and instr(pack.data, ?2) > 0"
);

/// The same, some at a time.
pub(crate) const FIND_AFTER: &str = select_packs!(
    "",
    "where pack.scope = ?1 and instr(pack.data, ?2) > 0 and pack.pack_id > ?3
     order by pack.pack_id
     limit ?4"
);

/// How many rows that may have a digest are looked at together: a key that comes again and again is in
/// many, which are large.
const FOUND: i64 = 16;

/// The lanes that may be asked for a key that is packed from outside of this one: all of its topic, if
/// something of the scope is of a former layout, or may be, because the topic was made anew: lanes of
/// partitions that are gone count as if they were there.
pub(crate) const CONCERNED: &str = "
with of_topic as (
    select lane.lane_id, lane.topic_id
    from {schema}lanes own
    join {schema}lanes lane on lane.group_name = own.group_name and lane.topic = own.topic
    where own.lane_id = ?1
)
select lane_id from of_topic
where lane_id = ?1 or (select count(distinct coalesce(topic_id, '')) > 1 from of_topic) or exists (
    select 1 from {schema}packs pack
    where pack.scope = ?2 and pack.partitions not in (0, (select count(*) from of_topic))
      and pack.lane_id in (select lane_id from of_topic)
)
";

/// Of how many partitions the lane's newest row is.
pub(crate) const PARTITIONS: &str = "
select partitions from {schema}packs
where lane_id = ?1 and scope = ?2 and partitions > 0
order by pack_id desc
limit 1
";

/// Whoever owns the lane commits nothing more before it has taken it again: the revision is moved by
/// [`RELOAD`](idem_runtime::store::RELOAD), as the conformance suite checks.
pub(crate) const UNSETTLE: &str =
    "update {schema}lanes set revision = revision + 4294967296 where lane_id = ?1 returning log";

pub(crate) const UNSETTLE_SLICES: &str =
    "update {schema}lane_slices set revision = revision + 4294967296 where lane_id = ?1";

/// A row, and the lane it is of.
struct Placed(LaneId, PackRow);

impl<'r> FromRow<'r, SqliteRow> for Placed {
    fn from_row(row: &'r SqliteRow) -> sqlx::Result<Self> {
        let id = LaneId {
            group: row.try_get::<&str, _>("group_name")?.into(),
            topic: row.try_get::<&str, _>("topic")?.into(),
            partition: row.try_get("partition")?,
        };
        Ok(Self(id, Selected::from_row(row)?.0))
    }
}

pub(crate) async fn find(
    store: &Inner,
    scope: &str,
    digest: Digest,
) -> Result<Vec<(LaneId, PackRow)>> {
    let mut rows = sqlx::query_as::<_, Placed>(store.sql.find_packed.clone())
        .bind(scope)
        .bind(digest.to_bytes().to_vec())
        .fetch(&store.readers);
    let mut found = Vec::new();
    let failed = |error| failed("looking for a packed marker", error);
    while let Some(Placed(lane, row)) = rows.try_next().await.map_err(failed)? {
        found.extend(only(row, digest)?.map(|row| (lane, row)));
    }
    found.sort_by_key(|(_, row): &(LaneId, PackRow)| row.id);
    Ok(found)
}

/// The next rows of a scope that may have the digest, from after this one.
pub(crate) async fn find_after(
    store: &Inner,
    tx: &mut Tx,
    scope: &str,
    digest: Digest,
    after: i64,
) -> sqlx::Result<Vec<PackRow>> {
    let found: Vec<Selected> = sqlx::query_as(store.sql.find_packed_after.clone())
        .bind(scope)
        .bind(digest.to_bytes().to_vec())
        .bind(after)
        .bind(FOUND)
        .fetch_all(tx.connection())
        .await?;
    Ok(found.into_iter().map(|row| row.0).collect())
}

/// Whoever owns this lane takes it again; answers the number of its log, if it is there.
pub(crate) async fn unsettle(store: &Inner, tx: &mut Tx, lane: i64) -> sqlx::Result<Option<i32>> {
    let slices = sqlx::query(store.sql.unsettle_slices.clone()).bind(lane);
    slices.execute(tx.connection()).await?;
    let log = sqlx::query_scalar(store.sql.unsettle_lane.clone()).bind(lane);
    log.fetch_optional(tx.connection()).await
}

pub(crate) async fn pack_direct(
    store: &Inner,
    tx: &mut Tx,
    lane: i64,
    offset: i64,
    pack: &NewPack<'_>,
    digest: Digest,
) -> Result<bool> {
    const DOING: &str = "packing a key from outside of its lane";
    let failed = |error| failed(DOING, error);
    let lanes: Vec<i64> = sqlx::query_scalar(store.sql.concerned_lanes.clone())
        .bind(lane)
        .bind(pack.scope)
        .fetch_all(tx.connection())
        .await
        .map_err(failed)?;
    let mut log = None;
    for number in &lanes {
        let its = unsettle(store, tx, *number).await.map_err(failed)?;
        log = if *number == lane { its } else { log };
    }
    let Some(log) = log else {
        return Err(Error::new(ErrorKind::Store, format!("{DOING}: lane {lane} is gone")));
    };
    let mut after = 0;
    loop {
        let rows = find_after(store, tx, pack.scope, digest, after).await.map_err(failed)?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        for row in rows.iter().filter(|row| lanes.contains(&row.lane)) {
            if has(row, digest)? {
                return Ok(false);
            }
        }
    }
    let partitions: Option<i32> = sqlx::query_scalar(store.sql.partitions_of_lane.clone())
        .bind(lane)
        .bind(pack.scope)
        .fetch_optional(tx.connection())
        .await
        .map_err(failed)?;
    let now: Option<(i64,)> = sqlx::query_as(store.sql.now.clone())
        .fetch_optional(tx.connection())
        .await
        .map_err(failed)?;
    let now = from_millis(now.map_or(0, |(now,)| now));
    let row = PackRow {
        every_slice: true,
        partitions: partitions.unwrap_or(pack.partitions),
        first_offset: offset,
        last_offset: offset,
        ..new_row(pack, lane, log, now)
    };
    insert(store, tx, pack.scope, &row).await.map_err(failed)?;
    Ok(true)
}
