//! What is known of attempts at events that are not done.

use idem_runtime::Result;
use idem_runtime::lane::{AttemptRow, Held};

use crate::error::failed;
use crate::times::to_micros;
use crate::{Inner, Tx};

/// The token is share-locked (see migration 2), so that a taker either sees this attempt or is seen here: an attempt of
/// an owner that was fenced must not look like one of the next owner's.
pub(crate) const NOTE: &str = "
with held as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2 for key share
), noted as (
    insert into {schema}.attempts
        (lane_id, scope, source_offset, failures, first_failed_at, is_open, deaths)
    select lane_id, $3, $4, $5, timestamptz 'epoch' + $6::bigint * interval '1 microsecond', $7, $8
    from held
    on conflict (lane_id, scope, source_offset) do update
    set failures = excluded.failures, first_failed_at = excluded.first_failed_at,
        is_open = excluded.is_open, deaths = excluded.deaths
)
select exists (select from held)
";

pub(crate) const FORGET: &str = "
with calmed as (
    update {schema}.lanes set deaths = 0
    where lane_id = $1 and token = $2 and deaths <> 0 and $4
)
delete from {schema}.attempts where lane_id = $1 and source_offset = any($3::bigint[])
";

pub(crate) async fn note(store: &Inner, held: &Held, attempt: &AttemptRow) -> Result<bool> {
    const DOING: &str = "noting an attempt";
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.write().await?;
    let note = sqlx::query_as::<_, (bool,)>(store.sql.note_attempt.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(&attempt.scope)
        .bind(attempt.offset)
        .bind(number(attempt.failures))
        .bind(to_micros(attempt.first_failed_at))
        .bind(attempt.open)
        .bind(number(attempt.deaths));
    let held = session.optional(note).await.map_err(failed)? == Some((true,));
    session.finish(DOING).await?;
    Ok(held)
}

pub(crate) async fn forget(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    offsets: &[i64],
    calm: bool,
) -> Result<()> {
    let forget = sqlx::query(store.sql_in(tx).forget_attempts.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(offsets)
        .bind(calm);
    tx.session().execute(forget).await.map_err(|error| failed("forgetting attempts", error))?;
    Ok(())
}

/// A count as the database keeps it.
pub(crate) fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
