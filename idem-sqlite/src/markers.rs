//! A look at one marker.

use std::time::Duration;

use idem_runtime::{Key, Marker, MarkerState, Origin, Result};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use uuid::Uuid;

use crate::error::{failed, undecodable};
use crate::lane_row::uuid;
use crate::statements::now;
use crate::{Inner, Tx, time};

pub(crate) const FIND: &str = concat!(
    "
select ",
    now!(),
    " - m.processed_at as age, m.processed_at, m.state, l.group_name, l.topic, l.partition, m.source_offset, m.metadata,
       m.attempt, m.fingerprint, m.correlation_id, m.causation_id, m.result
from {schema}markers m
left join {schema}lanes l on l.lane_id = m.lane_id
where m.scope = ?1 and m.event_key = ?2
"
);

pub(crate) const KEEP_RESULT: &str =
    "update {schema}markers set result = ?3 where scope = ?1 and event_key = ?2";

struct Found(Marker);

impl<'r> FromRow<'r, SqliteRow> for Found {
    fn from_row(row: &'r SqliteRow) -> sqlx::Result<Self> {
        let mut marker = Marker::new(time::from_millis(row.try_get("processed_at")?));
        marker.state = state(row.try_get("state")?)?;
        marker.age = Duration::from_millis(row.try_get::<i64, _>("age")?.try_into().unwrap_or(0));
        let group: Option<String> = row.try_get("group_name")?;
        let offset: Option<i64> = row.try_get("source_offset")?;
        if let (Some(group), Some(offset)) = (group, offset) {
            let (topic, partition) = (row.try_get("topic")?, row.try_get("partition")?);
            marker.origin = Some(Origin { group, topic, partition, offset });
        }
        if let Some(metadata) = row.try_get::<Option<&str>, _>("metadata")? {
            marker.metadata = Some(serde_json::from_str(metadata).map_err(undecodable)?);
        }
        if let Some(attempt) = row.try_get::<Option<&str>, _>("attempt")? {
            marker.attempt = Some(uuid(attempt)?);
        }
        if let Some(fingerprint) = row.try_get::<Option<&[u8]>, _>("fingerprint")? {
            marker.fingerprint = Some(fingerprint.try_into().map_err(undecodable)?);
        }
        marker.correlation_id = row.try_get("correlation_id")?;
        marker.causation_id = row.try_get("causation_id")?;
        if let Some(result) = row.try_get::<Option<&str>, _>("result")? {
            marker.result = Some(serde_json::from_str(result).map_err(undecodable)?);
        }
        Ok(Self(marker))
    }
}

/// What a marker's number says.
pub(crate) fn state(number: i16) -> sqlx::Result<MarkerState> {
    MarkerState::from_i16(number).ok_or_else(|| {
        let message = format!("a marker has the state {number}, which this release does not know");
        sqlx::Error::Decode(message.into())
    })
}

pub(crate) async fn find(store: &Inner, scope: &str, key: &Key) -> Result<Option<Marker>> {
    let found: Option<Found> = sqlx::query_as(store.sql.marker.clone())
        .bind(scope)
        .bind(key.as_str())
        .fetch_optional(&store.readers)
        .await
        .map_err(|error| failed("reading a marker", error))?;
    Ok(found.map(|found| found.0))
}

pub(crate) const TAKE_BACK: &str = "
delete from {schema}markers where scope = ?1 and event_key = ?2 and state = 3 and attempt = ?3
";

/// Removes the marker of an attempt that was begun and has failed.
pub(crate) async fn take_back(store: &Inner, scope: &str, key: &Key, attempt: Uuid) -> Result<()> {
    let mut tx = Tx::begin(&store.writers).await?;
    let taken = sqlx::query(store.sql.take_back.clone())
        .bind(scope)
        .bind(key.as_str())
        .bind(attempt.to_string());
    let taken = taken.execute(tx.connection()).await.map(drop);
    tx.end(taken, "taking an attempt back").await
}

/// For each key in order: its marker, as the transaction sees it.
pub(crate) async fn known(
    store: &Inner,
    tx: &mut Tx,
    keys: &[(&str, &Key)],
) -> Result<Vec<Option<Marker>>> {
    let mut known = Vec::with_capacity(keys.len());
    for (scope, key) in keys {
        let found: Option<Found> = sqlx::query_as(store.sql.marker.clone())
            .bind(*scope)
            .bind(key.as_str())
            .fetch_optional(tx.connection())
            .await
            .map_err(|error| failed("reading known markers", error))?;
        known.push(found.map(|found| found.0));
    }
    Ok(known)
}

/// Keeps what handlers returned.
pub(crate) async fn keep_results(
    store: &Inner,
    tx: &mut Tx,
    results: &[(&str, &Key, &Value)],
) -> Result<()> {
    for (scope, key, result) in results {
        sqlx::query(store.sql.keep_result.clone())
            .bind(*scope)
            .bind(key.as_str())
            .bind(result.to_string())
            .execute(tx.connection())
            .await
            .map_err(|error| failed("keeping results", error))?;
    }
    Ok(())
}
