//! Runs: packed markers that do not fit into the memory of the lane's owner.

use std::collections::BTreeSet;

use idem_runtime::lane::Held;
use idem_runtime::packed::{BLOCK, Digest, NewRun, Run, WindowId};
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;

use crate::error::failed;
use crate::pack_row::{columns, small};
use crate::{Inner, Tx};

/// How many bytes of digests go into one statement.
const CHUNK: usize = BLOCK * 16 * 1024;

pub(crate) const OF_WINDOW: &str = "
select run_id, digests, filter from {schema}.runs run
where lane_id = $1 and scope = $2 and slices = $3 and slice = $4 and run_id <> all($5::bigint[])
  and is_finished and exists (select from {schema}.packs pack where pack.run_id = run.run_id)
order by run_id
limit $6
";

pub(crate) const OF_NUMBERS: &str = "
select run_id, digests, filter from {schema}.runs
where run_id = any($1::bigint[]) and is_finished
order by run_id
";

/// Locks as `packs::REPACK` does; and the lane of the rows, should it be another one, as its own owner
/// would: who forgets a key locks lanes in this order, and before rows. Rows for every slice are in no
/// run: other slices would not load them any more.
pub(crate) const ADD: &str = "
with locked as materialized (
    select lane_id, token from {schema}.lanes where lane_id in ($1, $9) order by lane_id for key share
), fence as materialized (
    select lane_id from locked
    where lane_id = $9 and exists (select from locked own where own.lane_id = $1 and own.token = $2)
), chosen as materialized (
    select pack.pack_id
    from {schema}.packs pack
    join fence using (lane_id)
    where pack.lane_id = $9 and pack.scope = $4 and pack.pack_id = any($3::bigint[])
      and pack.run_id is null and pack.slices = $5 and pack.slice = $6
    order by pack.pack_id
    for update of pack
), added as (
    insert into {schema}.runs (run_id, lane_id, scope, slices, slice, digests, filter)
    overriding system value
    select $10, lane_id, $4, $5, $6, $7, $8
    from fence
    where (select count(*) from chosen) = cardinality($3::bigint[])
    returning run_id
), marked as (
    update {schema}.packs pack
    set run_id = added.run_id
    from chosen, added
    where pack.lane_id = $9 and pack.scope = $4 and pack.pack_id = chosen.pack_id
)
select run_id from added
";

/// Digests in their order, cut into blocks of so many bytes.
pub(crate) const ADD_BLOCKS: &str = "
insert into {schema}.run_blocks (run_id, from_digest, data)
select $1, substring($2::bytea from block * $3::int + 1 for 16),
       substring($2::bytea from block * $3::int + 1 for $3::int)
from generate_series(0, (octet_length($2::bytea) - 1) / $3::int) as block
";

/// The places (from 1) of the digests that are in their runs, and which of the runs are there.
///
/// A digest is in the last block that begins at or before it, or in none. The bytes of two digests
/// together may look like a third one; then each digest of the block is looked at.
pub(crate) const IN_RUNS: &str = "
select array(
    select asked.place
    from unnest($1::bigint[], $2::bytea[]) with ordinality as asked (run_id, digest, place)
    cross join lateral (
        select block.data, position(asked.digest in block.data) as place
        from {schema}.run_blocks block
        where block.run_id = asked.run_id and block.from_digest <= asked.digest
        order by block.from_digest desc
        limit 1
    ) as block
    where case
        when block.place = 0 then false
        when block.place % 16 = 1 then true
        else exists (
            select from generate_series(0, octet_length(block.data) / 16 - 1) as nth
            where substring(block.data from nth * 16 + 1 for 16) = asked.digest
        )
    end
), array(select run_id from {schema}.runs where run_id = any($3::bigint[]) and is_finished)
";

pub(crate) const FORGET_EMPTY: &str = "
delete from {schema}.runs run
where run.run_id = any($1::bigint[])
  and not exists (select from {schema}.packs pack where pack.run_id = run.run_id)
";

pub(crate) async fn of_window(
    store: &Inner,
    window: &WindowId<'_>,
    but: &[i64],
    limit: u32,
) -> Result<Vec<Run>> {
    let (slices, slice) = columns(window.slice);
    let runs = sqlx::query_as(store.sql.runs_of_window.clone())
        .bind(window.lane)
        .bind(window.scope)
        .bind(slices)
        .bind(slice)
        .bind(but)
        .bind(i64::from(limit));
    read(store, runs).await
}

pub(crate) async fn of_numbers(store: &Inner, runs: &[i64]) -> Result<Vec<Run>> {
    read(store, sqlx::query_as(store.sql.runs_of_numbers.clone()).bind(runs)).await
}

type Row = (i64, i64, Vec<u8>);

async fn read(
    store: &Inner,
    runs: QueryAs<'_, sqlx::Postgres, Row, PgArguments>,
) -> Result<Vec<Run>> {
    const DOING: &str = "reading runs of packed markers";
    let failed = |error| failed(DOING, error);
    let mut session = store.pools.read().await?;
    let runs = session.all(runs).await.map_err(failed)?;
    session.finish(DOING).await?;
    let run = |(id, count, filter)| Ok(Run { id, count: small(count)?, filter });
    runs.into_iter().map(run).collect::<sqlx::Result<_>>().map_err(failed)
}

pub(crate) async fn add(
    store: &Inner,
    held: &Held,
    rows: &[i64],
    run: &NewRun<'_>,
) -> Result<bool> {
    const DOING: &str = "writing a run of packed markers";
    let failed = |error| failed(DOING, error);
    let (slices, slice) = columns(run.window.slice);
    let mut session = store.pools.write_aside().await?;
    let add = sqlx::query_as::<_, (i64,)>(store.sql.add_run.clone())
        .bind(held.number)
        .bind(held.token)
        .bind(rows)
        .bind(run.window.scope)
        .bind(slices)
        .bind(slice)
        .bind(i64::try_from(run.count).unwrap_or(i64::MAX))
        .bind(run.filter)
        .bind(run.window.lane)
        .bind(run.id);
    let Some((id,)) = session.optional(add).await.map_err(failed)? else {
        session.finish(DOING).await?;
        return Ok(false);
    };
    for digests in run.digests.chunks(CHUNK) {
        let add = sqlx::query(store.sql.add_run_blocks.clone())
            .bind(id)
            .bind(digests)
            .bind(i32::try_from(BLOCK * 16).unwrap_or(i32::MAX));
        session.execute(add).await.map_err(failed)?;
    }
    session.finish(DOING).await?;
    Ok(true)
}

/// In the snapshot of this transaction a run may not be there yet, whose digests its owner has put out
/// of its memory since.
pub(crate) async fn contain(
    store: &Inner,
    tx: &mut Tx,
    asked: &[(i64, Digest)],
) -> Result<Vec<bool>> {
    const DOING: &str = "looking into runs of packed markers";
    let mut answer = vec![false; asked.len()];
    if asked.is_empty() {
        return Ok(answer);
    }
    let runs: Vec<i64> = asked.iter().map(|(run, _)| *run).collect();
    let bytes: Vec<Vec<u8>> = asked.iter().map(|(_, it)| it.to_bytes().to_vec()).collect();
    let each: BTreeSet<i64> = runs.iter().copied().collect();
    let look = sqlx::query_as::<_, (Vec<i64>, Vec<i64>)>(store.sql_in(tx).in_runs.clone());
    let look = look.bind(runs).bind(bytes).bind(each.iter().copied().collect::<Vec<i64>>());
    let look = tx.session().optional(look).await;
    let Some((places, there)) = look.map_err(|error| failed(DOING, error))? else {
        return Err(Error::new(ErrorKind::Store, format!("{DOING}: the database was silent")));
    };
    if let Some(gone) = each.iter().find(|run| !there.contains(run)) {
        let message = format!("{DOING}: run {gone} is not there");
        return Err(Error::new(ErrorKind::Transient, message));
    }
    for place in places {
        let place = usize::try_from(place - 1).ok();
        if let Some(it) = place.and_then(|place| answer.get_mut(place)) {
            *it = true;
        }
    }
    Ok(answer)
}
