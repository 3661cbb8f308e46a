//! What is known of attempts at events that are not done.

use idem_runtime::Result;
use idem_runtime::lane::{AttemptRow, Held};

use crate::error::{failed, unwritable};
use crate::tx::Tx;
use crate::{Inner, time};

/// Only for a lane that is still held.
pub(crate) const NOTE: &str = "
insert into {schema}attempts
    (lane_id, scope, source_offset, failures, first_failed_at, is_open, deaths)
select lane_id, ?3, ?4, ?5, ?6, ?7, ?8
from {schema}lanes
where lane_id = ?1 and token = ?2
on conflict (lane_id, scope, source_offset) do update
set failures = excluded.failures, first_failed_at = excluded.first_failed_at,
    is_open = excluded.is_open, deaths = excluded.deaths
";

pub(crate) const FORGET: &str = "
delete from {schema}attempts
where lane_id = ?1 and source_offset in (select value from json_each(?2))
";

pub(crate) const CALM: &str =
    "update {schema}lanes set deaths = 0 where lane_id = ?1 and token = ?2 and deaths <> 0";

pub(crate) async fn note(store: &Inner, held: &Held, attempt: &AttemptRow) -> Result<bool> {
    let mut tx = Tx::begin(&store.writers).await?;
    let noted = sqlx::query(store.sql.note_attempt.clone())
        .bind(held.number)
        .bind(held.token.to_string())
        .bind(&attempt.scope)
        .bind(attempt.offset)
        .bind(attempt.failures)
        .bind(time::to_millis(attempt.first_failed_at))
        .bind(attempt.open)
        .bind(attempt.deaths)
        .execute(tx.connection())
        .await;
    let noted = noted.map(|done| done.rows_affected() == 1);
    tx.end(noted, "recording an attempt").await
}

pub(crate) async fn forget(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    offsets: &[i64],
    calm: bool,
) -> Result<()> {
    const DOING: &str = "forgetting attempts";
    if !offsets.is_empty() {
        let offsets = serde_json::to_string(offsets).map_err(|error| unwritable(DOING, error))?;
        let forget = sqlx::query(store.sql.forget_attempts.clone()).bind(held.number);
        let forgotten = forget.bind(offsets).execute(tx.connection()).await;
        forgotten.map_err(|error| failed(DOING, error))?;
    }
    if calm {
        let calm = sqlx::query(store.sql.calm_lane.clone()).bind(held.number);
        let calmed = calm.bind(held.token.to_string()).execute(tx.connection()).await;
        calmed.map_err(|error| failed(DOING, error))?;
    }
    Ok(())
}
