//! Rows of packed markers: written by a lane with its batch, joined and forgotten by its owner.

use std::time::{Duration, SystemTime};

use crate::Inner;
use crate::error::{failed, unwritable};
use crate::gone;
use crate::pack_row::{Selected, columns, select_packs};
use crate::statements::now;
use crate::time::{from_millis, to_millis};
use crate::tx::Tx;
use idem_runtime::lane::Held;
use idem_runtime::packed::{DigestKey, Floor, NewPack, PackRow, Repack, WindowId, WindowRow};
use idem_runtime::{Error, ErrorKind, Key, MarkerMode, Result};

pub(crate) const DIGEST_KEY: &str = "select digest_key from {schema}store";

/// No row: the lane has another token.
pub(crate) const FENCE: &str =
    concat!("select log, ", now!(), " from {schema}lanes where lane_id = ?1 and token = ?2");

pub(crate) const INSERT: &str = "
insert into {schema}packs
    (lane_id, scope, log, partitions, slices, slice, first_offset, last_offset, digests, first_at,
     last_at, run_id, data)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
";

pub(crate) const WINDOW: &str = concat!(
    "select coalesce(lane.log, 0), coalesce(lane.first_log, 0), coalesce(known.floor, 0),
            coalesce(known.is_early, 0),
            coalesce(max(lane.handled_to, lane.position, coalesce((
                select max(slice.position) from {schema}lane_slices slice
                where slice.lane_id = lane.lane_id
            ), 0)), 0),
            owned.window_length, owned.switched_at, ",
    now!(),
    ", owned.mode,
       coalesce(owned.state = 'retired' and owned.forgotten_at is not null, false),
       lane.digest_key_id
     from (select ?1 as lane_id, ?2 as scope) as asked
     left join {schema}lanes lane on lane.lane_id = asked.lane_id
     left join {schema}windows known
       on known.lane_id = lane.lane_id and known.scope = asked.scope and known.log = lane.log
     left join {schema}scopes owned on owned.scope = asked.scope"
);

pub(crate) const OF_WINDOW: &str = select_packs!(
    "",
    "where pack.lane_id = ?1 and pack.scope = ?2 and pack.run_id is null and pack.pack_id > ?3
       and (pack.slices is null or (pack.slices = ?4 and pack.slice = ?5))
     order by pack.pack_id
     limit ?6"
);

pub(crate) const HEADS: &str = select_packs!(
    "",
    "x'' as data",
    "where pack.lane_id = ?1 and pack.scope = ?2 and pack.pack_id > ?3
       and (pack.slices is null or (pack.slices = ?4 and pack.slice = ?5))
     order by pack.pack_id
     limit ?6"
);

pub(crate) const OF_NUMBERS: &str = select_packs!(
    "",
    "where pack.lane_id = ?1 and pack.scope = ?2
       and pack.pack_id in (select value from json_each(?3))
     order by pack.pack_id"
);

pub(crate) const GIVEN_UP_KEYS: &str = "
select event_key from {schema}markers indexed by {schema}markers_given_up_idx
where scope = ?2 and lane_id = ?1 and state <> 0
order by event_key
";

pub(crate) const GIVEN_UP_ELSEWHERE: &str = "
select marker.event_key
from {schema}markers marker indexed by {schema}markers_given_up_idx
join {schema}lanes lane on lane.lane_id = marker.lane_id
join {schema}lanes own
  on own.lane_id = ?1 and own.group_name = lane.group_name and own.topic = lane.topic
where lane.lane_id <> ?1 and marker.scope = ?2 and marker.state <> 0
order by marker.event_key
";

/// Those of them that are there, in this lane and scope.
pub(crate) const THERE: &str = "
select run_id, log from {schema}packs
where pack_id in (select value from json_each(?3)) and lane_id = ?1 and scope = ?2
";

pub(crate) const DELETE: &str =
    "delete from {schema}packs where pack_id in (select value from json_each(?1))";

/// The floor is of the lane's log, unless all rows are of logs that are gone, of which this is the latest.
pub(crate) const RAISE_FLOOR: &str = "
insert into {schema}windows as known (lane_id, scope, log, floor, is_early)
select lane_id, ?2, case when ?3 < first_log then ?3 else log end, ?4, ?5
from {schema}lanes where lane_id = ?1
on conflict (lane_id, scope) do update
set log = excluded.log,
    floor = case when known.log < excluded.log then excluded.floor
                 else max(known.floor, excluded.floor) end,
    is_early = excluded.is_early or (known.is_early and known.log = excluded.log)
where known.log <= excluded.log
";

pub(crate) async fn digest_key(store: &Inner) -> Result<DigestKey> {
    const DOING: &str = "reading what digests are made with";
    let key: Option<(Option<Vec<u8>>,)> = sqlx::query_as(store.sql.digest_key.clone())
        .fetch_optional(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    let key = key.and_then(|(key,)| key).and_then(|key| key.try_into().ok());
    key.map(DigestKey::new).ok_or_else(|| {
        let message = "the table `store` has no key for digests: restore its row";
        Error::new(ErrorKind::Migration, message)
    })
}

/// Writes a row under a number of its own.
pub(crate) async fn insert(
    store: &Inner,
    tx: &mut Tx,
    scope: &str,
    row: &PackRow,
) -> sqlx::Result<()> {
    let columns = (!row.every_slice).then(|| columns(row.slice));
    sqlx::query(store.sql.insert_pack.clone())
        .bind(row.lane)
        .bind(scope)
        .bind(row.log)
        .bind(row.partitions)
        .bind(columns.map(|it| it.0))
        .bind(columns.map(|it| it.1))
        .bind(row.first_offset)
        .bind(row.last_offset)
        .bind(row.count)
        .bind(to_millis(row.first_at))
        .bind(to_millis(row.last_at))
        .bind(row.run)
        .bind(&row.data)
        .execute(tx.connection())
        .await
        .map(drop)
}

pub(crate) async fn pack(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    packs: &[NewPack<'_>],
) -> Result<Option<SystemTime>> {
    let packed = async {
        let fence: Option<(i32, i64)> = sqlx::query_as(store.sql.pack_fence.clone())
            .bind(held.number)
            .bind(held.token.to_string())
            .fetch_optional(tx.connection())
            .await?;
        let Some((log, now)) = fence else { return Ok(None) };
        let now = from_millis(now);
        for pack in packs {
            let slice = held.slice.filter(|_| !pack.every_slice);
            let row = PackRow { slice, ..new_row(pack, held.number, log, now) };
            insert(store, tx, pack.scope, &row).await?;
        }
        Ok(Some(now))
    };
    packed.await.map_err(|error| failed("pack", error))
}

pub(crate) fn new_row(pack: &NewPack<'_>, lane: i64, log: i32, now: SystemTime) -> PackRow {
    PackRow {
        id: 0,
        lane,
        slice: None,
        every_slice: pack.every_slice,
        partitions: pack.partitions,
        log,
        first_offset: pack.first_offset,
        last_offset: pack.last_offset,
        count: pack.count,
        first_at: now,
        last_at: now,
        run: None,
        data: pack.data.to_vec(),
    }
}

pub(crate) async fn window(store: &Inner, window: &WindowId<'_>) -> Result<WindowRow> {
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
    let known: Known = sqlx::query_as(store.sql.window.clone())
        .bind(window.lane)
        .bind(window.scope)
        .fetch_one(&store.readers)
        .await
        .map_err(|error| failed("reading a window", error))?;
    let (log, first_log, floor, is_early, handled_to, length, switched, ..) = known;
    let (.., now, mode, is_forgotten, digest_key) = known;
    // A clock that went back makes it no time at all.
    let duration = |millis: i64| Duration::from_millis(millis.max(0).unsigned_abs());
    Ok(WindowRow {
        log,
        first_log,
        floor,
        is_early,
        handled_to,
        switched: switched.map(|at| duration(now.saturating_sub(at))),
        length: length.map(duration),
        now: from_millis(now),
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
    let rows: Vec<Selected> = sqlx::query_as(sql.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(after)
        .bind(slices)
        .bind(slice)
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed("reading packed markers", error))?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(crate) async fn of_numbers(
    store: &Inner,
    window: &WindowId<'_>,
    rows: &[i64],
) -> Result<Vec<PackRow>> {
    let rows: Vec<Selected> = sqlx::query_as(store.sql.packs_of_numbers.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(numbers(rows)?)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed("reading packed markers", error))?;
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
    let sql = if elsewhere { &store.sql.keys_given_up_elsewhere } else { &store.sql.keys_given_up };
    let keys: Vec<(String,)> = sqlx::query_as(sql.clone())
        .bind(lane)
        .bind(scope)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    let key = |(key,)| {
        Key::written(key).map_err(|error| Error::new(ErrorKind::Store, DOING).with_source(error))
    };
    keys.into_iter().map(key).collect()
}

/// In which run each of these rows of a lane is, and of which log; `None` when the held lane is not held,
/// or one is not there.
pub(crate) async fn there(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    (lane, scope): (i64, &str),
    rows: &[i64],
) -> Result<Option<Vec<(Option<i64>, i32)>>> {
    const DOING: &str = "reading packed markers";
    let failed = |error| failed(DOING, error);
    let fence: Option<(i32, i64)> = sqlx::query_as(store.sql.pack_fence.clone())
        .bind(held.number)
        .bind(held.token.to_string())
        .fetch_optional(tx.connection())
        .await
        .map_err(failed)?;
    if fence.is_none() {
        return Ok(None);
    }
    let found: Vec<(Option<i64>, i32)> = sqlx::query_as(store.sql.packs_there.clone())
        .bind(lane)
        .bind(scope)
        .bind(numbers(rows)?)
        .fetch_all(tx.connection())
        .await
        .map_err(failed)?;
    Ok(Some(found).filter(|found| found.len() == rows.len()))
}

pub(crate) async fn delete(store: &Inner, tx: &mut Tx, rows: &[i64]) -> Result<()> {
    let delete = sqlx::query(store.sql.delete_packs.clone()).bind(numbers(rows)?);
    let deleted = delete.execute(tx.connection()).await;
    deleted.map(drop).map_err(|error| failed("deleting packed markers", error))
}

pub(crate) fn numbers(numbers: &[i64]) -> Result<String> {
    serde_json::to_string(numbers).map_err(|error| unwritable("naming packed markers", error))
}

pub(crate) async fn repack(
    store: &Inner,
    held: &Held,
    remove: &[i64],
    new: &Repack<'_>,
) -> Result<bool> {
    const DOING: &str = "joining rows of packed markers";
    let mut tx = Tx::begin(&store.writers).await?;
    let done = async {
        let found = there(store, &mut tx, held, (held.number, new.scope), remove).await?;
        if !found.is_some_and(|found| found.iter().all(|(run, _)| run.is_none())) {
            return Ok(false);
        }
        delete(store, &mut tx, remove).await?;
        let row = PackRow { lane: held.number, run: None, ..new.row.clone() };
        insert(store, &mut tx, new.scope, &row).await.map_err(|error| failed(DOING, error))?;
        Ok(true)
    };
    let done = done.await;
    finish(tx, done, DOING).await
}

/// Ends a transaction of idem's own.
pub(crate) async fn finish<T>(tx: Tx, answer: Result<T>, doing: &str) -> Result<T> {
    match answer {
        Ok(answer) => {
            tx.finish(doing).await?;
            Ok(answer)
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

pub(crate) async fn forget(
    store: &Inner,
    held: &Held,
    scope: &str,
    rows: &[i64],
    floor: Option<Floor>,
) -> Result<bool> {
    const DOING: &str = "forgetting packed markers";
    let mut tx = Tx::begin(&store.writers).await?;
    let done = async {
        let failed = |error| failed(DOING, error);
        let Some(found) = there(store, &mut tx, held, (held.number, scope), rows).await? else {
            return Ok(false);
        };
        delete(store, &mut tx, rows).await?;
        for run in found.iter().filter_map(|(run, _)| *run) {
            let empty = sqlx::query(store.sql.forget_empty_run.clone()).bind(run);
            empty.execute(tx.connection()).await.map_err(failed)?;
        }
        if let Some(floor) = floor {
            let log = found.iter().map(|(_, log)| *log).max();
            let raise = sqlx::query(store.sql.raise_floor.clone()).bind(held.number).bind(scope);
            let raise =
                raise.bind(log).bind(floor.offset).bind(floor.is_early).execute(tx.connection());
            raise.await.map_err(failed)?;
        }
        Ok(true)
    };
    let done = done.await;
    finish(tx, done, DOING).await
}
