//! Joining small rows of a window to larger ones.

use super::{Tending, changed, damaged};
use crate::error::Result;
use crate::packed::{Damaged, Pack, PackRow, Repack};
use crate::pipeline::policy::Portions;
use crate::pipeline::stats::Stats;
use crate::pipeline::windows::{Open, lock};
use crate::store::Store;

impl<S: Store> Tending<S> {
    /// Joins small rows, oldest first.
    pub(super) async fn join(&self, open: &Open) -> Result<()> {
        let Portions { small, many, joined, .. } = self.portions;
        loop {
            let mut rows: Vec<PackRow> = lock(&open.rows)
                .iter()
                .filter(|row| row.run.is_none() && row.count < small)
                .filter(|row| !row.every_slice && row.slice == open.slice)
                .filter(|row| row.log == open.log && row.partitions == open.partitions)
                .cloned()
                .collect();
            if rows.len() < many {
                return Ok(());
            }
            rows.sort_by_key(|row| (row.first_at, row.id));
            let mut total = 0;
            rows.retain(|row| {
                let fits = total < joined;
                total += u64::from(row.count);
                fits
            });
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let rows = self.contents(open, &ids).await?;
            let joined = join(&rows).map_err(|it| damaged(&self.held.id, open.scope, &it))?;
            let Some(joined) = joined else { return Ok(()) };
            let row = Repack { row: &joined, scope: open.scope };
            if !self.group.store.repack(&self.held, &ids, &row).await? {
                return Err(changed(&self.held));
            }
            lock(&open.rows).retain(|row| !ids.contains(&row.id));
            Stats::add(&open.stats.packed_rows_joined, ids.len());
            tracing::debug!(
                lane = %self.held.id,
                scope = open.scope,
                rows = ids.len(),
                digests = joined.count,
                "small rows of packed markers were joined"
            );
            self.read_rows(open).await?;
        }
    }

    async fn contents(&self, open: &Open, ids: &[i64]) -> Result<Vec<PackRow>> {
        let rows = self.group.store.packs_of(&open.id(self.held.number), ids).await?;
        if rows.len() != ids.len() {
            return Err(changed(&self.held));
        }
        debug_assert!(rows.iter().all(|row| row.slice == open.slice || row.every_slice));
        Ok(rows)
    }
}

/// The row that takes the place of these, of one window.
fn join(rows: &[PackRow]) -> Result<Option<PackRow>, Damaged> {
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        parts.push((row.last_at, Pack::decode(row)?));
    }
    let pack = Pack::merge(parts);
    let (Some(first), Some((first_offset, last_offset))) = (rows.first(), pack.offsets()) else {
        return Ok(None);
    };
    Ok(Some(PackRow {
        first_offset,
        last_offset,
        count: u32::try_from(pack.entries.len()).unwrap_or(u32::MAX),
        first_at: rows.iter().map(|row| row.first_at).min().unwrap_or(first.first_at),
        last_at: rows.iter().map(|row| row.last_at).max().unwrap_or(first.last_at),
        data: pack.encode(),
        ..first.clone()
    }))
}
