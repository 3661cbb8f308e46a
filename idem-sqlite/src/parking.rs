//! Parked message keys: behind which events wait, how many, and whether they are to be worked.

use std::collections::{BTreeMap, HashMap};

use idem_runtime::lane::Held;
use idem_runtime::{DeadLetter, Result};

use crate::error::{failed, unwritable};
use crate::letter_row::{Selected, letters, select_letters};
use crate::statements::now;
use crate::tx::Tx;
use crate::{Inner, hex};

/// Others wait behind this key from now on.
pub(crate) const OPEN: &str = "
insert into {schema}parked_keys (lane_id, scope, message_key) values (?1, ?2, ?3)
on conflict (lane_id, scope, message_key) do update set is_released = 0
";

/// One more waits. Behind a key that is not parked it would wait for ever, so that it is released.
pub(crate) const WAIT: &str = "
insert into {schema}parked_keys (lane_id, scope, message_key, waiting, is_released)
values (?1, ?2, ?3, 1, 1)
on conflict (lane_id, scope, message_key) do update set waiting = waiting + 1
";

/// So many wait no longer.
pub(crate) const LEAVE: &str = "
update {schema}parked_keys set waiting = max(0, waiting - ?4)
where lane_id = ?1 and scope = ?2 and message_key = ?3
";

/// What waits is to be worked.
pub(crate) const RELEASE: &str = "
update {schema}parked_keys set is_released = 1
where lane_id = ?1 and scope = ?2 and message_key = ?3
";

/// A key that was released, and behind which nothing waits, is one like all others.
pub(crate) const FORGET: &str =
    "delete from {schema}parked_keys where lane_id = ?1 and is_released and waiting = 0";

pub(crate) const PARKED: &str = "
select scope, message_key, waiting
from json_each(?2) asked
cross join {schema}parked_keys parked
    on parked.lane_id = ?1 and parked.scope = asked.value ->> 0
    and parked.message_key = unhex(asked.value ->> 1)
where waiting > 0 or not is_released
";

/// The keys first, of which few are released.
pub(crate) const RELEASED: &str = select_letters!(
    "{schema}parked_keys parked
     cross join {schema}dead_letters letter
        on letter.lane_id = parked.lane_id and letter.scope = parked.scope
        and letter.message_key = parked.message_key and letter.state = 'waiting'
     where parked.lane_id = ?1 and parked.is_released and letter.source_offset >= ?3
     order by source_offset, dead_letter_id
     limit ?2"
);

/// By their numbers: the `+` keeps SQLite from reading all that wait.
pub(crate) const UNPARK: &str = concat!(
    "update {schema}dead_letters set state = 'replayed', settled_at = ",
    now!(),
    " where +lane_id = ?1 and state = 'waiting'
        and dead_letter_id in (select value from json_each(?2))
     returning scope, message_key"
);

/// A message key of a lane, in a scope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) lane: i64,
    pub(crate) scope: &'a str,
    pub(crate) message_key: &'a [u8],
}

/// Others wait behind it from now on.
pub(crate) async fn open(store: &Inner, tx: &mut Tx, place: Place<'_>) -> sqlx::Result<()> {
    let open = sqlx::query(store.sql.open_parked_key.clone()).bind(place.lane);
    let open = open.bind(place.scope).bind(place.message_key);
    open.execute(tx.connection()).await.map(drop)
}

/// One more waits behind it.
pub(crate) async fn wait(store: &Inner, tx: &mut Tx, place: Place<'_>) -> sqlx::Result<()> {
    let wait = sqlx::query(store.sql.wait_behind_key.clone()).bind(place.lane);
    let wait = wait.bind(place.scope).bind(place.message_key);
    wait.execute(tx.connection()).await.map(drop)
}

/// So many wait behind it no longer.
pub(crate) async fn leave(
    store: &Inner,
    tx: &mut Tx,
    place: Place<'_>,
    how_many: u32,
) -> sqlx::Result<()> {
    let leave = sqlx::query(store.sql.leave_parked_key.clone()).bind(place.lane);
    let leave = leave.bind(place.scope).bind(place.message_key).bind(how_many);
    leave.execute(tx.connection()).await.map(drop)
}

/// What waits behind it is to be worked.
pub(crate) async fn release(store: &Inner, tx: &mut Tx, place: Place<'_>) -> sqlx::Result<()> {
    let release = sqlx::query(store.sql.release_parked_key.clone()).bind(place.lane);
    let release = release.bind(place.scope).bind(place.message_key);
    release.execute(tx.connection()).await.map(drop)
}

/// Forgets the keys of a lane that hold up nobody.
pub(crate) async fn forget(store: &Inner, tx: &mut Tx, lane: i64) -> sqlx::Result<()> {
    let forget = sqlx::query(store.sql.forget_released_keys.clone()).bind(lane);
    forget.execute(tx.connection()).await.map(drop)
}

/// For each key in order: how many events wait behind it, if it is parked. The transaction is the
/// only one that writes, which is the lock.
pub(crate) async fn parked(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    keys: &[(&str, &[u8])],
) -> Result<Vec<Option<u32>>> {
    const DOING: &str = "looking for parked keys";
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<_> = keys.iter().map(|(scope, key)| (scope, hex::encode(key))).collect();
    let rows = serde_json::to_string(&rows).map_err(|error| unwritable(DOING, error))?;
    let found: Vec<(String, Vec<u8>, u32)> = sqlx::query_as(store.sql.parked_keys.clone())
        .bind(held.number)
        .bind(rows)
        .fetch_all(tx.connection())
        .await
        .map_err(|error| failed(DOING, error))?;
    let found: HashMap<_, _> = found
        .iter()
        .map(|(scope, key, waiting)| ((scope.as_str(), key.as_slice()), *waiting))
        .collect();
    Ok(keys.iter().map(|key| found.get(key).copied()).collect())
}

pub(crate) async fn released(
    store: &Inner,
    held: &Held,
    from: i64,
    limit: u32,
) -> Result<Vec<DeadLetter>> {
    let rows: Vec<Selected> = sqlx::query_as(store.sql.released_letters.clone())
        .bind(held.number)
        .bind(limit)
        .bind(from)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed("reading released events", error))?;
    Ok(letters(rows))
}

pub(crate) async fn unpark(store: &Inner, tx: &mut Tx, held: &Held, ids: &[i64]) -> Result<()> {
    const DOING: &str = "working released events";
    let ids = serde_json::to_string(ids).map_err(|error| unwritable(DOING, error))?;
    let unparked = async {
        let unpark = sqlx::query_as(store.sql.unpark_letters.clone()).bind(held.number).bind(ids);
        let worked: Vec<(String, Vec<u8>)> = unpark.fetch_all(tx.connection()).await?;
        let mut counts = BTreeMap::new();
        for (scope, key) in &worked {
            *counts.entry((scope, key)).or_insert(0) += 1;
        }
        for ((scope, message_key), how_many) in counts {
            leave(store, tx, Place { lane: held.number, scope, message_key }, how_many).await?;
        }
        forget(store, tx, held.number).await
    };
    unparked.await.map_err(|error| failed(DOING, error))
}
