//! How rows of packed markers are read.

use idem_runtime::lane::Slice;
use idem_runtime::packed::PackRow;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use crate::times::from_micros;

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
                pack.first_offset, pack.last_offset, pack.digests,
                (extract(epoch from pack.first_at) * 1000000)::bigint as first_us,
                (extract(epoch from pack.last_at) * 1000000)::bigint as last_us,
                pack.run_id, ",
            $data,
            " ",
            $from
        )
    };
}
pub(crate) use select_packs;

/// A row as [`select_packs`] selects it.
pub(crate) struct Selected(pub(crate) PackRow);

impl<'r> FromRow<'r, PgRow> for Selected {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let slices: Option<i32> = row.try_get("slices")?;
        let slice: Option<i32> = row.try_get("slice")?;
        Ok(Self(PackRow {
            id: row.try_get("pack_id")?,
            lane: row.try_get("lane_id")?,
            slice: match (slice, slices) {
                (Some(index), Some(of @ 1..)) => {
                    Some(Slice { index: small(index)?, of: small(of)? })
                }
                _ => None,
            },
            every_slice: slices.is_none(),
            partitions: row.try_get("partitions")?,
            log: row.try_get("log")?,
            first_offset: row.try_get("first_offset")?,
            last_offset: row.try_get("last_offset")?,
            count: small(row.try_get::<i64, _>("digests")?)?,
            first_at: from_micros(row.try_get("first_us")?),
            last_at: from_micros(row.try_get("last_us")?),
            run: row.try_get("run_id")?,
            data: row.try_get("data")?,
        }))
    }
}

/// A number that fits, unless somebody else has written it.
pub(crate) fn small<N, T: TryFrom<N>>(number: N) -> sqlx::Result<T>
where
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    T::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Slices and slice as columns: a lane without slices has none of none.
pub(crate) fn columns(slice: Option<Slice>) -> (i32, i32) {
    slice.map_or((0, 0), |it| (i32::from(it.of), i32::from(it.index)))
}
