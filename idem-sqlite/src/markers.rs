//! A look at one marker.

use std::time::{Duration, SystemTime};

use idem_runtime::{Error, ErrorKind, Key, Marker, Origin, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::Inner;
use crate::error::failed;

pub(crate) const FIND: &str = "
select m.processed_at, m.state, l.group_name, l.topic, l.partition, m.source_offset, m.metadata,
       m.attempt
from {schema}markers m
left join {schema}lanes l on l.lane_id = m.lane_id
where m.scope = ?1 and m.event_key = ?2
";

struct Found {
    state: i64,
    marker: Marker,
}

impl<'r> FromRow<'r, SqliteRow> for Found {
    fn from_row(row: &'r SqliteRow) -> sqlx::Result<Self> {
        let mut marker = Marker::new(time(row.try_get("processed_at")?));
        let group: Option<String> = row.try_get("group_name")?;
        let offset: Option<i64> = row.try_get("source_offset")?;
        if let (Some(group), Some(offset)) = (group, offset) {
            let (topic, partition) = (row.try_get("topic")?, row.try_get("partition")?);
            marker.origin = Some(Origin { group, topic, partition, offset });
        }
        if let Some(metadata) = row.try_get::<Option<&str>, _>("metadata")? {
            let metadata = serde_json::from_str(metadata);
            marker.metadata = Some(metadata.map_err(|error| sqlx::Error::Decode(error.into()))?);
        }
        if let Some(attempt) = row.try_get::<Option<&str>, _>("attempt")? {
            let attempt = Uuid::try_parse(attempt);
            marker.attempt = Some(attempt.map_err(|error| sqlx::Error::Decode(error.into()))?);
        }
        Ok(Self { state: row.try_get("state")?, marker })
    }
}

pub(crate) async fn find(store: &Inner, scope: &str, key: &Key) -> Result<Option<Marker>> {
    let found: Option<Found> = sqlx::query_as(store.sql.marker.clone())
        .bind(scope)
        .bind(key.as_str())
        .fetch_optional(&store.readers)
        .await
        .map_err(|error| failed("reading a marker", error))?;
    match found {
        Some(Found { state: 0, marker }) => Ok(Some(marker)),
        Some(Found { state, .. }) => Err(Error::new(
            ErrorKind::Store,
            format!("the marker has the state {state}, which this release of idem does not know"),
        )),
        None => Ok(None),
    }
}

fn time(milliseconds: i64) -> SystemTime {
    let distance = Duration::from_millis(milliseconds.unsigned_abs());
    let time = match milliseconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
