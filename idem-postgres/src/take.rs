//! Taking a lane: its new token, and what became of the owner before.

use idem_runtime::Result;
use idem_runtime::lane::{LaneId, LaneRow, Owner};
use uuid::Uuid;

use crate::Inner;
use crate::error::failed;
use crate::lanes::by_number;

/// Waits for the transactions that have sealed the lane and not ended yet, and for no other.
pub(crate) const LOCK: &str = "
select lane_id from {schema}.lanes
where group_name = $1 and topic = $2 and partition = $3
for update
";

/// The owner before has died when it did not release the lane and shows no sign of life, or when
/// this is its successor by name. What it had open then is what it may have died of.
///
/// The new owner's own sign of life is there from now on, so that it is not taken for dead before
/// its first look at the lanes.
pub(crate) const TAKE: &str = "
with former as materialized (
    select lane.lane_id,
           (lane.owner_id <> $3 and lane.released_at is null and (
               lane.owner_name = $4
               or not exists (
                   select from {schema}.owners owner
                   where owner.owner_id = lane.owner_id
                     and owner.heartbeat_at >= clock_timestamp() - make_interval(secs => $5)
               )
           )) is true as has_died
    from {schema}.lanes lane
    where lane.lane_id = $1
), taken as (
    update {schema}.lanes lane
    set token = $2, owner_id = $3, owner_name = $4, taken_at = clock_timestamp(),
        released_at = null, deaths = lane.deaths + former.has_died::int
    from former
    where lane.lane_id = former.lane_id
), closed as (
    update {schema}.attempts attempt
    set is_open = false, deaths = attempt.deaths + former.has_died::int
    from former
    where attempt.lane_id = former.lane_id and attempt.is_open
)
insert into {schema}.owners (owner_id, name) values ($3, $4)
on conflict (owner_id) do update set name = excluded.name, heartbeat_at = clock_timestamp()
";

/// The row is locked; what depends on having waited is done and read in later statements, which see
/// what the transaction that was waited for has committed.
pub(crate) async fn take(store: &Inner, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
    const DOING: &str = "taking a lane";
    /// What fits into an interval.
    const LONG: f64 = 1e9;
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.write().await?;
    let lock = sqlx::query_as::<_, (i64,)>(store.sql.lock_lane.clone())
        .bind(&*lane.group)
        .bind(&*lane.topic)
        .bind(lane.partition);
    let Some((number,)) = session.optional(lock).await.map_err(failed)? else {
        session.finish(DOING).await?;
        return Ok(None);
    };
    let take = sqlx::query(store.sql.take_lane.clone())
        .bind(number)
        .bind(Uuid::new_v4())
        .bind(owner.id)
        .bind(&owner.name)
        .bind(owner.dead_after.as_secs_f64().min(LONG));
    session.execute(take).await.map_err(failed)?;
    let row = by_number(store, &mut session, number).await.map_err(failed)?;
    session.finish(DOING).await?;
    Ok(row)
}
