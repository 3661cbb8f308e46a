//! Forgetting what retired scopes have packed.
//!
//! It is recorded first, in a transaction of its own: who loads a window from then on is told. Then each
//! lane that may ask for something is moved, so that who has loaded one before commits nothing with it. Then
//! all is deleted, in transactions that are no longer than others; each of them looks whether the scope
//! is still retired, and keeps it so until it ends.

use std::time::Duration;

use idem_runtime::Result;
use sqlx::SqlStr;

use crate::Inner;
use crate::error::failed;
use crate::tx::Session;

const DOING: &str = "forgetting what retired scopes have packed";

/// How many rows are deleted in one transaction, each of which may have thousands of digests.
const PACKS: u64 = 1_000;

/// Without a time, those alone of which it was begun.
pub(crate) const BEGIN: &str = "
update {schema}.scopes owned set forgotten_at = coalesce(forgotten_at, now())
where group_name = $1 and state = 'retired'
  and (forgotten_at is not null or retired_at <= now() - $2::float8 * interval '1 millisecond')
  and (exists (select from {schema}.packs pack where pack.scope = owned.scope)
       or exists (select from {schema}.runs run where run.scope = owned.scope)
       or exists (select from {schema}.windows known where known.scope = owned.scope))
returning scope
";

/// No row: it was registered again.
pub(crate) const STILL: &str = "
select scope from {schema}.scopes
where scope = $1 and state = 'retired' and forgotten_at is not null
for share
";

/// All of the topics of which a lane has something: each of them may ask the others for what they have.
pub(crate) const LANES: &str = "
with topics as materialized (
    select distinct group_name, topic from {schema}.lanes lane
    where exists (select from {schema}.packs pack
                  where pack.lane_id = lane.lane_id and pack.scope = $1)
       or exists (select from {schema}.runs run
                  where run.lane_id = lane.lane_id and run.scope = $1)
       or exists (select from {schema}.windows known
                  where known.lane_id = lane.lane_id and known.scope = $1)
)
select lane_id from {schema}.lanes join topics using (group_name, topic)
order by lane_id
";

pub(crate) const PACKS_OF: &str = "
delete from {schema}.packs where ctid = any(array(
    select ctid from {schema}.packs where scope = $1 limit $2
))
";

/// One, which has as many blocks as there are digests in many rows.
pub(crate) const RUN_OF: &str = "
delete from {schema}.runs where run_id = (
    select run_id from {schema}.runs where scope = $1 order by run_id limit 1
)
";

pub(crate) const WINDOWS_OF: &str = "delete from {schema}.windows where scope = $1";

pub(crate) async fn forget(
    store: &Inner,
    group: &str,
    after: Option<Duration>,
) -> Result<Vec<String>> {
    let failed = |error| failed(DOING, error);
    let after = after.map(|it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX) as f64);
    let mut session = store.pools.write_aside().await?;
    let begin = sqlx::query_as::<_, (String,)>(store.sql.forget_retired.clone());
    let scopes = session.all(begin.bind(group).bind(after)).await.map_err(failed)?;
    session.finish(DOING).await?;
    let mut forgotten = Vec::new();
    for (scope,) in scopes {
        let forgetting = Forgetting { store, scope: &scope };
        if forgetting.all().await? {
            forgotten.push(scope);
        }
    }
    Ok(forgotten)
}

struct Forgetting<'a> {
    store: &'a Inner,
    scope: &'a str,
}

impl Forgetting<'_> {
    /// Answers whether all is forgotten: not when the scope was registered again.
    async fn all(&self) -> Result<bool> {
        let sql = &self.store.sql;
        for lane in self.lanes().await? {
            if !self.unsettle(lane).await? {
                return Ok(false);
            }
        }
        let limit = i64::try_from(PACKS).unwrap_or(i64::MAX);
        for (statement, limit, is_paged) in [
            (&sql.forget_retired_packs, Some(limit), true),
            (&sql.forget_retired_run, None, true),
            (&sql.forget_retired_windows, None, false),
        ] {
            loop {
                match self.delete(statement, limit).await? {
                    None => return Ok(false),
                    Some(count) if count > 0 && is_paged => {}
                    Some(_) => break,
                }
            }
        }
        Ok(true)
    }

    async fn lanes(&self) -> Result<Vec<i64>> {
        let mut session = self.store.pools.read_aside().await?;
        let lanes = sqlx::query_as::<_, (i64,)>(self.store.sql.retired_lanes.clone());
        let lanes = session.all(lanes.bind(self.scope)).await;
        let lanes = lanes.map_err(|error| failed(DOING, error))?;
        session.finish(DOING).await?;
        Ok(lanes.into_iter().map(|(lane,)| lane).collect())
    }

    /// Whoever owns the lane takes it again, and is told. A transaction for each lane: who holds one up
    /// holds up no other.
    async fn unsettle(&self, lane: i64) -> Result<bool> {
        let sql = &self.store.sql;
        let Some(mut session) = self.begin().await? else { return Ok(false) };
        for statement in [&sql.unsettle_lanes, &sql.unsettle_slices] {
            let unsettle = sqlx::query(statement.clone()).bind([lane]);
            session.execute(unsettle).await.map_err(|error| failed(DOING, error))?;
        }
        session.finish(DOING).await?;
        Ok(true)
    }

    /// How many rows were deleted.
    async fn delete(&self, statement: &SqlStr, limit: Option<i64>) -> Result<Option<u64>> {
        let Some(mut session) = self.begin().await? else { return Ok(None) };
        let mut delete = sqlx::query(statement.clone()).bind(self.scope);
        if let Some(limit) = limit {
            delete = delete.bind(limit);
        }
        let deleted = session.execute(delete).await.map_err(|error| failed(DOING, error))?;
        session.finish(DOING).await?;
        Ok(Some(deleted))
    }

    /// A transaction in which the scope stays retired; `None` when it is not.
    async fn begin(&self) -> Result<Option<Session>> {
        let mut session = self.store.pools.write_aside().await?;
        let still = sqlx::query_as::<_, (String,)>(self.store.sql.is_retired.clone());
        let still = session.optional(still.bind(self.scope)).await;
        if still.map_err(|error| failed(DOING, error))?.is_some() {
            return Ok(Some(session));
        }
        session.finish(DOING).await?;
        Ok(None)
    }
}
