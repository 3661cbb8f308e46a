//! Runs: packed markers that do not fit into the memory of the lane's owner.

use std::collections::BTreeSet;

use idem_runtime::lane::Held;
use idem_runtime::packed::{BLOCK, Digest, NewRun, Run, WindowId};
use idem_runtime::{Error, ErrorKind, Result};

use crate::Inner;
use crate::error::{failed, undecodable};
use crate::pack_row::columns;
use crate::packs::{finish, numbers, there};
use crate::tx::Tx;

pub(crate) const OF_WINDOW: &str = "
select run_id, digests, filter from {schema}runs as run
where lane_id = ?1 and scope = ?2 and slices = ?3 and slice = ?4
  and run_id not in (select value from json_each(?5)) and is_finished
  and exists (select 1 from {schema}packs pack where pack.run_id = run.run_id)
order by run_id
limit ?6
";

pub(crate) const OF_NUMBERS: &str = "
select run_id, digests, filter from {schema}runs
where run_id in (select value from json_each(?1)) and is_finished
order by run_id
";

pub(crate) const ADD: &str = "
insert into {schema}runs (run_id, lane_id, scope, slices, slice, digests, filter)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
";

pub(crate) const ADD_BLOCK: &str =
    "insert into {schema}run_blocks (run_id, from_digest, data) values (?1, ?2, ?3)";

/// Rows for every slice are in no run: other slices would not load them any more.
pub(crate) const MARK: &str = "
update {schema}packs set run_id = ?1
where pack_id in (select value from json_each(?2)) and run_id is null and slices = ?3 and slice = ?4
";

pub(crate) const THERE: &str = "
select run_id from {schema}runs
where run_id in (select value from json_each(?1)) and is_finished
";

/// A digest is in the last block that begins at or before it, or in none.
pub(crate) const BLOCK_OF: &str = "
select from_digest, data from {schema}run_blocks
where run_id = ?1 and from_digest <= ?2
order by from_digest desc
limit 1
";

pub(crate) const OF_SCOPE: &str =
    "select run_id, lane_id from {schema}runs where scope = ?1 and is_finished";

pub(crate) const CHANGE_BLOCK: &str =
    "update {schema}run_blocks set data = ?3 where run_id = ?1 and from_digest = ?2";

pub(crate) const ONE_LESS: &str = "update {schema}runs set digests = digests - 1 where run_id = ?1";

pub(crate) const FORGET_EMPTY: &str = "
delete from {schema}runs
where run_id = ?1 and not exists (select 1 from {schema}packs pack where pack.run_id = ?1)
";

const READING: &str = "reading runs of packed markers";

pub(crate) async fn of_window(
    store: &Inner,
    window: &WindowId<'_>,
    but: &[i64],
    limit: u32,
) -> Result<Vec<Run>> {
    let (slices, slice) = columns(window.slice);
    let runs: Vec<Row> = sqlx::query_as(store.sql.runs_of_window.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(slices)
        .bind(slice)
        .bind(numbers(but)?)
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(READING, error))?;
    read(runs)
}

pub(crate) async fn of_numbers(store: &Inner, runs: &[i64]) -> Result<Vec<Run>> {
    let runs: Vec<Row> = sqlx::query_as(store.sql.runs_of_numbers.clone())
        .bind(numbers(runs)?)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(READING, error))?;
    read(runs)
}

type Row = (i64, i64, Vec<u8>);

fn read(runs: Vec<Row>) -> Result<Vec<Run>> {
    let run = |(id, count, filter)| {
        Ok(Run { id, count: u64::try_from(count).map_err(undecodable)?, filter })
    };
    let runs = runs.into_iter().map(run).collect::<sqlx::Result<_>>();
    runs.map_err(|error| failed(READING, error))
}

pub(crate) async fn add(
    store: &Inner,
    held: &Held,
    rows: &[i64],
    run: &NewRun<'_>,
) -> Result<bool> {
    const DOING: &str = "writing a run of packed markers";
    let mut tx = Tx::begin(&store.writers).await?;
    let added = async {
        let of = (run.window.lane, run.window.scope);
        let found = there(store, &mut tx, held, of, rows).await?;
        if found.is_none() {
            return Ok(false);
        }
        write(store, &mut tx, rows, run).await.map_err(|error| failed(DOING, error))
    };
    match added.await {
        // What was written of it is undone.
        Ok(false) => {
            tx.rollback().await;
            Ok(false)
        }
        added => finish(tx, added, DOING).await,
    }
}

async fn write(store: &Inner, tx: &mut Tx, rows: &[i64], run: &NewRun<'_>) -> sqlx::Result<bool> {
    let (slices, slice) = columns(run.window.slice);
    sqlx::query(store.sql.add_run.clone())
        .bind(run.id)
        .bind(run.window.lane)
        .bind(run.window.scope)
        .bind(slices)
        .bind(slice)
        .bind(i64::try_from(run.count).unwrap_or(i64::MAX))
        .bind(run.filter)
        .execute(tx.connection())
        .await?;
    for block in run.digests.chunks(BLOCK * 16) {
        let add = sqlx::query(store.sql.add_run_block.clone()).bind(run.id);
        let add = add.bind(block.get(..16).unwrap_or_default()).bind(block);
        add.execute(tx.connection()).await?;
    }
    let numbers = numbers(rows).map_err(undecodable)?;
    let mark = sqlx::query(store.sql.mark_in_run.clone()).bind(run.id).bind(numbers);
    let mark = mark.bind(slices).bind(slice).execute(tx.connection()).await?;
    Ok(usize::try_from(mark.rows_affected()) == Ok(rows.len()))
}

pub(crate) async fn contain(
    store: &Inner,
    tx: &mut Tx,
    asked: &[(i64, Digest)],
) -> Result<Vec<bool>> {
    const DOING: &str = "looking into runs of packed markers";
    let failed = |error| failed(DOING, error);
    let runs: BTreeSet<i64> = asked.iter().map(|(run, _)| *run).collect();
    let there: Vec<i64> = sqlx::query_scalar(store.sql.runs_there.clone())
        .bind(numbers(&runs.iter().copied().collect::<Vec<_>>())?)
        .fetch_all(tx.connection())
        .await
        .map_err(failed)?;
    if let Some(gone) = runs.iter().find(|run| !there.contains(run)) {
        let message = format!("{DOING}: run {gone} is not there");
        return Err(Error::new(ErrorKind::Transient, message));
    }
    let mut answer = Vec::with_capacity(asked.len());
    for (run, digest) in asked {
        answer.push(find(store, tx, *run, *digest).await.map_err(failed)?.is_some());
    }
    Ok(answer)
}

/// The block that has the digest: what it is from, its data, and how many bytes come before.
async fn find(
    store: &Inner,
    tx: &mut Tx,
    run: i64,
    digest: Digest,
) -> sqlx::Result<Option<(Vec<u8>, Vec<u8>, usize)>> {
    let wanted = digest.to_bytes();
    let block: Option<(Vec<u8>, Vec<u8>)> = sqlx::query_as(store.sql.run_block_of.clone())
        .bind(run)
        .bind(wanted.to_vec())
        .fetch_optional(tx.connection())
        .await?;
    Ok(block.and_then(|(from, data)| {
        let place = data.chunks_exact(16).position(|it| it == wanted)?;
        Some((from, data, place * 16))
    }))
}

/// All runs of a scope, each with its lane.
pub(crate) async fn of_scope(
    store: &Inner,
    tx: &mut Tx,
    scope: &str,
) -> sqlx::Result<Vec<(i64, i64)>> {
    sqlx::query_as(store.sql.runs_of_scope.clone()).bind(scope).fetch_all(tx.connection()).await
}

/// Takes a digest out of a run, which is forgotten when no row of it is left; answers whether it was
/// there. A run also has what was in rows of it that aged out before the others.
pub(crate) async fn forget(
    store: &Inner,
    tx: &mut Tx,
    run: i64,
    digest: Digest,
) -> sqlx::Result<bool> {
    let sql = &store.sql;
    let found = find(store, tx, run, digest).await?;
    let is_there = found.is_some();
    if let Some((from, mut data, before)) = found {
        data.drain(before..before + 16);
        let change = sqlx::query(sql.change_run_block.clone()).bind(run).bind(from).bind(data);
        change.execute(tx.connection()).await?;
        sqlx::query(sql.one_less_in_run.clone()).bind(run).execute(tx.connection()).await?;
    }
    sqlx::query(sql.forget_empty_run.clone()).bind(run).execute(tx.connection()).await?;
    Ok(is_there)
}
