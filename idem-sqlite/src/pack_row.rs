//! How rows of packed markers are read.

use idem_runtime::lane::Slice;
use idem_runtime::packed::PackRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::time::from_millis;

/// Rows as [`Selected`] reads them.
macro_rules! select_packs {
    ($before:literal, $from:literal) => {
        select_packs!($before, "pack.data", $from)
    };
    ($before:literal, $data:literal, $from:literal) => {
        concat!(
            "select ",
            $before,
            "pack.pack_id, pack.lane_id, pack.slices, pack.slice, pack.partitions, pack.log,
                pack.first_offset, pack.last_offset, pack.digests, pack.first_at, pack.last_at,
                pack.run_id, ",
            $data,
            " from {schema}packs pack ",
            $from
        )
    };
}
pub(crate) use select_packs;

/// A row as [`select_packs`] selects it.
pub(crate) struct Selected(pub(crate) PackRow);

impl<'r> FromRow<'r, SqliteRow> for Selected {
    fn from_row(row: &'r SqliteRow) -> sqlx::Result<Self> {
        let slices: Option<u16> = row.try_get("slices")?;
        let slice: Option<u16> = row.try_get("slice")?;
        Ok(Self(PackRow {
            id: row.try_get("pack_id")?,
            lane: row.try_get("lane_id")?,
            slice: match (slice, slices) {
                (Some(index), Some(of @ 1..)) => Some(Slice { index, of }),
                _ => None,
            },
            every_slice: slices.is_none(),
            partitions: row.try_get("partitions")?,
            log: row.try_get("log")?,
            first_offset: row.try_get("first_offset")?,
            last_offset: row.try_get("last_offset")?,
            count: row.try_get("digests")?,
            first_at: from_millis(row.try_get("first_at")?),
            last_at: from_millis(row.try_get("last_at")?),
            run: row.try_get("run_id")?,
            data: row.try_get("data")?,
        }))
    }
}

/// Slices and slice as columns: a lane without slices has none of none.
pub(crate) fn columns(slice: Option<Slice>) -> (u16, u16) {
    slice.map_or((0, 0), |it| (it.of, it.index))
}
