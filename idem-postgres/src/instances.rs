//! Instances of groups that read everything in each instance.

use std::time::Duration;

use idem_runtime::Result;
use idem_runtime::store::Instance;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use uuid::Uuid;

use crate::Inner;
use crate::error::failed;
use crate::tx::Session;

const DOING: &str = "keeping the instance";

/// How many rows of packed markers are deleted in one transaction: it is not to take longer than any
/// other, and each may have thousands in it.
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

/// Which of these instances, that were silent before, still are. Whoever forgets them too is waited for.
pub(crate) const STILL_SILENT: &str = "
select group_name from {schema}.instances
where broadcast_name = $1 and group_name = any($2::text[])
    and seen_at < now() - $3 * interval '1 millisecond'
order by group_name
for update
";

/// A lane of which something is packed is not deleted by anybody who does not say this (see migration 6).
/// And a page of a table in the order of an index is not to be found by reading the table.
pub(crate) const FORGETTING: &str = "
select set_config('idem.forgetting', 'on', true), set_config('random_page_cost', '0.1', true)
";

/// Without its lanes an instance that wakes up commits nothing any more.
pub(crate) const FORGET_LANES: &str = "
with letters as (delete from {schema}.dead_letters where group_name = any($1::text[]))
delete from {schema}.lanes where group_name = any($1::text[])
";

/// Nothing but the scope tells whose a marker is, and there is no index on it, which would cost
/// something with each event. So this goes through the table once, in the order of the primary key, some
/// markers at a time, whosever they are; answers where the next ones begin, if there are more.
pub(crate) const FORGET_MARKERS: &str = "
with page as materialized (
    select marker_id, scope from {schema}.markers
    where marker_id > $2
    order by marker_id
    limit 10000
), gone as (
    delete from {schema}.markers where marker_id = any(array(
        select marker_id from page
        where scope = any(array(
            select scope from {schema}.scopes where group_name = any($1::text[])
        ))
    ))
)
select marker_id from page order by marker_id offset 9999
";

/// Through an index. Their runs and windows went with the lanes.
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
    if let Some(after) = instance.forget_after {
        while let Some(mut forgetting) = Forgetting::begin(store, instance, after).await? {
            while forgetting.go_on().await? {}
            if forgetting.silent.is_empty() {
                break;
            }
            forgotten.extend(forgetting.silent);
        }
    }
    Ok(forgotten)
}

/// Forgets instances in transactions that are no longer than others. Each looks anew who is silent: who is
/// not any more is left alone from there on, and begins anew.
struct Forgetting<'a> {
    store: &'a Inner,
    broadcast: &'a str,
    after: f64,
    /// Who was silent all the time.
    silent: Vec<String>,
    /// The last marker that was looked at; `None` when all were.
    marker: Option<Uuid>,
    has_packs: bool,
}

impl<'a> Forgetting<'a> {
    /// `None` when nobody is silent whom nobody else is just forgetting.
    async fn begin(
        store: &'a Inner,
        instance: &Instance<'a>,
        after: Duration,
    ) -> Result<Option<Self>> {
        let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX) as f64;
        let broadcast = instance.broadcast;
        let mut session = store.pools.write_aside().await?;
        let silent = sqlx::query_as(store.sql.silent_instances.clone());
        let silent = silent.bind(broadcast).bind(instance.group).bind(after);
        let silent = names(&mut session, silent).await?;
        session.finish(DOING).await?;
        // No marker has this one: it is a hash.
        let marker = Some(Uuid::nil());
        let forgetting = Self { store, broadcast, after, silent, marker, has_packs: true };
        Ok((!forgetting.silent.is_empty()).then_some(forgetting))
    }

    /// Forgets what can be forgotten in one transaction; answers whether there is more.
    async fn go_on(&mut self) -> Result<bool> {
        let (sql, failed) = (&self.store.sql, |error| failed(DOING, error));
        let mut session = self.store.pools.write_aside().await?;
        let silent = sqlx::query_as(sql.still_silent_instances.clone());
        let silent = silent.bind(self.broadcast).bind(&self.silent).bind(self.after);
        let silent = names(&mut session, silent).await?;
        if silent.is_empty() {
            session.finish(DOING).await?;
            self.silent = silent;
            return Ok(false);
        }
        let forgetting = sqlx::query(sql.forgetting_lanes.clone());
        session.execute(forgetting).await.map_err(failed)?;
        let lanes = sqlx::query(sql.forget_lanes.clone()).bind(&silent);
        session.execute(lanes).await.map_err(failed)?;
        let (mut marker, mut has_packs) = (self.marker, self.has_packs);
        if let Some(after) = marker {
            let markers = sqlx::query_as::<_, (Uuid,)>(sql.forget_markers.clone());
            let markers = session.optional(markers.bind(&silent).bind(after)).await;
            marker = markers.map_err(failed)?.map(|(last,)| last);
        }
        if has_packs {
            let packs = sqlx::query(sql.forget_instances_packs.clone()).bind(&silent);
            let packs = packs.bind(i64::try_from(PACKS).unwrap_or(i64::MAX));
            has_packs = session.execute(packs).await.map_err(failed)? == PACKS;
        }
        let more = marker.is_some() || has_packs;
        if !more {
            let forget = sqlx::query(sql.forget_instances.clone()).bind(&silent);
            session.execute(forget).await.map_err(failed)?;
        }
        session.finish(DOING).await?;
        (self.silent, self.marker, self.has_packs) = (silent, marker, has_packs);
        Ok(more)
    }
}

async fn names(
    session: &mut Session,
    query: QueryAs<'_, Postgres, (String,), PgArguments>,
) -> Result<Vec<String>> {
    let names = session.all(query).await.map_err(|error| failed(DOING, error))?;
    Ok(names.into_iter().map(|(name,)| name).collect())
}
