//! Packed markers from outside of their lane: finding a key, and packing one.

use idem_runtime::lane::LaneId;
use idem_runtime::packed::{Digest, NewPack, PackRow, has, only};
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use crate::error::failed;
use crate::pack_row::{Selected, select_packs};
use crate::statements::Statements;
use crate::tx::Session;
use crate::{Inner, Tx};

/// To be looked at by who decodes it: the digest may be anywhere in the data. In no order, so that the
/// server sends rows as it reads them.
pub(crate) const FIND: &str = select_packs!(
    "lane.group_name, lane.topic, lane.partition, ",
    "from {schema}.packs pack
     join {schema}.lanes lane using (lane_id)
     where pack.scope = $1 and position($2::bytea in pack.data) > 0"
);

/// As [`FIND`], in one lane, some at a time.
pub(crate) const FIND_IN_LANE: &str = select_packs!(
    "",
    "from {schema}.packs pack
     where pack.scope = $2 and pack.lane_id = $1 and position($3::bytea in pack.data) > 0
       and pack.pack_id > $4
     order by pack.pack_id
     limit $5"
);

/// How many rows of a lane that may have a digest are looked at together: a key that comes again and
/// again is in many, which are large.
const FOUND: i64 = 16;

/// The lanes that may be asked for a key that is packed from outside of this one: all of its topic, if
/// something of the scope is of a former layout, or may be, because the topic was made anew: lanes of
/// partitions that are gone count as if they were there.
pub(crate) const CONCERNED: &str = "
with own as materialized (
    select group_name, topic from {schema}.lanes where lane_id = $1
), of_topic as materialized (
    select lane.lane_id, lane.topic_id from {schema}.lanes lane join own using (group_name, topic)
), layout as materialized (
    select count(*)::int as partitions from of_topic
)
select lane_id from of_topic
where lane_id = $1 or (select count(distinct coalesce(topic_id, '')) > 1 from of_topic) or exists (
    select from {schema}.packs pack
    join of_topic using (lane_id)
    where pack.scope = $2 and pack.partitions > (select partitions from layout)
) or exists (
    select from {schema}.packs pack
    join of_topic using (lane_id)
    where pack.scope = $2
      and pack.partitions > 0 and pack.partitions < (select partitions from layout)
)
order by lane_id
";

/// Whoever owns the lane commits nothing more before it has taken it again: the revision is moved by
/// [`RELOAD`](idem_runtime::store::RELOAD), as the conformance suite checks.
pub(crate) const UNSETTLE: &str = "
update {schema}.lanes set revision = revision + 4294967296 where lane_id = any($1::bigint[])
returning lane_id, log
";

/// A statement of its own, which sees the slices that [`UNSETTLE`] has waited for.
pub(crate) const UNSETTLE_SLICES: &str = "update {schema}.lane_slices set revision = revision + 4294967296 where lane_id = any($1::bigint[])";

pub(crate) const PACK_DIRECT: &str = "
with packed as (
    insert into {schema}.packs (lane_id, log, scope, partitions, first_offset, last_offset, digests,
                                data)
    values ($1, $2, $3, coalesce((
        select newest.partitions from {schema}.packs newest
        where newest.lane_id = $1 and newest.scope = $3 and newest.partitions > 0
        order by newest.pack_id desc
        limit 1
    ), $7), $4, $4, $5, $6)
    returning pack_id
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from packed
    returning batch, ctid
)
select batch::text, ctid::text from guarded
";

/// A row, and the lane it is of.
struct Placed(LaneId, PackRow);

impl<'r> FromRow<'r, PgRow> for Placed {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
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
    const DOING: &str = "looking for a packed marker";
    let mut session = store.pools.read_aside().await?;
    let find = sqlx::query_as::<_, Placed>(store.sql.find_packed.clone());
    let find = find.bind(scope).bind(digest.to_bytes().to_vec());
    let mut found = Vec::new();
    let mut damaged = None;
    let each = |Placed(lane, row)| match only(row, digest) {
        Ok(row) => found.extend(row.map(|row| (lane, row))),
        Err(error) => _ = damaged.get_or_insert(error),
    };
    session.each(find, each).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    found.sort_by_key(|(_, row): &(LaneId, PackRow)| row.id);
    damaged.map_or(Ok(found), Err)
}

/// The next rows of a lane that may have the digest, from after this one.
pub(crate) async fn find_in_lane(
    sql: &Statements,
    session: &mut Session,
    (lane, scope): (i64, &str),
    digest: Digest,
    after: i64,
) -> sqlx::Result<Vec<PackRow>> {
    let find = sqlx::query_as::<_, Selected>(sql.find_packed_in_lane.clone())
        .bind(lane)
        .bind(scope)
        .bind(digest.to_bytes().to_vec())
        .bind(after)
        .bind(FOUND);
    Ok(session.all(find).await?.into_iter().map(|row| row.0).collect())
}

/// The lanes first, so that what their owners had sealed before is seen, and nothing comes after it.
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
    let sql = store.sql_in(tx);
    let concerned = sqlx::query_as::<_, (i64,)>(sql.concerned_lanes.clone());
    let concerned = tx.session().all(concerned.bind(lane).bind(pack.scope)).await;
    let lanes: Vec<i64> = concerned.map_err(failed)?.into_iter().map(|row| row.0).collect();
    if lanes.len() > 1 {
        // In the order of their numbers, as everybody.
        let lock = sqlx::query(sql.forget_lock_lanes.clone()).bind(&lanes);
        tx.session().execute(lock).await.map_err(failed)?;
    }
    let unsettle = sqlx::query_as::<_, (i64, i32)>(sql.unsettle_lanes.clone()).bind(&lanes);
    let logs = tx.session().all(unsettle).await.map_err(failed)?;
    let Some((_, log)) = logs.into_iter().find(|(number, _)| *number == lane) else {
        return Err(Error::new(ErrorKind::Store, format!("{DOING}: lane {lane} is gone")));
    };
    let slices = sqlx::query(sql.unsettle_slices.clone()).bind(&lanes);
    tx.session().execute(slices).await.map_err(failed)?;
    for lane in &lanes {
        let (of, mut after) = ((*lane, pack.scope), 0);
        loop {
            let rows = find_in_lane(sql, tx.session(), of, digest, after).await.map_err(failed)?;
            let Some(last) = rows.last() else { break };
            after = last.id;
            for row in &rows {
                if has(row, digest)? {
                    return Ok(false);
                }
            }
        }
    }
    let packed = sqlx::query_as::<_, (String, String)>(sql.pack_direct.clone())
        .bind(lane)
        .bind(log)
        .bind(pack.scope)
        .bind(offset)
        .bind(i64::from(pack.count))
        .bind(pack.data)
        .bind(pack.partitions);
    if let Some((xid, guard)) = tx.session().optional(packed).await.map_err(failed)? {
        tx.guard(xid, guard);
    }
    Ok(true)
}
