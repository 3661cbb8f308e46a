//! Forgetting a key, in whatever form its marker is.

use std::collections::BTreeSet;

use idem_runtime::packed::{Digest, check_settled, without};
use idem_runtime::{Key, MarkerState, Result};

use crate::Inner;
use crate::direct::{find_after, unsettle};
use crate::error::failed;
use crate::packs::{delete, digest_key, finish, insert};
use crate::runs;
use crate::tx::Tx;

const DOING: &str = "forgetting a key";

/// The lane of a marker counts where it is packed: lanes keep in mind what was given up on once.
pub(crate) const MARKER: &str = "
select marker.state,
       case when exists (
           select 1 from {schema}scopes owned where owned.scope = ?1 and owned.mode = 'packed'
       ) then marker.lane_id end
from {schema}markers marker
where marker.scope = ?1 and marker.event_key = ?2
";

pub(crate) const OPEN_LETTERS: &str = "
select exists (
    select 1 from {schema}dead_letters
    where scope = ?1 and event_key = ?2 and state in ('dead', 'parked', 'waiting')
)
";

pub(crate) const DELETE_MARKER: &str =
    "delete from {schema}markers where scope = ?1 and event_key = ?2";

/// The lanes for which a row of so many partitions is of a former layout, and which may have asked for
/// it; or all of the topic, without a number.
pub(crate) const ASKING: &str = "
select lane.lane_id
from {schema}lanes own
join {schema}lanes lane on lane.group_name = own.group_name and lane.topic = own.topic
where own.lane_id = ?1 and (?2 is null or ?2 not in (0, (
    select count(*) from {schema}lanes every
    where every.group_name = own.group_name and every.topic = own.topic
)))
";

/// In the only transaction that writes.
pub(crate) async fn forget(store: &Inner, scope: &str, key: &Key) -> Result<bool> {
    let digest = digest_key(store).await?.digest(key);
    let mut tx = Tx::begin(&store.writers).await?;
    let found = within(store, &mut tx, scope, key, digest).await;
    finish(tx, found, DOING).await
}

async fn within(
    store: &Inner,
    tx: &mut Tx,
    scope: &str,
    key: &Key,
    digest: Digest,
) -> Result<bool> {
    let failed = |error| failed(DOING, error);
    let sql = &store.sql;
    let marker: Option<(i16, Option<i64>)> = sqlx::query_as(sql.forget_marker_of.clone())
        .bind(scope)
        .bind(key.as_str())
        .fetch_optional(tx.connection())
        .await
        .map_err(failed)?;
    let open: bool = sqlx::query_scalar(sql.forget_open_letters.clone())
        .bind(scope)
        .bind(key.as_str())
        .fetch_one(tx.connection())
        .await
        .map_err(failed)?;
    let state = marker.and_then(|(state, _)| MarkerState::from_i16(state));
    check_settled(scope, key, state, open)?;
    let mut found = marker.is_some();
    let mut lanes = BTreeSet::new();
    let asking = |lane: i64, partitions: Option<i32>| {
        sqlx::query_scalar::<_, i64>(sql.forget_asking.clone()).bind(lane).bind(partitions)
    };
    if let Some(lane) = marker.and_then(|(_, lane)| lane) {
        // Each of them may have it in mind.
        let asking = asking(lane, None).fetch_all(tx.connection()).await.map_err(failed)?;
        lanes.extend(asking);
    }
    let mut after = 0;
    loop {
        let rows = find_after(store, tx, scope, digest, after).await.map_err(failed)?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        for row in &rows {
            let Some(left) = without(row, digest)? else { continue };
            found = true;
            lanes.insert(row.lane);
            // One for every slice is for all lanes.
            let partitions = (!row.every_slice).then_some(row.partitions);
            let asking = asking(row.lane, partitions).fetch_all(tx.connection()).await;
            lanes.extend(asking.map_err(failed)?);
            if let Some(left) = &left {
                insert(store, tx, scope, left).await.map_err(failed)?;
            }
            delete(store, tx, &[row.id]).await?;
        }
    }
    for (run, lane) in runs::of_scope(store, tx, scope).await.map_err(failed)? {
        if runs::forget(store, tx, run, digest).await.map_err(failed)? {
            found = true;
            lanes.insert(lane);
        }
    }
    for lane in lanes {
        unsettle(store, tx, lane).await.map_err(failed)?;
    }
    let forget = sqlx::query(sql.forget_marker.clone()).bind(scope).bind(key.as_str());
    forget.execute(tx.connection()).await.map_err(failed)?;
    Ok(found)
}
