//! A look at one marker.

use std::time::{Duration, SystemTime};

use idem_runtime::{Error, ErrorKind, Key, Marker, Origin, Result};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use crate::Inner;
use crate::error::failed;

/// The time in microseconds of the Unix era: exact, and of no crate in particular.
pub(crate) const FIND: &str = r#"
select (extract(epoch from processed_at) * 1000000)::bigint as processed_at_us,
       state, group_name, topic, partition, "offset", metadata, attempt
from {schema}.processed_events
where scope = $1 and event_key = $2
"#;

struct Found {
    state: String,
    marker: Marker,
}

impl<'r> FromRow<'r, PgRow> for Found {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let mut marker = Marker::new(time(row.try_get("processed_at_us")?));
        let group: Option<String> = row.try_get("group_name")?;
        let offset: Option<i64> = row.try_get("offset")?;
        if let (Some(group), Some(offset)) = (group, offset) {
            let (topic, partition) = (row.try_get("topic")?, row.try_get("partition")?);
            marker.origin = Some(Origin { group, topic, partition, offset });
        }
        marker.metadata = row.try_get::<Option<Value>, _>("metadata")?;
        marker.attempt = row.try_get("attempt")?;
        Ok(Self { state: row.try_get("state")?, marker })
    }
}

pub(crate) async fn find(store: &Inner, scope: &str, key: &Key) -> Result<Option<Marker>> {
    const DOING: &str = "reading a marker";
    let mut session = store.pools.read().await?;
    let find = sqlx::query_as(store.sql.marker.clone()).bind(scope).bind(key.as_str());
    let found: Option<Found> =
        session.optional(find).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    match found {
        Some(Found { state, marker }) if state == "processed" => Ok(Some(marker)),
        Some(Found { state, .. }) => Err(Error::new(
            ErrorKind::Store,
            format!("the marker is `{state}`, which this release of idem does not know"),
        )),
        None => Ok(None),
    }
}

fn time(microseconds: i64) -> SystemTime {
    let distance = Duration::from_micros(microseconds.unsigned_abs());
    let time = match microseconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_are_exact() {
        let era = SystemTime::UNIX_EPOCH;
        assert_eq!(time(1_500_000).duration_since(era).unwrap().as_micros(), 1_500_000);
        assert_eq!(era.duration_since(time(-1)).unwrap().as_micros(), 1);
    }
}
