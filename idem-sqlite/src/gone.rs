//! Packed markers of partitions that are gone, and which key they are made with.

use std::collections::BTreeSet;

use idem_runtime::Result;
use idem_runtime::lane::Held;

use crate::Inner;
use crate::error::failed;
use crate::packs::{delete, finish, there};
use crate::tx::Tx;

/// What is recorded stays.
pub(crate) const NOTE_DIGEST_KEY: &str = "
update {schema}lanes set digest_key_id = coalesce(digest_key_id, ?3)
where lane_id = ?1 and token = ?2
returning digest_key_id
";

/// Whether two lanes are of one group and topic.
pub(crate) const ARE_BESIDE: &str = "
select exists (
    select 1 from {schema}lanes own
    join {schema}lanes other on other.group_name = own.group_name and other.topic = own.topic
    where own.lane_id = ?1 and other.lane_id = ?2 and own.lane_id <> other.lane_id
)
";

/// What merges have left where no row is there any more: nobody has the lane who deletes it.
pub(crate) const FORGET_LEFT_OVER: &str = "
delete from {schema}runs
where lane_id = ?1 and scope = ?2 and not is_finished
  and not exists (select 1 from {schema}packs pack where pack.lane_id = ?1 and pack.scope = ?2)
";

pub(crate) async fn note_digest_key(
    store: &Inner,
    held: &Held,
    id: [u8; 8],
) -> Result<Option<[u8; 8]>> {
    const DOING: &str = "recording what digests are made with";
    let mut tx = Tx::begin(&store.writers).await?;
    let noted: sqlx::Result<Option<Vec<u8>>> =
        sqlx::query_scalar(store.sql.note_digest_key.clone())
            .bind(held.number)
            .bind(held.token.to_string())
            .bind(id.to_vec())
            .fetch_optional(tx.connection())
            .await;
    let noted = noted.map(|noted| noted.map(|id| read(&id)));
    finish(tx, noted.map_err(|error| failed(DOING, error)), DOING).await
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
    let mut tx = Tx::begin(&store.writers).await?;
    let done = async {
        let failed = |error| failed(DOING, error);
        let are_beside: bool = sqlx::query_scalar(store.sql.are_beside.clone())
            .bind(held.number)
            .bind(lane)
            .fetch_one(tx.connection())
            .await
            .map_err(failed)?;
        let found = there(store, &mut tx, held, (lane, scope), rows).await?;
        let Some(found) = found.filter(|_| are_beside) else { return Ok(false) };
        delete(store, &mut tx, rows).await?;
        let runs: BTreeSet<i64> = found.iter().filter_map(|(run, _)| *run).collect();
        for run in runs {
            let empty = sqlx::query(store.sql.forget_empty_run.clone()).bind(run);
            empty.execute(tx.connection()).await.map_err(failed)?;
        }
        let left = sqlx::query(store.sql.forget_left_over.clone()).bind(lane).bind(scope);
        left.execute(tx.connection()).await.map_err(failed)?;
        Ok(true)
    };
    let done = done.await;
    finish(tx, done, DOING).await
}
