//! The seal: the last statement of a transaction.
//!
//! It moves the lane, or one slice of it (compare and set), and lets the transaction commit.

use idem_runtime::Result;
use idem_runtime::lane::Held;
use idem_runtime::store::{Seal, Sealed, Writer};

use crate::Inner;
use crate::error::{failed, unwritable};
use crate::statements::now;
use crate::tx::Tx;

const DOING: &str = "seal";

pub(crate) const LANE: &str = concat!(
    "update {schema}lanes
     set position = ?4, leader_epoch = ?5, revision = revision + 1, updated_at = ",
    now!(),
    " where lane_id = ?1 and token = ?2 and revision = ?3"
);

/// What offset mode remembers never goes down: after an operator's rewind the events come again and
/// are duplicates.
pub(crate) const MARK_OFFSETS: &str = "
insert into {schema}offset_marks (lane_id, scope, next_offset)
select ?1, value, ?2 from json_each(?3)
where true
on conflict (lane_id, scope) do update set next_offset = max(next_offset, excluded.next_offset)
";

pub(crate) async fn seal(
    store: &Inner,
    tx: &mut Tx,
    writer: &Writer<'_>,
    seal: Option<&Seal<'_>>,
) -> Result<Sealed> {
    // Before the lane is touched: what follows a handler's ROLLBACK would not be in a transaction.
    tx.settle().await.map_err(|error| failed(DOING, error))?;
    tx.check_whole()?;
    if let (Writer::Lane(held), Some(seal)) = (writer, seal)
        && !moved(store, tx, held, seal).await?
    {
        return Ok(Sealed::No);
    }
    tx.allow_commit();
    Ok(Sealed::Yes)
}

/// Moves the lane, or the slice of it that is held; answers whether it was still the writer's.
async fn moved(store: &Inner, tx: &mut Tx, held: &Held, seal: &Seal<'_>) -> Result<bool> {
    let failed = |error| failed(DOING, error);
    let update = match held.slice {
        None => sqlx::query(store.sql.seal_lane.clone())
            .bind(held.number)
            .bind(held.token.to_string())
            .bind(held.revision)
            .bind(seal.position.offset)
            .bind(seal.position.leader_epoch),
        Some(slice) => sqlx::query(store.sql.seal_slice.clone())
            .bind(held.number)
            .bind(held.token.to_string())
            .bind(slice.of)
            .bind(slice.index)
            .bind(held.revision)
            .bind(seal.position.offset)
            .bind(seal.position.leader_epoch),
    };
    let moved = update.execute(tx.connection()).await.map_err(failed)?.rows_affected() == 1;
    // A lane is never worked in slices and in offset mode.
    if moved && held.slice.is_none() && !seal.offset_scopes.is_empty() {
        let scopes =
            serde_json::to_string(seal.offset_scopes).map_err(|error| unwritable(DOING, error))?;
        sqlx::query(store.sql.mark_offsets.clone())
            .bind(held.number)
            .bind(seal.position.offset)
            .bind(scopes)
            .execute(tx.connection())
            .await
            .map_err(failed)?;
    }
    Ok(moved)
}
