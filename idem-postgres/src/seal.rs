//! The seal: the last statement of a transaction.
//!
//! It moves the lane (compare and set), and takes the guard's row away, which lets the transaction
//! commit. The row's lock is held from here to the commit only.

use idem_runtime::store::{Seal, Sealed, Writer};
use idem_runtime::{Error, ErrorKind, Result};

use crate::Inner;
use crate::error::{broke, failed};
use crate::tx::{Batch, Tx, unbalanced};

/// Whether this is the claim's transaction, whether the lane was moved, whether the guard's row was
/// taken away. The trigger that refuses what is not sealed reads the setting `idem.sealed`, which
/// ends with the transaction.
///
/// What offset mode remembers never goes down: after an operator's rewind the events come again and
/// are duplicates.
pub(crate) const LANE: &str = "
with same as materialized (
    select coalesce(pg_current_xact_id_if_assigned()::text = $1, false) as same
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
    where ctid = $8::text::tid and batch::text = $1 and exists (select from sealed)
    returning set_config('idem.sealed', $1, true)
)
select (select same from same), exists (select from sealed), exists (select from closed)
";

/// As [`LANE`], for a call without one.
pub(crate) const DIRECT: &str = "
with same as materialized (
    select coalesce(pg_current_xact_id_if_assigned()::text = $1, false) as same
), closed as (
    delete from {schema}.open_batches
    where ctid = $2::text::tid and batch::text = $1 and (select same from same)
    returning set_config('idem.sealed', $1, true)
)
select (select same from same), true, exists (select from closed)
";

type Answer = (bool, bool, bool);

pub(crate) async fn seal(
    store: &Inner,
    tx: &mut Tx,
    writer: &Writer<'_>,
    seal: Option<&Seal<'_>>,
) -> Result<Sealed> {
    let Some(Batch { xid, guard }) = tx.batch.clone() else {
        return Err(Error::new(ErrorKind::Store, "seal: nothing was claimed"));
    };
    if !tx.session.is_level() {
        return Err(unbalanced());
    }
    let statement = match (writer, seal) {
        (Writer::Lane(held), Some(seal)) => {
            sqlx::query_as::<_, Answer>(store.sql.seal_lane.clone())
                .bind(xid)
                .bind(held.number)
                .bind(held.token)
                .bind(held.revision)
                .bind(seal.position.offset)
                .bind(seal.position.leader_epoch)
                .bind(seal.offset_scopes)
                .bind(guard)
        }
        _ => sqlx::query_as(store.sql.seal_direct.clone()).bind(xid).bind(guard),
    };
    match tx.session.optional(statement).await.map_err(|error| failed("seal", error))? {
        // Another transaction, or the guard is gone: it was ended and begun again.
        None | Some((false, ..) | (true, true, false)) => Err(broke(None)),
        Some((true, false, _)) => Ok(Sealed::No),
        Some((true, true, true)) => {
            tx.sealed = true;
            Ok(Sealed::Yes)
        }
    }
}
