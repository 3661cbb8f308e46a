//! Parked message keys: whose events wait behind a dead letter, and how many.
//!
//! A key's row is locked before its letters, by whoever does anything with them, and several rows
//! in the order of the primary key, so that a lane and an operator cannot deadlock over them.

use std::collections::BTreeMap;

use idem_runtime::lane::Held;
use idem_runtime::{DeadLetter, Result};

use crate::error::failed;
use crate::letters::{Letter, letters_of, select_letters};
use crate::zombie::unblocked;
use crate::{Inner, Tx};

/// A message key of a handler.
pub(crate) type ParkedKey<'a> = (&'a str, &'a [u8]);

pub(crate) const PARKED: &str = "
select asked.place, key.waiting, key.is_released
from unnest($2::text[], $3::bytea[]) with ordinality as asked (scope, message_key, place)
join {schema}.parked_keys key
  on key.lane_id = $1
 and key.scope = asked.scope collate \"C\"
 and key.key_digest = sha256(asked.message_key)
order by key.scope, key.key_digest
for update of key
";

/// Of each released key only as many as could be among the first.
pub(crate) const RELEASED: &str = select_letters!(
    "join (
         select next.dead_letter_id
         from {schema}.parked_keys key
         cross join lateral (
             select waiting.dead_letter_id, waiting.source_offset
             from {schema}.dead_letters waiting
             where waiting.lane_id = key.lane_id
               and waiting.scope = key.scope
               and sha256(waiting.message_key) = key.key_digest
               and waiting.state = 'waiting'
               and waiting.source_offset >= $3
             order by waiting.source_offset
             limit $2
         ) as next
         where key.lane_id = $1 and key.is_released
         order by next.source_offset, next.dead_letter_id
         limit $2
     ) as next using (dead_letter_id)
     order by letter.source_offset, dead_letter_id"
);

/// A key that is not there yet is opened by a letter that parks. A letter that waits behind nothing
/// (somebody deleted the row) opens one that is released already, so that it does not wait for
/// ever.
pub(crate) const CHANGE: &str = "
with change as materialized (
    select scope collate \"C\" as scope, message_key, sha256(message_key) as key_digest, waiting,
           parks
    from unnest($2::text[], $3::bytea[], $4::int[], $5::boolean[])
        as change (scope, message_key, waiting, parks)
), changed as (
    update {schema}.parked_keys key
    set waiting = greatest(key.waiting + change.waiting, 0),
        is_released = key.is_released and not change.parks
    from change
    where key.lane_id = $1
      and key.scope = change.scope
      and key.key_digest = change.key_digest
    returning key.scope, key.key_digest
)
insert into {schema}.parked_keys as key (lane_id, scope, message_key, waiting, is_released)
select $1, scope, message_key, greatest(waiting, 0), not parks
from change
where (parks or waiting > 0) and (scope, key_digest) not in (select * from changed)
order by scope, key_digest
on conflict (lane_id, scope, key_digest) do update
set waiting = key.waiting + excluded.waiting,
    is_released = key.is_released and excluded.is_released
";

pub(crate) const LOCK_WAITING: &str = "
select from {schema}.parked_keys key
where key.lane_id = $1
  and (key.scope, key.key_digest) in (
      select letter.scope, sha256(letter.message_key)
      from {schema}.dead_letters letter
      where letter.dead_letter_id = any($2::bigint[])
        and letter.lane_id = $1
        and letter.state = 'waiting'
  )
order by key.scope, key.key_digest
for update
";

/// A key that none of these letters waited behind is not locked here: another slice may park it meanwhile.
/// Hence whether it is forgotten is asked of its own row, which is looked at again after a wait.
pub(crate) const UNPARK: &str = "
with worked as (
    update {schema}.dead_letters
    set state = 'replayed', settled_at = now()
    where dead_letter_id = any($2::bigint[]) and lane_id = $1 and state = 'waiting'
    returning scope, sha256(message_key) as key_digest
), fewer as (
    select scope, key_digest, count(*)::int as letters from worked group by scope, key_digest
), line as materialized (
    select key.scope, key.key_digest, key.is_released, coalesce(fewer.letters, 0) as letters,
           greatest(key.waiting - coalesce(fewer.letters, 0), 0) as waiting
    from {schema}.parked_keys key
    left join fewer using (scope, key_digest)
    where key.lane_id = $1 and (fewer.letters is not null or key.is_released)
), emptied as (
    delete from {schema}.parked_keys key
    using line
    where key.lane_id = $1
      and key.scope = line.scope
      and key.key_digest = line.key_digest
      and key.is_released
      and key.waiting <= line.letters
)
update {schema}.parked_keys key
set waiting = line.waiting
from line
where key.lane_id = $1
  and key.scope = line.scope
  and key.key_digest = line.key_digest
  and key.waiting <> line.waiting
  and not (line.is_released and line.waiting = 0)
";

/// What becomes of a key's line when letters are written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    /// How many more events wait.
    pub(crate) waiting: i32,
    /// Whether a new letter has others wait behind it.
    pub(crate) parks: bool,
}

/// Locks these keys; for each, how many events wait behind it.
pub(crate) async fn parked(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    keys: &[ParkedKey<'_>],
) -> Result<Vec<Option<u32>>> {
    let mut answer = vec![None; keys.len()];
    if keys.is_empty() {
        return Ok(answer);
    }
    let (scopes, message_keys): (Vec<&str>, Vec<&[u8]>) = keys.iter().copied().unzip();
    let parked = sqlx::query_as::<_, (i64, i32, bool)>(store.sql_in(tx).parked_keys.clone())
        .bind(held.number)
        .bind(scopes)
        .bind(message_keys);
    let rows = unblocked(store, held, tx.session().all(parked)).await;
    for (place, waiting, is_released) in rows.map_err(|error| failed("parked keys", error))? {
        let place = usize::try_from(place - 1).ok();
        if let Some(it) = place.and_then(|place| answer.get_mut(place)) {
            *it = u32::try_from(waiting).ok().filter(|waiting| *waiting > 0 || !is_released);
        }
    }
    Ok(answer)
}

/// Does to the lines of a lane's keys what letters that were written do to them.
pub(crate) async fn change(
    store: &Inner,
    tx: &mut Tx,
    lane: i64,
    changes: &BTreeMap<ParkedKey<'_>, Change>,
) -> sqlx::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let (scopes, message_keys): (Vec<&str>, Vec<&[u8]>) = changes.keys().copied().unzip();
    let waiting: Vec<i32> = changes.values().map(|change| change.waiting).collect();
    let parks: Vec<bool> = changes.values().map(|change| change.parks).collect();
    let change = sqlx::query(store.sql_in(tx).change_parked_keys.clone())
        .bind(lane)
        .bind(scopes)
        .bind(message_keys)
        .bind(waiting)
        .bind(parks);
    tx.session().execute(change).await.map(drop)
}

pub(crate) async fn released(
    store: &Inner,
    held: &Held,
    from: i64,
    limit: u32,
) -> Result<Vec<DeadLetter>> {
    const DOING: &str = "reading released events";
    let released = sqlx::query_as::<_, Letter>(store.sql.released_letters.clone())
        .bind(held.number)
        .bind(i64::from(limit))
        .bind(from);
    letters_of(store, DOING, released).await
}

pub(crate) async fn unpark(store: &Inner, tx: &mut Tx, held: &Held, ids: &[i64]) -> Result<()> {
    let failed = |error| failed("unpark", error);
    let lock = sqlx::query(store.sql_in(tx).lock_waiting.clone()).bind(held.number).bind(ids);
    tx.session().execute(lock).await.map_err(failed)?;
    let unpark = sqlx::query(store.sql_in(tx).unpark_letters.clone()).bind(held.number).bind(ids);
    tx.session().execute(unpark).await.map_err(failed)?;
    Ok(())
}
