//! Packed markers of partitions that are gone, and which key they are made with.

use idem_runtime::Result;
use idem_runtime::lane::Held;

use crate::Inner;
use crate::error::failed;

/// What is recorded stays.
pub(crate) const NOTE_DIGEST_KEY: &str = "
update {schema}.lanes set digest_key_id = coalesce(digest_key_id, $3)
where lane_id = $1 and token = $2
returning digest_key_id
";

/// Locks both lanes as who writes a run of another lane's rows does; answers in which runs the rows were.
pub(crate) const FORGET: &str = "
with locked as materialized (
    select lane_id, token, group_name, topic from {schema}.lanes
    where lane_id in ($1, $3) order by lane_id for key share
), fence as materialized (
    select other.lane_id from locked other
    join locked own on own.group_name = other.group_name and own.topic = other.topic
    where other.lane_id = $3 and own.lane_id = $1 and own.token = $2 and own.lane_id <> other.lane_id
), chosen as materialized (
    select pack.pack_id, pack.run_id
    from {schema}.packs pack
    join fence using (lane_id)
    where pack.lane_id = $3 and pack.scope = $4 and pack.pack_id = any($5::bigint[])
    order by pack.pack_id
    for update of pack
), complete as materialized (
    select lane_id from fence where (select count(*) from chosen) = cardinality($5::bigint[])
), gone as (
    delete from {schema}.packs pack
    using chosen, complete
    where pack.lane_id = $3 and pack.scope = $4 and pack.pack_id = chosen.pack_id
)
select exists (select from complete),
       array(select distinct run_id from chosen where run_id is not null)
";

/// What merges have left where no row is there any more: nobody has the lane who deletes it.
pub(crate) const FORGET_LEFT_OVER: &str = "
delete from {schema}.runs run
where run.lane_id = $1 and run.scope = $2 and not run.is_finished
  and not exists (select from {schema}.packs pack where pack.lane_id = $1 and pack.scope = $2)
";

pub(crate) async fn note_digest_key(
    store: &Inner,
    held: &Held,
    id: [u8; 8],
) -> Result<Option<[u8; 8]>> {
    const DOING: &str = "recording what digests are made with";
    let mut session = store.pools.write().await?;
    let note = sqlx::query_as::<_, (Vec<u8>,)>(store.sql.note_digest_key.clone());
    let note = note.bind(held.number).bind(held.token).bind(id.to_vec());
    let noted = session.optional(note).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    Ok(noted.map(|(id,)| read(&id)))
}

/// The id of a key. One of another length, which the table does not take, is no key's.
pub(crate) fn read(id: &[u8]) -> [u8; 8] {
    id.try_into().unwrap_or_default()
}

pub(crate) async fn forget(
    store: &Inner,
    held: &Held,
    lane: i64,
    scope: &str,
    rows: &[i64],
) -> Result<bool> {
    const DOING: &str = "forgetting packed markers of a partition that is gone";
    let failed = |error| failed(DOING, error);
    let forget = sqlx::query_as::<_, (bool, Vec<i64>)>(store.sql.forget_gone.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(lane)
        .bind(scope)
        .bind(rows);
    let mut session = store.pools.write().await?;
    let answer = session.optional(forget).await.map_err(failed)?;
    if let Some((true, runs)) = &answer {
        if !runs.is_empty() {
            let empty = sqlx::query(store.sql.forget_empty_runs.clone()).bind(runs);
            session.execute(empty).await.map_err(failed)?;
        }
        let left = sqlx::query(store.sql.forget_left_over.clone()).bind(lane).bind(scope);
        session.execute(left).await.map_err(failed)?;
    }
    session.finish(DOING).await?;
    Ok(answer.is_some_and(|(done, _)| done))
}
