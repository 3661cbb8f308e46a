//! Who has lanes, and is alive.

use idem_runtime::Result;
use idem_runtime::lane::Owner;
use sqlx::SqlStr;

use crate::Inner;
use crate::error::failed;

pub(crate) const HEARTBEAT: &str = "
insert into {schema}.owners (owner_id, name) values ($1, $2)
on conflict (owner_id) do update set name = excluded.name, heartbeat_at = clock_timestamp()
";

/// Says that the owner is alive.
pub(crate) async fn heartbeat(store: &Inner, owner: &Owner) -> Result<()> {
    const DOING: &str = "heartbeat";
    /// Whoever locks the row, the watch over the lanes does not wait for it.
    const IMPATIENT: SqlStr = SqlStr::from_static("set local lock_timeout = 250");
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.write().await?;
    session.execute(sqlx::query(IMPATIENT)).await.map_err(failed)?;
    let beat = sqlx::query(store.sql.heartbeat.clone()).bind(owner.id).bind(&owner.name);
    session.execute(beat).await.map_err(failed)?;
    session.finish(DOING).await
}
