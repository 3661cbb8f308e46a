//! Which group owns which scopes.

use std::time::Duration;

use idem_runtime::{Error, ErrorKind, MarkerMode, Registration, Result, Retired, ScopeRow};

use crate::Inner;
use crate::direct::unsettle;
use crate::error::failed;
use crate::statements::now;
use crate::tx::Tx;

const DOING: &str = "recording the scopes";

/// The scopes' rows, whoever owns them, and all of the group's that are not retired. Of those of others
/// also how long ago the newest of their packed markers was written, and below which offset some were
/// forgotten early.
pub(crate) const RECORDED: &str = concat!(
    "select owned.scope, owned.group_name, owned.mode,
            case
                when owned.state = 'active' then 'active'
                when owned.forgotten_at is null then 'kept'
                when exists (select 1 from {schema}packs pack where pack.scope = owned.scope)
                  or exists (select 1 from {schema}runs run where run.scope = owned.scope)
                  or exists (select 1 from {schema}windows known where known.scope = owned.scope)
                then 'leaving'
                else 'forgotten'
            end,
            case when owned.group_name <> ?2 then (
                select ",
    now!(),
    " - max(pack.last_at) from {schema}packs pack where pack.scope = owned.scope
            ) end,
            case when owned.group_name <> ?2 then (
                select max(known.floor)
                from {schema}windows known
                join {schema}lanes lane on lane.lane_id = known.lane_id
                where known.scope = owned.scope and known.is_early and known.log = lane.log
            ) end
     from {schema}scopes owned
     where owned.scope in (select value from json_each(?1))
        or (owned.group_name = ?2 and owned.state = 'active')
     order by owned.scope"
);

pub(crate) const INSERT: &str =
    "insert into {schema}scopes (scope, mode, group_name) values (?1, ?2, ?3)";

pub(crate) const ADOPT: &str = "
update {schema}scopes set group_name = ?2 where scope in (select value from json_each(?1))
";

/// From now on in another form.
pub(crate) const SWITCH: &str =
    concat!("update {schema}scopes set mode = ?2, switched_at = ", now!(), " where scope = ?1");

/// One of these that is packed, or was and has something yet.
pub(crate) const PACKED: &str = "
select asked.value from json_each(?1) asked
where exists (select 1 from {schema}scopes owned
              where owned.scope = asked.value and owned.mode = 'packed')
   or exists (select 1 from {schema}packs pack where pack.scope = asked.value)
limit 1
";

pub(crate) const NOTE_MODE: &str =
    concat!("update {schema}scopes set switched_at = ", now!(), " where scope = ?1 and mode <> ?2");

pub(crate) const SET_WINDOW: &str = "update {schema}scopes set window_length = ?2 where scope = ?1";

/// Of which somebody may have a window. One that was just opened stays so: what a start made of a commit of
/// before is not taken for a rewind.
pub(crate) const LANES_OF: &str =
    "select lane_id from {schema}lanes where group_name = ?1 and revision > 0";

pub(crate) const RETIRE: &str = concat!(
    "update {schema}scopes set state = 'retired', retired_at = ",
    now!(),
    " where scope in (select value from json_each(?1))"
);

pub(crate) const INSTANCE_OF: &str =
    "select broadcast_name from {schema}instances where group_name = ?1";

pub(crate) const IS_INSTANCE: &str = concat!(
    "insert into {schema}instances (group_name, broadcast_name) values (?1, ?2)
     on conflict (group_name) do update set seen_at = ",
    now!()
);

pub(crate) const IS_NO_INSTANCE: &str = "delete from {schema}instances where group_name = ?1";

/// A retired scope whose handler is registered again is one like all others.
pub(crate) const REVIVE: &str = "
update {schema}scopes set state = 'active', retired_at = null, forgotten_at = null
where scope in (select value from json_each(?1)) and state = 'retired'
";

/// Reads and writes in one transaction, which is the only one that writes.
pub(crate) async fn register(store: &Inner, registration: &Registration<'_>) -> Result<()> {
    let mut tx = Tx::begin(&store.writers).await?;
    match write(store, &mut tx, registration).await {
        Ok(()) => tx.finish(DOING).await,
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

async fn write(store: &Inner, tx: &mut Tx, registration: &Registration<'_>) -> Result<()> {
    let sql = &store.sql;
    let failed = |error| failed(DOING, error);
    let scopes: Vec<&str> = registration.scopes.iter().map(|(scope, _)| *scope).collect();
    let scopes = list(&scopes)?;
    let recorded: Vec<Recorded> = sqlx::query_as(sql.recorded_scopes.clone())
        .bind(&scopes)
        .bind(registration.group)
        .fetch_all(tx.connection())
        .await
        .map_err(failed)?;
    let recorded = recorded.into_iter().map(row).collect::<Result<Vec<_>>>()?;
    let instance_of: Option<String> = sqlx::query_scalar(sql.instance_of.clone())
        .bind(registration.group)
        .fetch_optional(tx.connection())
        .await
        .map_err(failed)?;
    let plan = registration.review(&recorded, instance_of.as_deref())?;

    for (scope, mode) in &plan.insert {
        let insert = sqlx::query(sql.insert_scopes.clone()).bind(scope).bind(mode.as_str());
        insert.bind(registration.group).execute(tx.connection()).await.map_err(failed)?;
    }
    for (scope, mode) in &plan.switch {
        let switch = sqlx::query(sql.switch_scope.clone()).bind(scope).bind(mode.as_str());
        switch.execute(tx.connection()).await.map_err(failed)?;
    }
    let adopt = sqlx::query(sql.adopt_scopes.clone()).bind(list(&plan.adopt)?);
    adopt.bind(registration.group).execute(tx.connection()).await.map_err(failed)?;
    let retire = sqlx::query(sql.retire_scopes.clone()).bind(list(&plan.retire)?);
    retire.execute(tx.connection()).await.map_err(failed)?;
    let instance = match registration.broadcast {
        Some(broadcast) => {
            sqlx::query(sql.is_instance.clone()).bind(registration.group).bind(broadcast)
        }
        None => sqlx::query(sql.is_no_instance.clone()).bind(registration.group),
    };
    instance.execute(tx.connection()).await.map_err(failed)?;
    let revive = sqlx::query(sql.revive_scopes.clone()).bind(scopes);
    revive.execute(tx.connection()).await.map_err(failed)?;
    for (scope, length) in registration.windows {
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let set = sqlx::query(sql.set_window.clone()).bind(scope).bind(length);
        set.execute(tx.connection()).await.map_err(failed)?;
    }
    if !plan.switch.is_empty() {
        // Whoever works on a lane of the group takes it again, and is told what was switched.
        let lanes = sqlx::query_scalar(sql.lanes_of_group.clone()).bind(registration.group);
        let lanes: Vec<i64> = lanes.fetch_all(tx.connection()).await.map_err(failed)?;
        for lane in lanes {
            unsettle(store, tx, lane).await.map_err(failed)?;
        }
    }
    Ok(())
}

pub(crate) async fn note_mode(store: &Inner, scope: &str, mode: MarkerMode) -> Result<()> {
    const DOING: &str = "recording how a scope is worked";
    let mut tx = Tx::begin(&store.writers).await?;
    let note = sqlx::query(store.sql.note_mode.clone()).bind(scope).bind(mode.as_str());
    let noted = note.execute(tx.connection()).await;
    tx.end(noted, DOING).await.map(drop)
}

fn list(scopes: &[impl AsRef<str>]) -> Result<String> {
    let scopes: Vec<&str> = scopes.iter().map(AsRef::as_ref).collect();
    serde_json::to_string(&scopes).map_err(|error| {
        Error::new(ErrorKind::Store, "the scopes cannot be written").with_source(error)
    })
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
    let packed = packed.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs()));
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
