//! The limits: PostgreSQL with the statements of the others and no Kafka, and Kafka without
//! PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::{Connection as _, PgConnection};

use super::{Result, connect, hand_batch, reader, until_finished};
use crate::data::{self, Order, PARTITIONS};
use crate::gauge::Gauge;
use crate::task::Task;

/// As many events in a transaction as idem takes by default.
const BATCH: usize = 500;

/// The statements of the batch by hand.
pub(crate) async fn set_based(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    without_kafka(task, gauge, hand_batch::BATCH, true).await
}

/// Keys claimed in batches, and a statement for the effect of each event.
pub(crate) async fn statement_each(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    without_kafka(task, gauge, BATCH, false).await
}

async fn without_kafka(task: Task, gauge: Arc<Gauge>, size: usize, set_based: bool) -> Result<()> {
    let mut orders: Vec<Vec<Order>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
    for (partition, order) in data::orders(task.messages) {
        orders[usize::try_from(partition)?].push(order);
    }
    let mut tasks = Vec::new();
    for orders in orders {
        tasks.push(work(connect(&task).await?, orders, Arc::clone(&gauge), size, set_based));
    }
    until_finished(&gauge, tasks).await
}

async fn work(
    mut db: PgConnection,
    orders: Vec<Order>,
    gauge: Arc<Gauge>,
    size: usize,
    set_based: bool,
) -> Result<()> {
    for batch in orders.chunks(size) {
        if set_based {
            hand_batch::write(&mut db, batch.iter().cloned()).await?;
        } else {
            one_by_one(&mut db, batch.to_vec()).await?;
        }
        gauge.handled(batch.len());
    }
    Ok(())
}

async fn one_by_one(db: &mut PgConnection, mut orders: Vec<Order>) -> Result<()> {
    let mut tx = db.begin().await?;
    hand_batch::claim(&mut tx, &mut orders).await?;
    for order in orders {
        sqlx::query("insert into invoices (order_id, event_id, cents) values ($1, $2, $3)")
            .bind(order.order_id)
            .bind(order.event_id)
            .bind(order.cents)
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx.commit().await?)
}

/// Reads, and does nothing.
pub(crate) async fn consume(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    let consumer: BaseConsumer = reader::settings(&task).create()?;
    consumer.subscribe(&[&task.topic])?;
    tokio::task::spawn_blocking(move || {
        while !gauge.is_done() {
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                message?;
                gauge.handled(1);
            }
        }
        Ok(())
    })
    .await?
}
