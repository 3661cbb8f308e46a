//! Instances of groups that read everything in each instance.

use idem_runtime::Result;
use idem_runtime::store::Instance;

use crate::Inner;
use crate::error::failed;
use crate::tx::Session;

const DOING: &str = "keeping the instance";

/// How many markers are deleted in one transaction: it is not to take longer than any other.
const MARKERS: u64 = 10_000;

/// How many rows of packed markers, each of which may have as many in it.
const PACKS: u64 = 1_000;

/// A group that has scopes and is not recorded is no instance any more.
pub(crate) const SEEN: &str = "
insert into {schema}.instances as instance (group_name, broadcast_name)
select $1, $2
where exists (select from {schema}.instances where group_name = $1)
   or not exists (select from {schema}.scopes where group_name = $1)
on conflict (group_name) do update set seen_at = now()
    where instance.broadcast_name = excluded.broadcast_name
";

/// Instances that were not seen for so many milliseconds. They cannot come back until the
/// transaction ends.
pub(crate) const SILENT: &str = "
select group_name from {schema}.instances
where broadcast_name = $1 and group_name <> $2
    and seen_at < now() - $3 * interval '1 millisecond'
order by group_name
for update skip locked
";

/// A lane of which something is packed is not deleted by anybody who does not say this (see migration 6).
pub(crate) const FORGETTING: &str = "select set_config('idem.forgetting', 'on', true)";

/// Without its lanes an instance that wakes up commits nothing any more.
pub(crate) const FORGET_LANES: &str = "
with letters as (delete from {schema}.dead_letters where group_name = any($1::text[]))
delete from {schema}.lanes where group_name = any($1::text[])
";

/// Nothing but the scope tells whose a marker is, and there is no index on it, which would cost
/// something with each event. So this reads the table.
pub(crate) const FORGET_MARKERS: &str = "
delete from {schema}.markers where ctid = any(array(
    select ctid from {schema}.markers
    where scope = any(array(select scope from {schema}.scopes where group_name = any($1::text[])))
    limit $2
))
";

/// As [`FORGET_MARKERS`], through an index. Their runs and windows went with the lanes.
pub(crate) const FORGET_PACKS: &str = "
delete from {schema}.packs where ctid = any(array(
    select ctid from {schema}.packs
    where scope = any(array(select scope from {schema}.scopes where group_name = any($1::text[])))
    limit $2
))
";

pub(crate) const FORGET: &str = "
with gone as (delete from {schema}.scopes where group_name = any($1::text[]))
delete from {schema}.instances where group_name = any($1::text[])
";

pub(crate) async fn keep(store: &Inner, instance: &Instance<'_>) -> Result<Vec<String>> {
    let failed = |error| failed(DOING, error);
    let seen = sqlx::query(store.sql.instance_seen.clone());
    let mut session = store.pools.write().await?;
    let seen = seen.bind(instance.group).bind(instance.broadcast);
    let seen = session.execute(seen).await.map_err(failed)? == 1;
    session.finish(DOING).await?;
    if !seen {
        return Err(instance.is_another());
    }
    let mut forgotten = Vec::new();
    if instance.forget_after.is_some() {
        // Each turn is a transaction that looks anew who is silent.
        while forget(store, instance, &mut forgotten).await? {}
    }
    Ok(forgotten)
}

/// Forgets what can be forgotten in one transaction; answers whether there is more.
async fn forget(
    store: &Inner,
    instance: &Instance<'_>,
    forgotten: &mut Vec<String>,
) -> Result<bool> {
    let failed = |error| failed(DOING, error);
    let after = instance.forget_after.unwrap_or_default().as_millis();
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut session: Session = store.pools.write_aside().await?;
    let silent = sqlx::query_as(store.sql.silent_instances.clone());
    let silent = silent.bind(instance.broadcast).bind(instance.group).bind(after as f64);
    let silent: Vec<(String,)> = session.all(silent).await.map_err(failed)?;
    let silent: Vec<String> = silent.into_iter().map(|(name,)| name).collect();
    if silent.is_empty() {
        session.finish(DOING).await?;
        return Ok(false);
    }
    let forgetting = sqlx::query(store.sql.forgetting_lanes.clone());
    session.execute(forgetting).await.map_err(failed)?;
    let lanes = sqlx::query(store.sql.forget_lanes.clone()).bind(&silent);
    session.execute(lanes).await.map_err(failed)?;
    let mut more = false;
    for (statement, limit) in
        [(&store.sql.forget_markers, MARKERS), (&store.sql.forget_instances_packs, PACKS)]
    {
        let forget = sqlx::query(statement.clone()).bind(&silent);
        let forget = forget.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        more |= session.execute(forget).await.map_err(failed)? == limit;
    }
    if !more {
        let forget = sqlx::query(store.sql.forget_instances.clone()).bind(&silent);
        session.execute(forget).await.map_err(failed)?;
    }
    session.finish(DOING).await?;
    if !more {
        forgotten.extend(silent);
    }
    Ok(more)
}
