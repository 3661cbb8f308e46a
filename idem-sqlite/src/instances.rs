//! Instances of groups that read everything in each instance.

use idem_runtime::Result;
use idem_runtime::store::Instance;

use crate::Inner;
use crate::error::{failed, unwritable};
use crate::statements::now;
use crate::tx::Tx;

const DOING: &str = "keeping the instance";

/// A group that has scopes and is not recorded is no instance any more.
pub(crate) const SEEN: &str = concat!(
    "insert into {schema}instances (group_name, broadcast_name)
     select ?1, ?2
     where exists (select 1 from {schema}instances where group_name = ?1)
        or not exists (select 1 from {schema}scopes where group_name = ?1)
     on conflict (group_name) do update set seen_at = ",
    now!(),
    " where broadcast_name = excluded.broadcast_name"
);

/// Instances that were not seen for so many milliseconds.
pub(crate) const SILENT: &str = concat!(
    "select group_name from {schema}instances
     where broadcast_name = ?1 and group_name <> ?2 and seen_at < ",
    now!(),
    " - ?3
     order by group_name"
);

/// In this order: a lane of which something is packed is not deleted (see migration 6), and the scopes
/// say whose the markers are.
pub(crate) const FORGET_LETTERS: &str =
    "delete from {schema}dead_letters where group_name in (select value from json_each(?1))";
pub(crate) const FORGET_LANES: &str =
    "delete from {schema}lanes where group_name in (select value from json_each(?1))";
pub(crate) const FORGET_MARKERS: &str = "
delete from {schema}markers where scope in (
    select scope from {schema}scopes where group_name in (select value from json_each(?1))
)
";
/// Their runs and windows go with the lanes.
pub(crate) const FORGET_PACKS: &str = "
delete from {schema}packs
where scope in (
    select scope from {schema}scopes where group_name in (select value from json_each(?1))
) or lane_id in (
    select lane_id from {schema}lanes where group_name in (select value from json_each(?1))
)
";
pub(crate) const FORGET_SCOPES: &str =
    "delete from {schema}scopes where group_name in (select value from json_each(?1))";
pub(crate) const FORGET: &str =
    "delete from {schema}instances where group_name in (select value from json_each(?1))";

pub(crate) async fn keep(store: &Inner, instance: &Instance<'_>) -> Result<Vec<String>> {
    let mut tx = Tx::begin(&store.writers).await?;
    match write(store, &mut tx, instance).await {
        Ok(forgotten) => {
            tx.finish(DOING).await?;
            Ok(forgotten)
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

async fn write(store: &Inner, tx: &mut Tx, instance: &Instance<'_>) -> Result<Vec<String>> {
    let sql = &store.sql;
    let failed = |error| failed(DOING, error);
    let seen = sqlx::query(sql.instance_seen.clone()).bind(instance.group);
    let seen = seen.bind(instance.broadcast).execute(tx.connection()).await.map_err(failed)?;
    if seen.rows_affected() != 1 {
        return Err(instance.is_another());
    }
    let Some(after) = instance.forget_after else { return Ok(Vec::new()) };
    let silent: Vec<(String,)> = sqlx::query_as(sql.silent_instances.clone())
        .bind(instance.broadcast)
        .bind(instance.group)
        .bind(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
        .fetch_all(tx.connection())
        .await
        .map_err(failed)?;
    let silent: Vec<String> = silent.into_iter().map(|(name,)| name).collect();
    if silent.is_empty() {
        return Ok(silent);
    }
    let names = serde_json::to_string(&silent).map_err(|error| unwritable(DOING, error))?;
    for statement in [
        &sql.forget_letters,
        &sql.forget_instances_packs,
        &sql.forget_lanes,
        &sql.forget_markers,
        &sql.forget_scopes,
        &sql.forget_instances,
    ] {
        let forget = sqlx::query(statement.clone()).bind(&names);
        forget.execute(tx.connection()).await.map_err(failed)?;
    }
    Ok(silent)
}
