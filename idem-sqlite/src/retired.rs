//! Forgetting what retired scopes have packed.
//!
//! That it is forgotten is recorded, and lanes that may ask for something are moved, in one transaction: who
//! has loaded a window before commits nothing with it, and who loads one from then on is told. Then all
//! is deleted, some at a time, because others write in between.

use std::time::Duration;

use idem_runtime::Result;

use crate::Inner;
use crate::direct::unsettle;
use crate::error::{failed, unwritable};
use crate::packs::finish;
use crate::statements::now;
use crate::tx::Tx;

const DOING: &str = "forgetting what retired scopes have packed";

/// How many rows are deleted in one transaction, each of which may have thousands of digests.
const PACKS: u64 = 500;

/// Without a time, those alone of which it was begun.
pub(crate) const BEGIN: &str = concat!(
    "update {schema}scopes set forgotten_at = coalesce(forgotten_at, ",
    now!(),
    ") where group_name = ?1 and state = 'retired'
       and (forgotten_at is not null or retired_at <= ",
    now!(),
    " - ?2)
       and (exists (select 1 from {schema}packs pack where pack.scope = {schema}scopes.scope)
            or exists (select 1 from {schema}runs run where run.scope = {schema}scopes.scope)
            or exists (select 1 from {schema}windows known where known.scope = {schema}scopes.scope))
     returning scope"
);

/// Of several scopes: all of the topics of which a lane has something, because each of them may ask the
/// others for what they have.
pub(crate) const LANES: &str = "
select distinct lane.lane_id
from (
    select lane_id from {schema}packs where scope in (select value from json_each(?1))
    union
    select lane_id from {schema}runs where scope in (select value from json_each(?1))
    union
    select lane_id from {schema}windows where scope in (select value from json_each(?1))
) as something
join {schema}lanes own on own.lane_id = something.lane_id
join {schema}lanes lane on lane.group_name = own.group_name and lane.topic = own.topic
";

/// Whether it was not registered again.
pub(crate) const STILL: &str = "
select exists (select 1 from {schema}scopes
               where scope = ?1 and state = 'retired' and forgotten_at is not null)
";

/// As long as it was not registered again.
macro_rules! of_retired {
    ($statement:literal) => {
        concat!(
            $statement,
            " and exists (select 1 from {schema}scopes
                          where scope = ?1 and state = 'retired' and forgotten_at is not null)"
        )
    };
}

pub(crate) const PACKS_OF: &str = of_retired!(
    "delete from {schema}packs
     where pack_id in (select pack_id from {schema}packs where scope = ?1 limit ?2)"
);

/// One, which has as many blocks as there are digests in many rows.
pub(crate) const RUN_OF: &str = of_retired!(
    "delete from {schema}runs
     where run_id in (select run_id from {schema}runs where scope = ?1 limit min(?2, 1))"
);

pub(crate) const WINDOWS_OF: &str =
    of_retired!("delete from {schema}windows where scope = ?1 and ?2 > 0");

pub(crate) async fn forget(
    store: &Inner,
    group: &str,
    after: Option<Duration>,
) -> Result<Vec<String>> {
    let mut tx = Tx::begin(&store.writers).await?;
    let begun = begin(store, &mut tx, group, after).await;
    let scopes = finish(tx, begun, DOING).await?;
    let mut forgotten = Vec::new();
    for scope in scopes {
        let sql = &store.sql;
        for statement in
            [&sql.forget_retired_packs, &sql.forget_retired_run, &sql.forget_retired_windows]
        {
            loop {
                let mut tx = Tx::begin(&store.writers).await?;
                let delete = sqlx::query(statement.clone()).bind(&scope);
                let delete = delete.bind(i64::try_from(PACKS).unwrap_or(i64::MAX));
                let deleted = delete.execute(tx.connection()).await;
                let deleted = deleted.map_err(|error| failed(DOING, error));
                if finish(tx, deleted, DOING).await?.rows_affected() == 0 {
                    break;
                }
            }
        }
        let still = sqlx::query_scalar(sql.is_retired.clone()).bind(&scope);
        let still = still.fetch_one(&store.readers).await;
        if still.map_err(|error| failed(DOING, error))? {
            forgotten.push(scope);
        }
    }
    Ok(forgotten)
}

async fn begin(
    store: &Inner,
    tx: &mut Tx,
    group: &str,
    after: Option<Duration>,
) -> Result<Vec<String>> {
    let failed = |error| failed(DOING, error);
    let after = after.map(|it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX));
    let scopes: Vec<String> = sqlx::query_scalar(store.sql.forget_retired.clone())
        .bind(group)
        .bind(after)
        .fetch_all(tx.connection())
        .await
        .map_err(failed)?;
    let names = serde_json::to_string(&scopes).map_err(|error| unwritable(DOING, error))?;
    let lanes: Vec<i64> = sqlx::query_scalar(store.sql.retired_lanes.clone())
        .bind(names)
        .fetch_all(tx.connection())
        .await
        .map_err(failed)?;
    for lane in lanes {
        unsettle(store, tx, lane).await.map_err(failed)?;
    }
    Ok(scopes)
}
