//! Check, do, mark: look whether the event is known, write the effect, write the mark. Three
//! statements, each a transaction of its own. It is the commonest way, and it is not correct: a crash
//! between the second and the third repeats the effect. It is here for its price.

use std::sync::Arc;

use rdkafka::Message as _;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use sqlx::PgConnection;

use super::reader::{self, Partition};
use super::{Result, connect, until_finished};
use crate::data::Order;
use crate::gauge::Gauge;
use crate::task::Task;

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
        check_do_mark(&mut db, &reader::decode(&message)?).await?;
        consumer.store_offset(message.topic(), message.partition(), message.offset())?;
        gauge.handled(1);
    }
}

/// A task and a connection for each partition.
pub(crate) async fn by_partition(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    let mut tasks = Vec::new();
    let (reader, partitions) = reader::read(&task, &gauge, 500)?;
    for partition in partitions {
        tasks.push(work(partition, connect(&task).await?, Arc::clone(&gauge)));
    }
    until_finished(&gauge, tasks).await?;
    reader.ended().await
}

async fn work(mut partition: Partition, mut db: PgConnection, gauge: Arc<Gauge>) -> Result<()> {
    while let Some(chunk) = partition.chunks.recv().await {
        for (offset, order) in chunk {
            check_do_mark(&mut db, &order).await?;
            partition.offsets.store(partition.number, offset)?;
            gauge.handled(1);
        }
    }
    Ok(())
}

async fn check_do_mark(db: &mut PgConnection, order: &Order) -> Result<()> {
    let known: bool =
        sqlx::query_scalar("select exists (select from processed_events where event_id = $1)")
            .bind(order.event_id)
            .fetch_one(&mut *db)
            .await?;
    if known {
        return Ok(());
    }
    sqlx::query("insert into invoices (order_id, event_id, cents) values ($1, $2, $3)")
        .bind(order.order_id)
        .bind(order.event_id)
        .bind(order.cents)
        .execute(&mut *db)
        .await?;
    sqlx::query("insert into processed_events (event_id) values ($1)")
        .bind(order.event_id)
        .execute(&mut *db)
        .await?;
    Ok(())
}
