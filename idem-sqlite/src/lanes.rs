//! The lanes' rows, outside of batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use idem_runtime::lane::{Held, LaneId, LaneRow, LogIdentity, Observed, Owner, Position};
use idem_runtime::store::{Opening, Reposition};
use idem_runtime::{Error, ErrorKind, Result};
use sqlx::sqlite::{SqliteExecutor, SqliteRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::Inner;
use crate::error::failed;
use crate::statements::now;
use crate::tx::Tx;

macro_rules! select_lanes {
    ($which:literal) => {
        concat!(
            "select lane_id, group_name, topic, partition, position, leader_epoch, token, revision,
                floor, cluster_id, topic_id,
                (select json_group_object(mark.scope, mark.next_offset)
                 from {schema}offset_marks mark where mark.lane_id = lane.lane_id) as offset_marks
             from {schema}lanes lane ",
            $which
        )
    };
}

pub(crate) const OF_TOPIC: &str =
    select_lanes!("where group_name = ?1 and topic = ?2 order by partition");
pub(crate) const BY_NUMBER: &str = select_lanes!("where lane_id = ?1");

pub(crate) const OPEN: &str = "
insert into {schema}lanes
    (group_name, topic, partition, position, leader_epoch, cluster_id, topic_id)
select ?1, ?2, value ->> 0, value ->> 1, value ->> 2, ?4, ?5
from json_each(?3)
where true
on conflict (group_name, topic, partition) do nothing
";

pub(crate) const TAKE: &str = concat!(
    "update {schema}lanes
     set token = ?4, owner_id = ?5, owner_name = ?6, released_at = null, taken_at = ",
    now!(),
    " where group_name = ?1 and topic = ?2 and partition = ?3
     returning lane_id"
);

pub(crate) const OBSERVE: &str = "
select lane_id, token, revision from {schema}lanes
where lane_id in (select value from json_each(?1))
";

pub(crate) const HEARTBEAT: &str = concat!(
    "insert into {schema}owners (owner_id, name) values (?1, ?2)
     on conflict (owner_id) do update set name = excluded.name, heartbeat_at = ",
    now!()
);

pub(crate) const REPOSITION: &str = concat!(
    "update {schema}lanes
     set position = ?4, leader_epoch = ?5, cluster_id = ?6, topic_id = ?7, revision = revision + 1,
         floor = case when ?8 then 0 else floor end, updated_at = ",
    now!(),
    " where lane_id = ?1 and token = ?2 and revision = ?3"
);

pub(crate) const FORGET_OFFSET_MARKS: &str = "delete from {schema}offset_marks where lane_id = ?1";

pub(crate) const FORGET_SLICES: &str = "delete from {schema}lane_slices where lane_id = ?1";

pub(crate) const RELEASE: &str = concat!(
    "update {schema}lanes set released_at = ",
    now!(),
    " where lane_id = ?1 and token = ?2"
);

/// A row as the statements above select it.
struct Selected(LaneRow);

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
        let marks: &str = row.try_get("offset_marks")?;
        let marks: HashMap<String, i64> =
            serde_json::from_str(marks).map_err(|error| sqlx::Error::Decode(error.into()))?;
        lane.offset_marks = marks;
        Ok(Self(lane))
    }
}

fn uuid(text: &str) -> sqlx::Result<Uuid> {
    Uuid::try_parse(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(crate) async fn of_topic(store: &Inner, group: &str, topic: &str) -> Result<Vec<LaneRow>> {
    let rows: Vec<Selected> = sqlx::query_as(store.sql.lanes_of_topic.clone())
        .bind(group)
        .bind(topic)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed("reading the lanes of a topic", error))?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(crate) async fn read(store: &Inner, held: &Held) -> Result<Option<LaneRow>> {
    by_number(store, &store.readers, held.number)
        .await
        .map_err(|error| failed("reading a lane", error))
}

async fn by_number(
    store: &Inner,
    on: impl SqliteExecutor<'_>,
    number: i64,
) -> sqlx::Result<Option<LaneRow>> {
    let row = sqlx::query_as(store.sql.lane_by_number.clone()).bind(number);
    let row: Option<Selected> = row.fetch_optional(on).await?;
    Ok(row.map(|row| row.0))
}

pub(crate) async fn open_topic(store: &Inner, opening: &Opening<'_>) -> Result<()> {
    const DOING: &str = "creating the lanes of a topic";
    let lanes: Vec<_> =
        opening.lanes.iter().map(|(it, place)| (it, place.offset, place.leader_epoch)).collect();
    let lanes = serde_json::to_string(&lanes).map_err(|error| {
        Error::new(ErrorKind::Store, "the lanes cannot be written").with_source(error)
    })?;
    let mut tx = Tx::begin(&store.writers).await?;
    let done = sqlx::query(store.sql.open_lanes.clone())
        .bind(opening.group)
        .bind(opening.topic)
        .bind(lanes)
        .bind(opening.identity.cluster_id.as_deref())
        .bind(opening.identity.topic_id.as_deref())
        .execute(tx.connection())
        .await;
    end(tx, done, DOING).await.map(drop)
}

/// Ends a transaction of idem's own with the answer of its statement.
async fn end<T>(tx: Tx, answer: sqlx::Result<T>, doing: &str) -> Result<T> {
    match answer {
        Ok(answer) => {
            tx.finish(doing).await?;
            Ok(answer)
        }
        Err(error) => {
            tx.rollback().await;
            Err(failed(doing, error))
        }
    }
}

pub(crate) async fn take(store: &Inner, lane: &LaneId, owner: &Owner) -> Result<Option<LaneRow>> {
    const DOING: &str = "taking a lane";
    let mut tx = Tx::begin(&store.writers).await?;
    let taken = async {
        let numbers: Vec<(i64,)> = sqlx::query_as(store.sql.take_lane.clone())
            .bind(&*lane.group)
            .bind(&*lane.topic)
            .bind(lane.partition)
            .bind(Uuid::new_v4().to_string())
            .bind(owner.id.to_string())
            .bind(&owner.name)
            .fetch_all(tx.connection())
            .await?;
        let Some((number,)) = numbers.first() else { return Ok(None) };
        beat(store, tx.connection(), owner).await?;
        by_number(store, tx.connection(), *number).await
    };
    let taken = taken.await;
    end(tx, taken, DOING).await
}

pub(crate) async fn observe(
    store: &Arc<Inner>,
    owner: &Owner,
    lanes: &[i64],
) -> Result<Vec<Observed>> {
    const DOING: &str = "comparing the lanes";
    heartbeat(store, owner);
    let lanes = serde_json::to_string(lanes).map_err(|error| {
        Error::new(ErrorKind::Store, "the numbers cannot be written").with_source(error)
    })?;
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(store.sql.observe_lanes.clone())
        .bind(lanes)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    rows.into_iter()
        .map(|(number, token, revision)| Ok(Observed { number, token: uuid(&token)?, revision }))
        .collect::<sqlx::Result<_>>()
        .map_err(|error| failed(DOING, error))
}

/// Writes the heartbeat when its turn comes: a look at the lanes does not wait for a handler.
fn heartbeat(store: &Arc<Inner>, owner: &Owner) {
    if store.heartbeat_waits.swap(true, Ordering::AcqRel) {
        return;
    }
    let (store, owner) = (Arc::clone(store), owner.clone());
    tokio::spawn(async move {
        let beaten = async {
            let mut tx = Tx::begin(&store.writers).await?;
            let done = beat(&store, tx.connection(), &owner).await;
            end(tx, done, "heartbeat").await
        };
        if let Err(error) = beaten.await {
            tracing::debug!(error = %error.report(), "the heartbeat was not written");
        }
        store.heartbeat_waits.store(false, Ordering::Release);
    });
}

async fn beat(store: &Inner, on: impl SqliteExecutor<'_>, owner: &Owner) -> sqlx::Result<()> {
    sqlx::query(store.sql.heartbeat.clone())
        .bind(owner.id.to_string())
        .bind(&owner.name)
        .execute(on)
        .await
        .map(drop)
}

pub(crate) async fn reposition(store: &Inner, held: &Held, to: &Reposition<'_>) -> Result<bool> {
    let mut tx = Tx::begin(&store.writers).await?;
    let moved = async {
        let moved = sqlx::query(store.sql.reposition_lane.clone())
            .bind(held.number)
            .bind(held.token.to_string())
            .bind(held.revision)
            .bind(to.position.offset)
            .bind(to.position.leader_epoch)
            .bind(to.identity.cluster_id.as_deref())
            .bind(to.identity.topic_id.as_deref())
            .bind(to.new_log)
            .execute(tx.connection())
            .await?;
        let moved = moved.rows_affected() == 1;
        if moved && to.new_log {
            for forget in [&store.sql.forget_offset_marks, &store.sql.forget_slices] {
                sqlx::query(forget.clone()).bind(held.number).execute(tx.connection()).await?;
            }
        }
        Ok(moved)
    };
    let moved = moved.await;
    end(tx, moved, "moving a lane").await
}

pub(crate) async fn release(store: &Inner, held: &Held) -> Result<()> {
    let mut tx = Tx::begin(&store.writers).await?;
    let done = sqlx::query(store.sql.release_lane.clone())
        .bind(held.number)
        .bind(held.token.to_string())
        .execute(tx.connection())
        .await;
    end(tx, done, "releasing a lane").await.map(drop)
}
