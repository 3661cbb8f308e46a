//! A former owner that is frozen in the middle of a batch: it cannot commit, but its claims still
//! hold up the new owner's.
//!
//! The server ends such a transaction by itself when it is idle for too long. This is for those who
//! cannot wait so long, and it ends nobody else's session: only one that says which lane and token
//! it works for, when that is not the lane's token any more.

use std::convert::Infallible;
use std::future::Future;

use crate::Inner;
use crate::session::{lane_name, parse_lane_name};
use idem_runtime::lane::Held;

/// Who holds up the session of this name.
pub(crate) const BLOCKERS: &str = "
select blocker.pid, blocker.application_name
from pg_stat_activity waiting
cross join lateral unnest(pg_blocking_pids(waiting.pid)) as blocking (pid)
join pg_stat_activity blocker on blocker.pid = blocking.pid
where waiting.application_name = $1
  and waiting.datid = blocker.datid
  and waiting.wait_event_type = 'Lock'
  and blocker.application_name like 'idem lane %'
";

/// Ends a session, if it still works for that lane and token and the lane has another.
pub(crate) const END_FENCED: &str = "
select pg_terminate_backend(blocker.pid)
from pg_stat_activity blocker
join {schema}.lanes lane on lane.lane_id = $3 and lane.token <> $4
where blocker.pid = $1 and blocker.application_name = $2
";

/// Does this work of a lane's transaction, which may have to wait for a former owner's.
pub(crate) async fn unblocked<T>(store: &Inner, held: &Held, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = end_blockers(store, held) => match never {},
    }
}

/// Looks again and again, one patience apart.
async fn end_blockers(store: &Inner, held: &Held) -> Infallible {
    loop {
        // First a wait, then a look: most claims are not held up.
        tokio::time::sleep(store.patience).await;
        if let Err(error) = end_once(store, held).await {
            tracing::warn!(
                lane = %held.id,
                error = %error.report(),
                "cannot end the transaction of a former owner that holds up a claim"
            );
        }
    }
}

async fn end_once(store: &Inner, held: &Held) -> idem_runtime::Result<()> {
    const DOING: &str = "looking who holds up a claim";
    let failed = |error| crate::error::failed(DOING, error);
    let mut session = store.pools.read().await?;
    let blockers = sqlx::query_as::<_, (i32, String)>(store.sql.blockers.clone())
        .bind(lane_name(held.number, held.token));
    let blockers = session.all(blockers).await.map_err(failed)?;
    for (pid, name) in blockers {
        let Some((lane, token)) = parse_lane_name(&name) else { continue };
        let end = sqlx::query_as::<_, (bool,)>(store.sql.end_fenced.clone())
            .bind(pid)
            .bind(&name)
            .bind(lane)
            .bind(token);
        if session.optional(end).await.map_err(failed)? == Some((true,)) {
            tracing::warn!(
                lane = %held.id,
                pid,
                former = lane,
                "ended the transaction of a former owner, fenced since, that held up a claim"
            );
        }
    }
    session.finish(DOING).await
}
