//! Rows of packed markers: written by a lane with its batch, joined and forgotten by its owner.

use std::time::{Duration, SystemTime};

use crate::error::failed;
use crate::pack_row::{Selected, columns, select_packs};
use crate::times::{from_micros, to_micros};
use crate::{Inner, Tx, gone};
use idem_runtime::lane::Held;
use idem_runtime::packed::{DigestKey, Floor, NewPack, PackRow, Repack, WindowId, WindowRow};
use idem_runtime::{Error, ErrorKind, Key, MarkerMode, Result};

pub(crate) const DIGEST_KEY: &str = "select digest_key from {schema}.store";

/// No row: the lane has another token, and nothing was written. The lane's row is read without a
/// lock; the seal is what counts.
pub(crate) const PACK: &str = "
with fence as materialized (
    select lane_id, log from {schema}.lanes where lane_id = $1 and token = $2
), packed as (
    insert into {schema}.packs (lane_id, log, slices, slice, scope, partitions, first_offset,
                                last_offset, digests, data)
    select fence.lane_id, fence.log, case when not every_slice then $3::int end,
           case when not every_slice then $4::int end, scope, partitions, first_offset, last_offset, digests,
           data
    from fence
    cross join unnest($5::text[], $6::int[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[],
                      $11::boolean[])
        as pack (scope, partitions, first_offset, last_offset, digests, data, every_slice)
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from fence
    returning batch, ctid
)
select (extract(epoch from now()) * 1000000)::bigint, batch::text, ctid::text from guarded
";

/// As [`PACK`], in a transaction that has a guard.
pub(crate) const PACK_GUARDED: &str = "
with fence as materialized (
    select lane_id, log from {schema}.lanes where lane_id = $1 and token = $2
), packed as (
    insert into {schema}.packs (lane_id, log, slices, slice, scope, partitions, first_offset,
                                last_offset, digests, data)
    select fence.lane_id, fence.log, case when not every_slice then $3::int end,
           case when not every_slice then $4::int end, scope, partitions, first_offset, last_offset, digests,
           data
    from fence
    cross join unnest($5::text[], $6::int[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[],
                      $11::boolean[])
        as pack (scope, partitions, first_offset, last_offset, digests, data, every_slice)
)
select (extract(epoch from now()) * 1000000)::bigint, null::text, null::text from fence
";

pub(crate) const WINDOW: &str = "
select coalesce(lane.log, 0), coalesce(lane.first_log, 0), coalesce(known.floor, 0),
       coalesce(known.is_early, false),
       coalesce(greatest(lane.handled_to, lane.position, (
           select max(slice.position) from {schema}.lane_slices slice
           where slice.lane_id = lane.lane_id
       )), 0),
       (extract(epoch from owned.window_length) * 1000000)::bigint,
       (extract(epoch from clock_timestamp() - owned.switched_at) * 1000000)::bigint,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint,
       owned.mode,
       coalesce(owned.state = 'retired' and owned.forgotten_at is not null, false),
       lane.digest_key_id
from (select $1::bigint as lane_id, $2::text as scope) as asked
left join {schema}.lanes lane using (lane_id)
left join {schema}.windows known
  on known.lane_id = lane.lane_id and known.scope = asked.scope and known.log = lane.log
left join {schema}.scopes owned on owned.scope = asked.scope
";

pub(crate) const OF_WINDOW: &str = select_packs!(
    "",
    "from {schema}.packs pack
     where pack.lane_id = $1 and pack.scope = $2 and pack.run_id is null and pack.pack_id > $3
       and (pack.slices is null or (pack.slices = $4 and pack.slice = $5))
     order by pack.pack_id
     limit $6"
);

pub(crate) const HEADS: &str = select_packs!(
    "",
    "''::bytea as data",
    "from {schema}.packs pack
     where pack.lane_id = $1 and pack.scope = $2 and pack.pack_id > $3
       and (pack.slices is null or (pack.slices = $4 and pack.slice = $5))
     order by pack.pack_id
     limit $6"
);

pub(crate) const OF_NUMBERS: &str = select_packs!(
    "",
    "from {schema}.packs pack
     where pack.lane_id = $1 and pack.scope = $2 and pack.pack_id = any($3::bigint[])
     order by pack.pack_id"
);

pub(crate) const GIVEN_UP_KEYS: &str = "
select event_key from {schema}.markers where scope = $2 and lane_id = $1 and state <> 0
order by event_key
";

pub(crate) const GIVEN_UP_ELSEWHERE: &str = "
select marker.event_key
from {schema}.markers marker
join {schema}.lanes lane using (lane_id)
join {schema}.lanes own on own.group_name = lane.group_name and own.topic = lane.topic
where own.lane_id = $1 and lane.lane_id <> $1 and marker.scope = $2 and marker.state <> 0
order by marker.event_key
";

/// The token is share-locked as by a slice's seal: this neither waits for the lane's batches nor holds
/// them up, but waits for whoever takes the lane, or holds them up for its moment.
///
/// All rows have to be there, and in no run.
pub(crate) const REPACK: &str = "
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2 for key share
), chosen as materialized (
    select pack.pack_id
    from {schema}.packs pack
    join fence using (lane_id)
    where pack.lane_id = $1 and pack.scope = $4 and pack.pack_id = any($3::bigint[])
      and pack.run_id is null
    order by pack.pack_id
    for update of pack
), complete as materialized (
    select lane_id from fence where (select count(*) from chosen) = cardinality($3::bigint[])
), gone as (
    delete from {schema}.packs pack
    using chosen, complete
    where pack.lane_id = $1 and pack.scope = $4 and pack.pack_id = chosen.pack_id
), merged as (
    insert into {schema}.packs (lane_id, scope, log, partitions, slices, slice, first_offset,
                                last_offset, digests, first_at, last_at, data)
    select lane_id, $4, $5, $6, $7, $8, $9, $10, $11,
           timestamptz 'epoch' + $12::bigint * interval '1 microsecond',
           timestamptz 'epoch' + $13::bigint * interval '1 microsecond', $14
    from complete
)
select exists (select from complete)
";

/// Rows in runs, too; answers in which. The floor is of the lane's log, unless all rows are of logs that are
/// gone.
pub(crate) const FORGET: &str = "
with fence as materialized (
    select lane_id, log, first_log from {schema}.lanes where lane_id = $1 and token = $2
    for key share
), chosen as materialized (
    select pack.pack_id, pack.run_id, pack.log
    from {schema}.packs pack
    join fence using (lane_id)
    where pack.lane_id = $1 and pack.scope = $4 and pack.pack_id = any($3::bigint[])
    order by pack.pack_id
    for update of pack
), complete as materialized (
    select lane_id, case
        when (select max(chosen.log) from chosen) < first_log then (select max(chosen.log) from chosen)
        else log
    end as log
    from fence
    where (select count(*) from chosen) = cardinality($3::bigint[])
), gone as (
    delete from {schema}.packs pack
    using chosen, complete
    where pack.lane_id = $1 and pack.scope = $4 and pack.pack_id = chosen.pack_id
), raised as (
    insert into {schema}.windows as known (lane_id, scope, log, floor, is_early)
    select lane_id, $4, log, $5, $6
    from complete
    where $5::bigint is not null
    on conflict (lane_id, scope) do update
    set log = excluded.log,
        floor = case
            when known.log < excluded.log then excluded.floor
            else greatest(known.floor, excluded.floor)
        end,
        is_early = excluded.is_early or (known.is_early and known.log = excluded.log)
    where known.log <= excluded.log
)
select exists (select from complete),
       array(select distinct run_id from chosen where run_id is not null)
";

pub(crate) async fn digest_key(store: &Inner) -> Result<DigestKey> {
    const DOING: &str = "reading what digests are made with";
    let mut session = store.pools.read().await?;
    let key = sqlx::query_as::<_, (Vec<u8>,)>(store.sql.digest_key.clone());
    let key = session.optional(key).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    key.and_then(|(key,)| key.try_into().ok()).map(DigestKey::new).ok_or_else(|| {
        let message = "the table `store` has no key for digests: restore its row";
        Error::new(ErrorKind::Migration, message)
    })
}

pub(crate) async fn pack(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    packs: &[NewPack<'_>],
) -> Result<Option<SystemTime>> {
    fn of<'a, T>(packs: &[NewPack<'a>], get: impl Fn(&NewPack<'a>) -> T) -> Vec<T> {
        packs.iter().map(get).collect()
    }
    let sql = store.sql_in(tx);
    let statement = if tx.batch.is_some() { &sql.pack_guarded } else { &sql.pack };
    let (slices, slice) = columns(held.slice);
    type Answer = (i64, Option<String>, Option<String>);
    let pack = sqlx::query_as::<_, Answer>(statement.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(slices)
        .bind(slice)
        .bind(of(packs, |it| it.scope))
        .bind(of(packs, |it| it.partitions))
        .bind(of(packs, |it| it.first_offset))
        .bind(of(packs, |it| it.last_offset))
        .bind(of(packs, |it| i64::from(it.count)))
        .bind(of(packs, |it| it.data))
        .bind(of(packs, |it| it.every_slice));
    let packed = tx.session().optional(pack).await.map_err(|error| failed("pack", error))?;
    let Some((now, xid, guard)) = packed else { return Ok(None) };
    if let Some((xid, guard)) = xid.zip(guard) {
        tx.guard(xid, guard);
    }
    Ok(Some(from_micros(now)))
}

pub(crate) async fn window(store: &Inner, window: &WindowId<'_>) -> Result<WindowRow> {
    const DOING: &str = "reading a window";
    let mut session = store.pools.read().await?;
    type Known = (
        i32,
        i32,
        i64,
        bool,
        i64,
        Option<i64>,
        Option<i64>,
        i64,
        Option<String>,
        bool,
        Option<Vec<u8>>,
    );
    let known =
        sqlx::query_as::<_, Known>(store.sql.window.clone()).bind(window.lane).bind(window.scope);
    let known = session.optional(known).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    let known = known
        .ok_or_else(|| Error::new(ErrorKind::Store, format!("{DOING}: the database was silent")))?;
    let (log, first_log, floor, is_early, handled_to, length, switched, ..) = known;
    let (.., now, mode, is_forgotten, digest_key) = known;
    // A clock that went back makes it no time at all.
    let duration = |micros: i64| Duration::from_micros(micros.max(0).unsigned_abs());
    Ok(WindowRow {
        log,
        first_log,
        floor,
        is_early,
        handled_to,
        switched: switched.map(duration),
        length: length.map(duration),
        now: from_micros(now),
        mode: mode.and_then(|mode| MarkerMode::parse(&mode)),
        is_forgotten,
        digest_key: digest_key.map(|id| gone::read(&id)),
    })
}

/// With their contents, those that are in no run; or all, without.
pub(crate) async fn of_window(
    store: &Inner,
    window: &WindowId<'_>,
    (after, limit): (i64, u32),
    contents: bool,
) -> Result<Vec<PackRow>> {
    let (slices, slice) = columns(window.slice);
    let sql = if contents { &store.sql.packs_of_window } else { &store.sql.pack_heads };
    let packs = sqlx::query_as::<_, Selected>(sql.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(after)
        .bind(slices)
        .bind(slice)
        .bind(i64::from(limit));
    const DOING: &str = "reading packed markers";
    let mut session = store.pools.read().await?;
    let rows = session.all(packs).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(crate) async fn of_numbers(
    store: &Inner,
    window: &WindowId<'_>,
    rows: &[i64],
) -> Result<Vec<PackRow>> {
    const DOING: &str = "reading packed markers";
    let mut session = store.pools.read().await?;
    let packs = sqlx::query_as::<_, Selected>(store.sql.packs_of_numbers.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(rows);
    let rows = session.all(packs).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Those of the lane, or those of the others of its topic.
pub(crate) async fn given_up_keys(
    store: &Inner,
    lane: i64,
    scope: &str,
    elsewhere: bool,
) -> Result<Vec<Key>> {
    const DOING: &str = "reading the keys that were given up on";
    let sql = if elsewhere { &store.sql.given_up_elsewhere } else { &store.sql.given_up_keys };
    let mut session = store.pools.read().await?;
    let keys = sqlx::query_as::<_, (String,)>(sql.clone());
    let keys = session.all(keys.bind(lane).bind(scope)).await;
    let keys = keys.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    let key = |(key,): (String,)| {
        Key::written(key)
            .map_err(|error| Error::new(ErrorKind::Store, DOING.to_owned()).with_source(error))
    };
    keys.into_iter().map(key).collect()
}

pub(crate) async fn repack(
    store: &Inner,
    held: &Held,
    remove: &[i64],
    insert: &Repack<'_>,
) -> Result<bool> {
    const DOING: &str = "joining rows of packed markers";
    let row = insert.row;
    let (slices, slice) = match row.every_slice {
        true => (None, None),
        false => (Some(columns(row.slice).0), Some(columns(row.slice).1)),
    };
    let repack = sqlx::query_as::<_, (bool,)>(store.sql.repack.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(remove)
        .bind(insert.scope)
        .bind(row.log)
        .bind(row.partitions)
        .bind(slices)
        .bind(slice)
        .bind(row.first_offset)
        .bind(row.last_offset)
        .bind(i64::from(row.count))
        .bind(to_micros(row.first_at))
        .bind(to_micros(row.last_at))
        .bind(&row.data);
    let mut session = store.pools.write().await?;
    let done = session.optional(repack).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(done == Some((true,)))
}

pub(crate) async fn forget(
    store: &Inner,
    held: &Held,
    scope: &str,
    rows: &[i64],
    floor: Option<Floor>,
) -> Result<bool> {
    const DOING: &str = "forgetting packed markers";
    let failed = |error| failed(DOING, error);
    let forget = sqlx::query_as::<_, (bool, Vec<i64>)>(store.sql.forget_packs.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(rows)
        .bind(scope)
        .bind(floor.map(|floor| floor.offset))
        .bind(floor.is_some_and(|floor| floor.is_early));
    let mut session = store.pools.write().await?;
    let Some((true, runs)) = session.optional(forget).await.map_err(failed)? else {
        session.finish(DOING).await?;
        return Ok(false);
    };
    if !runs.is_empty() {
        let empty = sqlx::query(store.sql.forget_empty_runs.clone()).bind(runs);
        session.execute(empty).await.map_err(failed)?;
    }
    session.finish(DOING).await?;
    Ok(true)
}
