//! A look at one marker.

use idem_runtime::{Error, ErrorKind, Key, Marker, MarkerState, Origin, Result};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use crate::Inner;
use crate::error::failed;
use crate::times::from_micros;

pub(crate) const FIND: &str = r#"
select (extract(epoch from processed_at) * 1000000)::bigint as processed_at_us,
       state, group_name, topic, partition, "offset", metadata, attempt
from {schema}.processed_events
where scope = $1 and event_key = $2
"#;

/// The word of the state, and the marker, as far as this release knows the word.
struct Found(String, Option<Marker>);

impl<'r> FromRow<'r, PgRow> for Found {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let word: String = row.try_get("state")?;
        let state = match &*word {
            "processed" => MarkerState::Processed,
            "dead" => MarkerState::Dead,
            "parked" => MarkerState::Parked,
            _ => return Ok(Self(word, None)),
        };
        let mut marker = Marker::new(from_micros(row.try_get("processed_at_us")?));
        marker.state = state;
        let group: Option<String> = row.try_get("group_name")?;
        let offset: Option<i64> = row.try_get("offset")?;
        if let (Some(group), Some(offset)) = (group, offset) {
            let (topic, partition) = (row.try_get("topic")?, row.try_get("partition")?);
            marker.origin = Some(Origin { group, topic, partition, offset });
        }
        marker.metadata = row.try_get::<Option<Value>, _>("metadata")?;
        marker.attempt = row.try_get("attempt")?;
        Ok(Self(word, Some(marker)))
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
        Some(Found(_, Some(marker))) => Ok(Some(marker)),
        Some(Found(state, None)) => Err(Error::new(
            ErrorKind::Store,
            format!("the marker is `{state}`, which this release of idem does not know"),
        )),
        None => Ok(None),
    }
}
