//! One transaction an event: claim the key, write the effect, commit. Correct, and slow: the database
//! begins and commits for every event.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use rdkafka::Message as _;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection as _, PgConnection};

use super::reader::{self, Partition};
use super::{Result, connect, database, until_finished};
use crate::data::{Order, PARTITIONS};
use crate::gauge::Gauge;
use crate::task::Task;

/// How many events of a partition are under way at once: with more the connections get in each
/// other's way (see LEDGER.md).
const IN_FLIGHT: usize = 4;

/// One event after the other.
pub(crate) async fn one_at_a_time(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    let consumer: StreamConsumer = reader::settings(&task).create()?;
    consumer.subscribe(&[&task.topic])?;
    let mut db = connect(&task).await?;
    loop {
        let message = tokio::select! {
            message = consumer.recv() => message?,
            () = gauge.finished() => return Ok(()),
        };
        four_statements(&mut db, &reader::decode(&message)?).await?;
        consumer.store_offset(message.topic(), message.partition(), message.offset())?;
        gauge.handled(1);
    }
}

/// Several events of each partition at once.
pub(crate) async fn in_flight(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    many(task, gauge, false).await
}

/// The same with claim and effect in one statement, which is a transaction by itself: possible where
/// the effect is one statement.
pub(crate) async fn fused(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    many(task, gauge, true).await
}

async fn many(task: Task, gauge: Arc<Gauge>, fused: bool) -> Result<()> {
    let connections = u32::try_from(IN_FLIGHT)? * PARTITIONS.unsigned_abs();
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .connect_with(database(&task)?)
        .await?;
    let (reader, partitions) = reader::read(&task, &gauge, 500)?;
    let tasks = partitions.into_iter().map(|it| work(it, pool.clone(), Arc::clone(&gauge), fused));
    until_finished(&gauge, tasks).await?;
    reader.ended().await
}

async fn work(partition: Partition, pool: PgPool, gauge: Arc<Gauge>, fused: bool) -> Result<()> {
    let Partition { number, mut chunks, offsets } = partition;
    let chunks = stream::poll_fn(move |cx| chunks.poll_recv(cx));
    // `buffered` gives results in the order of the events: an offset is stored only when everything
    // before it is done.
    let mut done = chunks
        .flat_map(stream::iter)
        .map(|(offset, order)| {
            let pool = pool.clone();
            async move {
                let mut db = pool.acquire().await?;
                if fused {
                    one_statement(&mut db, &order).await?;
                } else {
                    four_statements(&mut db, &order).await?;
                }
                Ok::<_, idem::BoxError>(offset)
            }
        })
        .buffered(IN_FLIGHT);
    while let Some(offset) = done.next().await {
        offsets.store(number, offset?)?;
        gauge.handled(1);
    }
    Ok(())
}

async fn four_statements(db: &mut PgConnection, order: &Order) -> Result<()> {
    let mut tx = db.begin().await?;
    let claimed =
        sqlx::query("insert into processed_events (event_id) values ($1) on conflict do nothing")
            .bind(order.event_id)
            .execute(&mut *tx)
            .await?;
    if claimed.rows_affected() == 1 {
        sqlx::query("insert into invoices (order_id, event_id, cents) values ($1, $2, $3)")
            .bind(order.order_id)
            .bind(order.event_id)
            .bind(order.cents)
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx.commit().await?)
}

async fn one_statement(db: &mut PgConnection, order: &Order) -> Result<()> {
    sqlx::query(
        "with claimed as (
             insert into processed_events (event_id) values ($2) on conflict do nothing
             returning event_id
         )
         insert into invoices (order_id, event_id, cents) select $1, event_id, $3 from claimed",
    )
    .bind(order.order_id)
    .bind(order.event_id)
    .bind(order.cents)
    .execute(db)
    .await?;
    Ok(())
}
