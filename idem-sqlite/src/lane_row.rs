//! A lane's row with what belongs to it, in one statement.

use std::sync::Arc;

use idem_runtime::lane::{AttemptRow, LaneId, LaneRow, LogIdentity, Position, Slice};
use sqlx::sqlite::{SqliteExecutor, SqliteRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::error::undecodable;
use crate::{Inner, hex, time};

macro_rules! select_lanes {
    ($position:literal, $which:literal) => {
        concat!(
            "select lane.lane_id, group_name, topic, partition, ",
            $position,
            ", token, floor, handled_to, cluster_id, topic_id, deaths,
                (select json_group_object(mark.scope, mark.next_offset)
                 from {schema}offset_marks mark where mark.lane_id = lane.lane_id) as offset_marks,
                (select json_group_array(json_array(attempt.scope, attempt.source_offset,
                    attempt.failures, attempt.first_failed_at, attempt.is_open, attempt.deaths))
                 from {schema}attempts attempt where attempt.lane_id = lane.lane_id) as attempts,
                (select json_group_array(json_array(parked.scope, hex(parked.message_key)))
                 from {schema}parked_keys parked where parked.lane_id = lane.lane_id) as parked
             from {schema}lanes lane ",
            $which
        )
    };
}

pub(crate) const OF_TOPIC: &str = select_lanes!(
    "lane.position, lane.leader_epoch, lane.revision",
    "where group_name = ?1 and topic = ?2 order by partition"
);

pub(crate) const BY_NUMBER: &str =
    select_lanes!("lane.position, lane.leader_epoch, lane.revision", "where lane.lane_id = ?1");

/// As one of its slices sees it.
pub(crate) const BY_SLICE: &str = select_lanes!(
    "slice.position, slice.leader_epoch, slice.revision",
    "join {schema}lane_slices slice on slice.lane_id = lane.lane_id
     where lane.lane_id = ?1 and slices = ?2 and slice = ?3"
);

/// A row as the statements above select it.
pub(crate) struct Selected(pub(crate) LaneRow);

impl<'r> FromRow<'r, SqliteRow> for Selected {
    fn from_row(row: &'r SqliteRow) -> sqlx::Result<Self> {
        let id = LaneId {
            group: Arc::from(row.try_get::<&str, _>("group_name")?),
            topic: Arc::from(row.try_get::<&str, _>("topic")?),
            partition: row.try_get("partition")?,
        };
        let position = Position {
            offset: row.try_get("position")?,
            leader_epoch: row.try_get("leader_epoch")?,
        };
        let identity = LogIdentity {
            cluster_id: row.try_get("cluster_id")?,
            topic_id: row.try_get("topic_id")?,
        };
        let mut lane = LaneRow::new(id, row.try_get("lane_id")?, position, identity);
        lane.token = uuid(row.try_get("token")?)?;
        lane.revision = row.try_get("revision")?;
        lane.floor = row.try_get("floor")?;
        lane.handled_to = row.try_get("handled_to")?;
        lane.deaths = row.try_get("deaths")?;
        lane.offset_marks =
            serde_json::from_str(row.try_get("offset_marks")?).map_err(undecodable)?;
        let attempts: Vec<Attempt> =
            serde_json::from_str(row.try_get("attempts")?).map_err(undecodable)?;
        lane.attempts = attempts.into_iter().map(attempt).collect();
        let parked: Vec<(String, String)> =
            serde_json::from_str(row.try_get("parked")?).map_err(undecodable)?;
        lane.parked = parked
            .into_iter()
            .map(|(scope, key)| Ok((scope, hex::decode(&key)?)))
            .collect::<sqlx::Result<_>>()?;
        Ok(Self(lane))
    }
}

/// Scope, offset, failures, first failure, whether one is open, deaths.
type Attempt = (String, i64, u32, i64, u8, u32);

fn attempt((scope, offset, failures, first_failed_at, open, deaths): Attempt) -> AttemptRow {
    let first_failed_at = time::from_millis(first_failed_at);
    AttemptRow { scope, offset, failures, first_failed_at, open: open != 0, deaths }
}

pub(crate) fn uuid(text: &str) -> sqlx::Result<Uuid> {
    Uuid::try_parse(text).map_err(undecodable)
}

/// The row of a lane with this number.
pub(crate) async fn by_number(
    store: &Inner,
    on: impl SqliteExecutor<'_>,
    number: i64,
) -> sqlx::Result<Option<LaneRow>> {
    let row = sqlx::query_as(store.sql.lane_by_number.clone()).bind(number);
    let row: Option<Selected> = row.fetch_optional(on).await?;
    Ok(row.map(|row| row.0))
}

/// The row of a lane with this number, with the position and the revision of one of its slices.
pub(crate) async fn by_slice(
    store: &Inner,
    on: impl SqliteExecutor<'_>,
    number: i64,
    slice: Slice,
) -> sqlx::Result<Option<LaneRow>> {
    let row = sqlx::query_as(store.sql.lane_by_slice.clone())
        .bind(number)
        .bind(slice.of)
        .bind(slice.index);
    let row: Option<Selected> = row.fetch_optional(on).await?;
    Ok(row.map(|row| row.0))
}
