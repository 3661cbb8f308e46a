//! A look at one marker.

use std::time::Duration;

use idem_runtime::{Error, ErrorKind, Key, Marker, MarkerState, Origin, Result};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::error::failed;
use crate::marker_id::{marker_id, marker_ids};
use crate::times::from_micros;
use crate::{Inner, Tx};

/// Markers as [`Found`] reads them.
macro_rules! select_markers {
    ($before:literal, $from:literal) => {
        concat!(
            "select ",
            $before,
            "(extract(epoch from known.processed_at) * 1000000)::bigint as processed_at_us,
                (extract(epoch from clock_timestamp() - known.processed_at) * 1000000)::bigint
                    as age_us,
                known.state, known.group_name, known.topic, known.partition, known.\"offset\",
                known.metadata, known.attempt, known.fingerprint, known.correlation_id,
                known.causation_id, known.result ",
            $from
        )
    };
}

pub(crate) const FIND: &str =
    select_markers!("", "from {schema}.processed_events known where marker_id = $1");

/// A limit is not flattened into the join: each key is looked up for itself.
pub(crate) const KNOWN: &str = select_markers!(
    "asked.place, ",
    "from unnest($1::uuid[]) with ordinality as asked (marker_id, place)
     cross join lateral (
         select * from {schema}.processed_events known
         where known.marker_id = asked.marker_id
         limit 1
     ) as known"
);

pub(crate) const TAKE_BACK: &str =
    "delete from {schema}.markers where marker_id = $1 and state = 3 and attempt = $2";

pub(crate) const KEEP_RESULTS: &str = "
update {schema}.markers marker
set result = kept.result
from unnest($1::uuid[], $2::jsonb[]) as kept (marker_id, result)
where marker.marker_id = kept.marker_id
";

/// The word of the state, and the marker, as far as this release knows the word.
struct Found(String, Option<Marker>);

impl<'r> FromRow<'r, PgRow> for Found {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let word: String = row.try_get("state")?;
        let state = match &*word {
            "processed" => MarkerState::Processed,
            "dead" => MarkerState::Dead,
            "parked" => MarkerState::Parked,
            "begun" => MarkerState::Begun,
            _ => return Ok(Self(word, None)),
        };
        let mut marker = Marker::new(from_micros(row.try_get("processed_at_us")?));
        marker.state = state;
        marker.age =
            Duration::from_micros(row.try_get::<i64, _>("age_us")?.try_into().unwrap_or(0));
        let group: Option<String> = row.try_get("group_name")?;
        let offset: Option<i64> = row.try_get("offset")?;
        if let (Some(group), Some(offset)) = (group, offset) {
            let (topic, partition) = (row.try_get("topic")?, row.try_get("partition")?);
            marker.origin = Some(Origin { group, topic, partition, offset });
        }
        marker.metadata = row.try_get::<Option<Value>, _>("metadata")?;
        marker.attempt = row.try_get("attempt")?;
        if let Some(fingerprint) = row.try_get::<Option<&[u8]>, _>("fingerprint")? {
            let fingerprint = fingerprint.try_into();
            marker.fingerprint = Some(fingerprint.map_err(|_| unknown("fingerprint"))?);
        }
        marker.correlation_id = row.try_get("correlation_id")?;
        marker.causation_id = row.try_get("causation_id")?;
        marker.result = row.try_get::<Option<Value>, _>("result")?;
        Ok(Self(word, Some(marker)))
    }
}

impl Found {
    fn marker(self) -> Result<Marker> {
        let Self(state, marker) = self;
        marker.ok_or_else(|| {
            let message =
                format!("the marker is `{state}`, which this release of idem does not know");
            Error::new(ErrorKind::Store, message)
        })
    }
}

pub(crate) async fn find(store: &Inner, scope: &str, key: &Key) -> Result<Option<Marker>> {
    const DOING: &str = "reading a marker";
    let mut session = store.pools.read().await?;
    let find = sqlx::query_as(store.sql.marker.clone()).bind(marker_id(scope, key.as_str()));
    let found: Option<Found> =
        session.optional(find).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    found.map(Found::marker).transpose()
}

/// Removes the marker of an attempt that was begun and has failed.
pub(crate) async fn take_back(store: &Inner, scope: &str, key: &Key, attempt: Uuid) -> Result<()> {
    const DOING: &str = "taking an attempt back";
    let mut session = store.pools.write().await?;
    let take_back =
        sqlx::query(store.sql.take_back.clone()).bind(marker_id(scope, key.as_str())).bind(attempt);
    session.execute(take_back).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await
}

/// For each key in order: its marker, as the transaction sees it.
pub(crate) async fn known(
    store: &Inner,
    tx: &mut Tx,
    keys: &[(&str, &Key)],
) -> Result<Vec<Option<Marker>>> {
    const DOING: &str = "reading known markers";
    let mut known = vec![None; keys.len()];
    if keys.is_empty() {
        return Ok(known);
    }
    let ids = marker_ids(keys.iter().map(|(scope, key)| (*scope, key.as_str())));
    let find = sqlx::query_as(store.sql_in(tx).known_markers.clone()).bind(ids);
    let found: Vec<Placed> = tx.session().all(find).await.map_err(|error| failed(DOING, error))?;
    for Placed(place, found) in found {
        let place = usize::try_from(place - 1).ok();
        if let Some(it) = place.and_then(|place| known.get_mut(place)) {
            *it = Some(found.marker()?);
        }
    }
    Ok(known)
}

/// Keeps what handlers returned.
pub(crate) async fn keep_results(
    store: &Inner,
    tx: &mut Tx,
    results: &[(&str, &Key, &Value)],
) -> Result<()> {
    const DOING: &str = "keeping results";
    if results.is_empty() {
        return Ok(());
    }
    let ids = marker_ids(results.iter().map(|(scope, key, _)| (*scope, key.as_str())));
    let results: Vec<_> = results.iter().map(|(_, _, result)| Json(*result)).collect();
    let keep = sqlx::query(store.sql_in(tx).keep_results.clone()).bind(ids).bind(results);
    tx.session().execute(keep).await.map_err(|error| failed(DOING, error))?;
    Ok(())
}

/// A marker, and the place (from 1) of its key.
struct Placed(i64, Found);

impl<'r> FromRow<'r, PgRow> for Placed {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self(row.try_get("place")?, Found::from_row(row)?))
    }
}

fn unknown(what: &str) -> sqlx::Error {
    let message = format!("a marker's {what} is not one that this release of idem knows");
    sqlx::Error::Decode(message.into())
}
