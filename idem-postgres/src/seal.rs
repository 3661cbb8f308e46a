//! The seal: the last statement of a transaction.
//!
//! It moves the lane (compare and set), and takes the guard's row away, which lets the transaction
//! commit. The row's lock is held from here to the commit only.

use idem_runtime::lane::Slice;
use idem_runtime::store::{Seal, Sealed, Writer};
use idem_runtime::{Error, Result};

use crate::Inner;
use crate::error::{broke, failed};
use crate::tx::{Batch, Tx, unbalanced};

/// Whether this is the guarded transaction, whether the lane was moved, how many of the guard's rows
/// were taken away. The trigger that refuses what is not sealed reads the setting `idem.sealed`,
/// which ends with the transaction.
///
/// What offset mode remembers never goes down: after an operator's rewind the events come again and
/// are duplicates.
pub(crate) const LANE: &str = "
with same as materialized (
    select $1::text is null or coalesce(pg_current_xact_id_if_assigned()::text = $1, false) as same
), sealed as (
    update {schema}.lanes
    set position = $5, leader_epoch = $6, revision = revision + 1, updated_at = clock_timestamp()
    where lane_id = $2 and token = $3 and revision = $4 and (select same from same)
    returning lane_id
), marked as (
    insert into {schema}.offset_marks as mark (lane_id, scope, next_offset)
    select sealed.lane_id, scope, $5 from sealed cross join unnest($7::text[]) as scope
    on conflict (lane_id, scope) do update
    set next_offset = greatest(mark.next_offset, excluded.next_offset)
), closed as (
    delete from {schema}.open_batches
    where ctid = any($8::text[]::tid[]) and batch::text = $1 and exists (select from sealed)
    returning set_config('idem.sealed', $1, true)
)
select (select same from same), exists (select from sealed), (select count(*) from closed)
";

/// As [`LANE`], for a slice of one: the slice moves. Of the lane's row only the token is locked, which
/// slices share (see migration 2): they do not wait for each other, nor for the lane's position,
/// which follows them; and whoever takes the lane waits for those that are sealed.
pub(crate) const SLICE: &str = "
with same as materialized (
    select $1::text is null or coalesce(pg_current_xact_id_if_assigned()::text = $1, false) as same
), fence as materialized (
    select lane_id from {schema}.lanes
    where lane_id = $2 and token = $3 and (select same from same)
    for key share
), sealed as (
    update {schema}.lane_slices slice
    set position = $5, leader_epoch = $6, revision = slice.revision + 1
    from fence
    where slice.lane_id = fence.lane_id
      and slice.slices = $8
      and slice.slice = $9
      and slice.revision = $4
    returning slice.lane_id
), closed as (
    delete from {schema}.open_batches
    where ctid = any($7::text[]::tid[]) and batch::text = $1 and exists (select from sealed)
    returning set_config('idem.sealed', $1, true)
)
select (select same from same), exists (select from sealed), (select count(*) from closed)
";

/// As [`LANE`], for a call without one.
pub(crate) const DIRECT: &str = "
with same as materialized (
    select $1::text is null or coalesce(pg_current_xact_id_if_assigned()::text = $1, false) as same
), closed as (
    delete from {schema}.open_batches
    where ctid = any($2::text[]::tid[]) and batch::text = $1 and (select same from same)
    returning set_config('idem.sealed', $1, true)
)
select (select same from same), true, (select count(*) from closed)
";

type Answer = (bool, bool, i64);

pub(crate) async fn seal(
    store: &Inner,
    tx: &mut Tx,
    writer: &Writer<'_>,
    seal: Option<&Seal<'_>>,
) -> Result<Sealed> {
    // Without a claim, or a letter that was settled, nobody was lent the transaction.
    let (xid, guards) = match tx.batch.clone() {
        Some(Batch { xid, guards }) => (Some(xid), guards),
        None => (None, Vec::new()),
    };
    let expected = guards.len();
    if !tx.session.is_level() {
        return Err(unbalanced());
    }
    let sql = store.sql_in(tx);
    let statement = match (writer, seal) {
        (Writer::Lane(held), Some(seal)) => {
            let statement = match held.slice {
                None => &sql.seal_lane,
                Some(_) => &sql.seal_slice,
            };
            let statement = sqlx::query_as::<_, Answer>(statement.clone())
                .bind(xid)
                .bind(held.number)
                .bind(held.token)
                .bind(held.revision)
                .bind(seal.position.offset)
                .bind(seal.position.leader_epoch);
            match held.slice {
                None => statement.bind(seal.offset_scopes).bind(guards),
                // Offset mode and slices are never combined.
                Some(Slice { index, of }) => {
                    statement.bind(guards).bind(i32::from(of)).bind(i32::from(index))
                }
            }
        }
        _ => sqlx::query_as(sql.seal_direct.clone()).bind(xid).bind(guards),
    };
    match tx.session.optional(statement).await.map_err(not_sealed)? {
        Some((true, false, _)) => Ok(Sealed::No),
        Some((true, true, closed)) if usize::try_from(closed) == Ok(expected) => {
            tx.sealed = true;
            Ok(Sealed::Yes)
        }
        // Another transaction, or the guard is gone: it was ended and begun again.
        _ => Err(broke(None)),
    }
}

fn not_sealed(error: sqlx::Error) -> Error {
    // Behind a pooler, and only there, what is outside of a transaction is prepared in one session
    // and run in another.
    const NO_SUCH_STATEMENT: &str = "26000";
    let code = error.as_database_error().and_then(|it| it.code());
    match code.as_deref() {
        Some(NO_SUCH_STATEMENT) => broke(None).with_source(error),
        _ => failed("seal", error),
    }
}
