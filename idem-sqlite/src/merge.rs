//! Runs that are merged: written in parts, and then put in the place of others.

use idem_runtime::lane::Held;
use idem_runtime::packed::{BLOCK, Digest, Merged, RunBlock, RunPart};
use idem_runtime::{Error, ErrorKind, Result};

use crate::Inner;
use crate::error::{failed, undecodable};
use crate::pack_row::columns;
use crate::packs::{finish, numbers, there};
use crate::tx::Tx;

/// The empty one is below all digests.
pub(crate) const BLOCKS: &str = "
select from_digest, data from {schema}run_blocks
where run_id = ?1 and from_digest > ?2
order by from_digest
limit ?3
";

pub(crate) const BEGIN: &str = "
insert into {schema}runs (run_id, lane_id, scope, slices, slice, digests, filter, is_finished)
values (?1, ?2, ?3, ?4, ?5, 0, x'', 0)
";

pub(crate) const EXTEND: &str = "
update {schema}runs set digests = digests + ?6
where run_id = ?1 and lane_id = ?2 and scope = ?3 and slices = ?4 and slice = ?5
  and not is_finished and digests = ?7
";

/// These, as they are expected: each with how many digests, and whether it is finished.
pub(crate) const COUNT: &str = "
select count(*)
from json_each(?5) as expected
join {schema}runs run
  on run.run_id = expected.value ->> 0 and run.digests = expected.value ->> 1
 and run.is_finished = expected.value ->> 2
where run.lane_id = ?1 and run.scope = ?2 and run.slices = ?3 and run.slice = ?4
";

pub(crate) const MOVE_PACKS: &str = "
update {schema}packs set run_id = ?1
where lane_id = ?2 and scope = ?3 and run_id in (select value from json_each(?4))
";

pub(crate) const FINISH: &str =
    "update {schema}runs set is_finished = 1, filter = ?2 where run_id = ?1";

pub(crate) const PUT_OUT: &str = "
update {schema}runs set is_finished = 0 where run_id in (select value from json_each(?1))
";

pub(crate) const SWEEP_BLOCKS: &str = "
delete from {schema}run_blocks
where (run_id, from_digest) in (
    select block.run_id, block.from_digest
    from {schema}runs run
    join {schema}run_blocks block using (run_id)
    where run.lane_id = ?1 and run.scope = ?2 and not run.is_finished
    limit ?3
)
";

/// What was begun to be swept is not finished by anybody.
pub(crate) const EMPTY: &str = "
update {schema}runs set digests = 0 where lane_id = ?1 and scope = ?2 and not is_finished
";

/// When none of them has a block any more; and runs whose rows somebody has deleted by hand.
pub(crate) const SWEEP: &str = "
delete from {schema}runs as run
where lane_id = ?1 and scope = ?2
  and (not is_finished
       or not exists (select 1 from {schema}packs pack where pack.run_id = run.run_id))
";

pub(crate) async fn blocks(
    store: &Inner,
    run: i64,
    after: Option<Digest>,
    limit: u32,
) -> Result<Vec<RunBlock>> {
    const DOING: &str = "reading a run of packed markers";
    let after = after.map_or_else(Vec::new, |digest| digest.to_bytes().to_vec());
    let blocks: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(store.sql.run_blocks.clone())
        .bind(run)
        .bind(after)
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
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
    let mut tx = Tx::begin(&store.writers).await?;
    let extended = async {
        let of = (part.window.lane, part.window.scope);
        if part.window.lane != held.number || there(store, &mut tx, held, of, &[]).await?.is_none()
        {
            return Ok(false);
        }
        write(store, &mut tx, part).await.map_err(|error| failed(DOING, error))
    };
    let extended = extended.await;
    finish(tx, extended, DOING).await
}

async fn write(store: &Inner, tx: &mut Tx, part: &RunPart<'_>) -> sqlx::Result<bool> {
    let (slices, slice) = columns(part.window.slice);
    if part.had == 0 {
        let begin = sqlx::query(store.sql.begin_run.clone())
            .bind(part.id)
            .bind(part.window.lane)
            .bind(part.window.scope);
        begin.bind(slices).bind(slice).execute(tx.connection()).await?;
    }
    let extend = sqlx::query(store.sql.extend_run.clone())
        .bind(part.id)
        .bind(part.window.lane)
        .bind(part.window.scope)
        .bind(slices)
        .bind(slice)
        .bind(number((part.digests.len() / 16) as u64))
        .bind(number(part.had));
    if extend.execute(tx.connection()).await?.rows_affected() == 0 {
        return Ok(false);
    }
    for block in part.digests.chunks(BLOCK * 16) {
        let add = sqlx::query(store.sql.add_run_block.clone()).bind(part.id);
        let add = add.bind(block.get(..16).unwrap_or_default()).bind(block);
        add.execute(tx.connection()).await?;
    }
    Ok(true)
}

pub(crate) async fn merge(store: &Inner, held: &Held, merged: &Merged<'_>) -> Result<bool> {
    const DOING: &str = "merging runs of packed markers";
    let mut tx = Tx::begin(&store.writers).await?;
    let done = async {
        let window = &merged.window;
        let of = (window.lane, window.scope);
        if window.lane != held.number || there(store, &mut tx, held, of, &[]).await?.is_none() {
            return Ok(false);
        }
        within(store, &mut tx, merged).await.map_err(|error| failed(DOING, error))
    };
    let done = done.await;
    finish(tx, done, DOING).await
}

async fn within(store: &Inner, tx: &mut Tx, merged: &Merged<'_>) -> sqlx::Result<bool> {
    let (window, sql) = (&merged.window, &store.sql);
    let (slices, slice) = columns(window.slice);
    let others = merged.of.iter().map(|(run, count)| (*run, number(*count), 1));
    let expected: Vec<(i64, i64, i64)> =
        others.chain([(merged.id, number(merged.count), 0)]).collect();
    let found: i64 = sqlx::query_scalar(sql.count_runs.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(slices)
        .bind(slice)
        .bind(serde_json::to_string(&expected).map_err(undecodable)?)
        .fetch_one(tx.connection())
        .await?;
    if usize::try_from(found) != Ok(expected.len()) {
        return Ok(false);
    }
    let of: Vec<i64> = merged.of.iter().map(|(run, _)| *run).collect();
    let of = numbers(&of).map_err(undecodable)?;
    let packs = sqlx::query(sql.move_packs.clone()).bind(merged.id).bind(window.lane);
    packs.bind(window.scope).bind(&of).execute(tx.connection()).await?;
    let end = sqlx::query(sql.finish_run.clone()).bind(merged.id).bind(merged.filter);
    end.execute(tx.connection()).await?;
    sqlx::query(sql.put_out_runs.clone()).bind(&of).execute(tx.connection()).await?;
    Ok(true)
}

pub(crate) async fn sweep(store: &Inner, held: &Held, scope: &str, blocks: u32) -> Result<bool> {
    const DOING: &str = "deleting what is left of runs of packed markers";
    let failed = |error| failed(DOING, error);
    let mut tx = Tx::begin(&store.writers).await?;
    let swept = async {
        let of = (held.number, scope);
        if there(store, &mut tx, held, of, &[]).await?.is_none() {
            return Ok(false);
        }
        let cut = sqlx::query(store.sql.sweep_run_blocks.clone()).bind(held.number).bind(scope);
        let cut = cut.bind(blocks).execute(tx.connection()).await.map_err(failed)?;
        let is_empty = cut.rows_affected() == 0;
        let sql = if is_empty { &store.sql.sweep_runs } else { &store.sql.empty_runs };
        let rest = sqlx::query(sql.clone()).bind(held.number).bind(scope);
        let rest = rest.execute(tx.connection()).await.map_err(failed)?;
        Ok(!is_empty || rest.rows_affected() > 0)
    };
    let swept = swept.await;
    finish(tx, swept, DOING).await
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
