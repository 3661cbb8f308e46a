//! Which group owns which scopes.

use std::time::Duration;

use idem_runtime::{Error, ErrorKind, MarkerMode, Registration, Result, Retired, ScopeRow};

use crate::Inner;
use crate::error::failed;
use crate::tx::Session;

const DOING: &str = "recording the scopes";

/// One registration at a time: two groups that bring the same new scope must see each other.
pub(crate) const LOCK: &str =
    "select pg_advisory_xact_lock(hashtextextended('idem scopes {schema}', 0))";

/// The scopes' rows, whoever owns them, and all of the group's that are not retired. Of those of others
/// also how long ago the newest of their packed markers was written, and below which offset some were
/// forgotten early.
pub(crate) const RECORDED: &str = "
select owned.scope, owned.group_name, owned.mode,
       case
           when owned.state = 'active' then 'active'
           when owned.forgotten_at is null then 'kept'
           when exists (select from {schema}.packs pack where pack.scope = owned.scope)
             or exists (select from {schema}.runs run where run.scope = owned.scope)
             or exists (select from {schema}.windows known where known.scope = owned.scope)
           then 'leaving'
           else 'forgotten'
       end,
       case when owned.group_name <> $2 then (
           select (extract(epoch from clock_timestamp() - max(pack.last_at)) * 1000000)::bigint
           from {schema}.packs pack
           where pack.scope = owned.scope
       ) end,
       case when owned.group_name <> $2 then (
           select max(known.floor)
           from {schema}.windows known
           join {schema}.lanes lane using (lane_id)
           where known.scope = owned.scope and known.is_early and known.log = lane.log
       ) end
from {schema}.scopes owned
where owned.scope = any($1::text[]) or (owned.group_name = $2 and owned.state = 'active')
order by owned.scope
";

pub(crate) const INSERT: &str = "
insert into {schema}.scopes (scope, mode, group_name)
select scope, mode, $3 from unnest($1::text[], $2::text[]) as it (scope, mode)
";

pub(crate) const ADOPT: &str =
    "update {schema}.scopes set group_name = $2 where scope = any($1::text[])";

/// From now on in another form.
pub(crate) const SWITCH: &str = "
update {schema}.scopes owned set mode = it.mode, switched_at = now()
from unnest($1::text[], $2::text[]) as it (scope, mode)
where owned.scope = it.scope
";

pub(crate) const NOTE_MODE: &str =
    "update {schema}.scopes set switched_at = now() where scope = $1 and mode <> $2";

pub(crate) const SET_WINDOWS: &str = "
update {schema}.scopes owned set window_length = it.seconds * interval '1 second'
from unnest($1::text[], $2::float8[]) as it (scope, seconds)
where owned.scope = it.scope
";

/// Of which somebody may have a window. One that was just opened stays so: what a start made of a commit of
/// before is not taken for a rewind.
pub(crate) const LANES_OF: &str = "
select lane_id from {schema}.lanes where group_name = $1 and revision > 0 order by lane_id
";

pub(crate) const RETIRE: &str = "update {schema}.scopes set state = 'retired', retired_at = now() where scope = any($1::text[])";

pub(crate) const INSTANCE_OF: &str =
    "select broadcast_name from {schema}.instances where group_name = $1 for update";

pub(crate) const IS_INSTANCE: &str = "
insert into {schema}.instances (group_name, broadcast_name) values ($1, $2)
on conflict (group_name) do update set seen_at = now()
";

pub(crate) const IS_NO_INSTANCE: &str = "delete from {schema}.instances where group_name = $1";

/// A retired scope whose handler is registered again is one like all others.
pub(crate) const REVIVE: &str = "
update {schema}.scopes set state = 'active', retired_at = null, forgotten_at = null
where scope = any($1::text[]) and state = 'retired'
";

pub(crate) async fn register(store: &Inner, registration: &Registration<'_>) -> Result<()> {
    let failed = |error| failed(DOING, error);
    let scopes: Vec<&str> = registration.scopes.iter().map(|(scope, _)| *scope).collect();
    let mut session = store.pools.write().await?;
    session.execute(sqlx::query(store.sql.lock_scopes.clone())).await.map_err(failed)?;
    // A later statement than the lock, so that it sees what was waited for.
    let recorded =
        sqlx::query_as(store.sql.recorded_scopes.clone()).bind(&scopes).bind(registration.group);
    let recorded: Vec<Recorded> = session.all(recorded).await.map_err(failed)?;
    let recorded = recorded.into_iter().map(row).collect::<Result<Vec<_>>>()?;
    let instance = sqlx::query_as(store.sql.instance_of.clone()).bind(registration.group);
    let instance: Option<(String,)> = session.optional(instance).await.map_err(failed)?;
    let instance_of = instance.as_ref().map(|(broadcast,)| broadcast.as_str());
    let plan = match registration.review(&recorded, instance_of) {
        Ok(plan) => plan,
        Err(refusal) => {
            session.rollback().await;
            return Err(refusal);
        }
    };

    if !plan.insert.is_empty() {
        let (scopes, modes): (Vec<&str>, Vec<&str>) =
            plan.insert.iter().map(|(scope, mode)| (scope.as_str(), mode.as_str())).unzip();
        let insert = sqlx::query(store.sql.insert_scopes.clone());
        let insert = insert.bind(scopes).bind(modes).bind(registration.group);
        session.execute(insert).await.map_err(failed)?;
    }
    if !plan.switch.is_empty() {
        let (scopes, modes): (Vec<&str>, Vec<&str>) =
            plan.switch.iter().map(|(scope, mode)| (scope.as_str(), mode.as_str())).unzip();
        let switch = sqlx::query(store.sql.switch_scopes.clone()).bind(scopes).bind(modes);
        session.execute(switch).await.map_err(failed)?;
    }
    if !plan.adopt.is_empty() {
        let adopt = sqlx::query(store.sql.adopt_scopes.clone());
        let adopt = adopt.bind(&plan.adopt).bind(registration.group);
        session.execute(adopt).await.map_err(failed)?;
    }
    if !plan.retire.is_empty() {
        let retire = sqlx::query(store.sql.retire_scopes.clone()).bind(&plan.retire);
        session.execute(retire).await.map_err(failed)?;
    }
    let instance = match registration.broadcast {
        Some(broadcast) => {
            sqlx::query(store.sql.is_instance.clone()).bind(registration.group).bind(broadcast)
        }
        None => sqlx::query(store.sql.is_no_instance.clone()).bind(registration.group),
    };
    session.execute(instance).await.map_err(failed)?;
    let revive = sqlx::query(store.sql.revive_scopes.clone()).bind(&scopes);
    session.execute(revive).await.map_err(failed)?;
    if !registration.windows.is_empty() {
        /// What fits into an interval.
        const LONG: f64 = 1e11;
        let lengths = registration.windows.iter();
        let (scopes, lengths): (Vec<&str>, Vec<f64>) =
            lengths.map(|(scope, length)| (*scope, length.as_secs_f64().min(LONG))).unzip();
        let windows = sqlx::query(store.sql.set_windows.clone()).bind(scopes).bind(lengths);
        session.execute(windows).await.map_err(failed)?;
    }
    if !plan.switch.is_empty() {
        unsettle(store, &mut session, registration.group).await.map_err(failed)?;
    }
    session.finish(DOING).await
}

pub(crate) async fn note_mode(store: &Inner, scope: &str, mode: MarkerMode) -> Result<()> {
    const DOING: &str = "recording how a scope is worked";
    let mut session = store.pools.write().await?;
    let note = sqlx::query(store.sql.note_mode.clone()).bind(scope).bind(mode.as_str());
    session.execute(note).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await
}

/// Whoever works on a lane of the group takes it again, and is told what was switched. Lanes are locked one
/// after the other, in the order of their numbers, and after the scopes, as by who forgets a retired one.
async fn unsettle(store: &Inner, session: &mut Session, group: &str) -> sqlx::Result<()> {
    let lanes = sqlx::query_as::<_, (i64,)>(store.sql.lanes_of_group.clone()).bind(group);
    for (lane,) in session.all(lanes).await? {
        for statement in [&store.sql.unsettle_lanes, &store.sql.unsettle_slices] {
            session.execute(sqlx::query(statement.clone()).bind([lane])).await?;
        }
    }
    Ok(())
}

/// As [`RECORDED`] answers.
type Recorded = (String, String, String, String, Option<i64>, Option<i64>);

fn row((scope, group, mode, state, packed, early): Recorded) -> Result<ScopeRow> {
    let retired = match &*state {
        "kept" => Some(Retired::Kept),
        "leaving" => Some(Retired::Leaving),
        "forgotten" => Some(Retired::Forgotten),
        _ => None,
    };
    // A clock that went back makes it no time at all.
    let packed = packed.map(|micros| Duration::from_micros(micros.max(0).unsigned_abs()));
    match MarkerMode::parse(&mode) {
        Some(mode) => Ok(ScopeRow { scope, group, mode, packed, early, retired }),
        None => Err(Error::new(
            ErrorKind::Scope,
            format!(
                "scope `{scope}` keeps its markers as `{mode}`, which this release of idem does \
                 not know: upgrade the program"
            ),
        )),
    }
}
