//! Runs that are merged: written in parts, and then put in the place of others.

use idem_runtime::lane::Held;
use idem_runtime::packed::{BLOCK, Digest, Merged, RunBlock, RunPart};
use idem_runtime::{Error, ErrorKind, Result};

use crate::Inner;
use crate::error::failed;
use crate::pack_row::columns;
use crate::tx::Session;

/// The empty one is below all digests.
pub(crate) const BLOCKS: &str = "
select from_digest, data from {schema}.run_blocks
where run_id = $1 and from_digest > $2
order by from_digest
limit $3
";

/// The token is share-locked as by `packs::REPACK`.
pub(crate) const BEGIN: &str = "
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2 for key share
)
insert into {schema}.runs (run_id, lane_id, scope, slices, slice, digests, filter, is_finished)
overriding system value
select $3, lane_id, $4, $5, $6, $7, '', false
from fence
where lane_id = $8
returning run_id
";

pub(crate) const EXTEND: &str = "
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2 for key share
)
update {schema}.runs run
set digests = run.digests + $7
from fence
where run.run_id = $3 and run.lane_id = fence.lane_id and run.scope = $4 and run.slices = $5
  and run.slice = $6 and not run.is_finished and run.digests = $8
returning run.run_id
";

/// Before the lane is locked, because it may be large.
pub(crate) const FILTER: &str =
    "update {schema}.runs set filter = $2 where run_id = $1 and not is_finished";

/// Which of these runs are there, and with how many digests, once the lane and they are locked: by who
/// holds it, so that nobody forgets a key from here on. A key that was forgotten before is seen, because
/// rows are read again after they were waited for.
pub(crate) const LOCK: &str = "
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2 for key share
)
select run.run_id, run.digests, run.is_finished
from {schema}.runs run
join fence using (lane_id)
where run.run_id = any($3::bigint[]) and run.scope = $4 and run.slices = $5 and run.slice = $6
order by run.run_id
for update of run
";

pub(crate) const MOVE_PACKS: &str = "
update {schema}.packs set run_id = $1
where lane_id = $2 and scope = $3 and run_id = any($4::bigint[])
";

/// The first is finished with that, and the others are not any more.
pub(crate) const REPLACE: &str = "update {schema}.runs set is_finished = run_id = $1 where run_id = $1 or run_id = any($2::bigint[])";

/// Locks the runs before their blocks are deleted: whoever is at finishing one of them is waited for, and
/// then it is left alone. What was begun to be swept has no digests any more, and is not finished by
/// anybody.
pub(crate) const SWEEP: &str = "
with fence as materialized (
    select lane_id from {schema}.lanes where lane_id = $1 and token = $2 for key share
), doomed as materialized (
    select run.run_id
    from {schema}.runs run
    join fence using (lane_id)
    where run.scope = $3 and not run.is_finished
    order by run.run_id
    for update of run
), chosen as materialized (
    select block.run_id, block.from_digest
    from {schema}.run_blocks block
    join doomed using (run_id)
    limit $4
), cut as (
    delete from {schema}.run_blocks block
    using chosen
    where block.run_id = chosen.run_id and block.from_digest = chosen.from_digest
), emptied as (
    update {schema}.runs run set digests = 0
    from doomed
    where run.run_id = doomed.run_id and run.digests > 0
)
select exists (select from doomed), exists (select from chosen)
";

/// When none of them has a block any more.
pub(crate) const SWEEP_EMPTY: &str = "
delete from {schema}.runs run
using {schema}.lanes lane
where lane.lane_id = $1 and lane.token = $2 and run.lane_id = lane.lane_id and run.scope = $3
  and not run.is_finished
  and not exists (select from {schema}.run_blocks block where block.run_id = run.run_id)
";

/// Runs whose rows somebody has deleted by hand. In a statement of its own, which does not wait for who is
/// at finishing a run: that has no row yet.
pub(crate) const SWEEP_ROWLESS: &str = "
delete from {schema}.runs run
using {schema}.lanes lane
where lane.lane_id = $1 and lane.token = $2 and run.lane_id = lane.lane_id and run.scope = $3
  and run.is_finished
  and not exists (select from {schema}.packs pack where pack.run_id = run.run_id)
";

pub(crate) async fn blocks(
    store: &Inner,
    run: i64,
    after: Option<Digest>,
    limit: u32,
) -> Result<Vec<RunBlock>> {
    const DOING: &str = "reading a run of packed markers";
    let after = after.map_or_else(Vec::new, |digest| digest.to_bytes().to_vec());
    let blocks = sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>(store.sql.run_blocks.clone());
    let blocks = blocks.bind(run).bind(after).bind(i64::from(limit));
    let mut session = store.pools.read_aside().await?;
    let blocks = session.all(blocks).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    let block = |(from, data): (Vec<u8>, Vec<u8>)| {
        let from = from.try_into().map(Digest::from_bytes);
        from.map(|from| RunBlock { from, data }).map_err(|from: Vec<u8>| {
            let message = format!("{DOING}: a block of run {run} begins at {} bytes", from.len());
            Error::new(ErrorKind::Store, message)
        })
    };
    blocks.into_iter().map(block).collect()
}

pub(crate) async fn extend(store: &Inner, held: &Held, part: &RunPart<'_>) -> Result<bool> {
    const DOING: &str = "writing a part of a run of packed markers";
    let failed = |error| failed(DOING, error);
    let begins = part.had == 0;
    let sql = if begins { &store.sql.begin_run } else { &store.sql.extend_run };
    let (slices, slice) = columns(part.window.slice);
    let extend = sqlx::query_as::<_, (i64,)>(sql.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(part.id)
        .bind(part.window.scope)
        .bind(slices)
        .bind(slice)
        .bind(i64::try_from(part.digests.len() / 16).unwrap_or(i64::MAX))
        .bind(if begins { part.window.lane } else { number(part.had) });
    let mut session = store.pools.write_aside().await?;
    if session.optional(extend).await.map_err(failed)?.is_none() {
        session.finish(DOING).await?;
        return Ok(false);
    }
    if !part.digests.is_empty() {
        let add = sqlx::query(store.sql.add_run_blocks.clone())
            .bind(part.id)
            .bind(part.digests)
            .bind(i32::try_from(BLOCK * 16).unwrap_or(i32::MAX));
        session.execute(add).await.map_err(failed)?;
    }
    session.finish(DOING).await?;
    Ok(true)
}

pub(crate) async fn merge(store: &Inner, held: &Held, merged: &Merged<'_>) -> Result<bool> {
    const DOING: &str = "merging runs of packed markers";
    let mut session = store.pools.write_aside().await?;
    match within(store, &mut session, held, merged).await {
        Ok(true) => {
            session.finish(DOING).await?;
            Ok(true)
        }
        Ok(false) => {
            session.rollback().await;
            Ok(false)
        }
        Err(error) => {
            session.rollback().await;
            Err(failed(DOING, error))
        }
    }
}

async fn within(
    store: &Inner,
    session: &mut Session,
    held: &Held,
    merged: &Merged<'_>,
) -> sqlx::Result<bool> {
    let sql = &store.sql;
    let filter = sqlx::query(sql.run_filter.clone()).bind(merged.id).bind(merged.filter);
    session.execute(filter).await?;
    let of: Vec<i64> = merged.of.iter().map(|(run, _)| *run).collect();
    let all: Vec<i64> = of.iter().copied().chain([merged.id]).collect();
    let (slices, slice) = columns(merged.window.slice);
    let there = sqlx::query_as::<_, (i64, i64, bool)>(sql.lock_runs.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(all)
        .bind(merged.window.scope)
        .bind(slices)
        .bind(slice);
    let there = session.all(there).await?;
    let is_there = |run: i64, count: u64, is_finished: bool| {
        there.contains(&(run, number(count), is_finished))
    };
    let are_there = merged.of.iter().all(|(run, count)| is_there(*run, *count, true));
    if !are_there || !is_there(merged.id, merged.count, false) {
        return Ok(false);
    }
    let packs = sqlx::query(sql.move_packs.clone())
        .bind(merged.id)
        .bind(held.number)
        .bind(merged.window.scope)
        .bind(&of);
    session.execute(packs).await?;
    session.execute(sqlx::query(sql.replace_runs.clone()).bind(merged.id).bind(&of)).await?;
    Ok(true)
}

pub(crate) async fn sweep(store: &Inner, held: &Held, scope: &str, blocks: u32) -> Result<bool> {
    const DOING: &str = "deleting what is left of runs of packed markers";
    let failed = |error| failed(DOING, error);
    let sweep = sqlx::query_as::<_, (bool, bool)>(store.sql.sweep_runs.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(scope)
        .bind(i64::from(blocks));
    let mut session = store.pools.write_aside().await?;
    let swept = session.optional(sweep).await.map_err(failed)?;
    let (mut swept, is_empty) = swept.map_or((false, true), |(doomed, cut)| (doomed, !cut));
    if is_empty {
        let sql = if swept { &store.sql.sweep_empty_runs } else { &store.sql.sweep_rowless_runs };
        let rest = sqlx::query(sql.clone()).bind(held.number).bind(held.token).bind(scope);
        swept |= session.execute(rest).await.map_err(failed)? > 0;
    }
    session.finish(DOING).await?;
    Ok(swept)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
