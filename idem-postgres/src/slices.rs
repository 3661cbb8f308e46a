//! Dividing a lane into slices, each with a position and a revision of its own.

use idem_runtime::Result;
use idem_runtime::lane::Held;

use crate::Inner;
use crate::error::failed;

/// Waits for the slices' seals that are not committed yet, and keeps others from taking the lane.
pub(crate) const LOCK: &str = "
select lane_id from {schema}.lanes where lane_id = $1 and token = $2 for update
";

/// The lane's row is changed, so that whoever moves the revisions of its slices, and began before, fails
/// in place of missing these. How far slices of another number were is known from then on. What was inserted is not seen by the same statement otherwise than through `added`.
pub(crate) const CUT: &str = "
with touched as (
    update {schema}.lanes
    set token = token, handled_to = greatest(handled_to, (
        select max(slice.position) from {schema}.lane_slices slice where slice.lane_id = $1
    ))
    where lane_id = $1
), gone as (
    delete from {schema}.lane_slices where lane_id = $1 and slices <> $2
), added as (
    insert into {schema}.lane_slices (lane_id, slices, slice, position, leader_epoch)
    select lane.lane_id, $2, slice, lane.position, lane.leader_epoch
    from {schema}.lanes lane
    cross join generate_series(0, $2 - 1) as slice
    where lane.lane_id = $1
    on conflict (lane_id, slices, slice) do nothing
    returning slice, revision
)
select revision from (
    select slice, revision from {schema}.lane_slices where lane_id = $1 and slices = $2
    union all
    select slice, revision from added
) as cut
order by slice
";

pub(crate) async fn cut(store: &Inner, held: &Held, slices: u16) -> Result<Option<Vec<i64>>> {
    const DOING: &str = "dividing a lane into slices";
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.write().await?;
    let lock = sqlx::query_as::<_, (i64,)>(store.sql.lock_held_lane.clone())
        .bind(held.number)
        .bind(held.token);
    let revisions = match session.optional(lock).await.map_err(failed)? {
        Some(_) => {
            let cut = sqlx::query_as::<_, (i64,)>(store.sql.cut_lane.clone())
                .bind(held.number)
                .bind(i32::from(slices));
            let rows = session.all(cut).await.map_err(failed)?;
            Some(rows.into_iter().map(|(revision,)| revision).collect())
        }
        None => None,
    };
    session.finish(DOING).await?;
    Ok(revisions)
}
