//! Batches by hand, the best that a good engineer would write with rdkafka and sqlx: a task and a
//! connection for each partition; what waits there is one transaction with two statements, whatever
//! the number of events; keys are sorted, so that two batches cannot deadlock; the offset is stored
//! after the commit.
//!
//! What it does not have is a long list: a handler that others can write, failures of single events,
//! rebalances, late owners, a database that lost its last seconds.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::reader::{self, Partition};
use super::{Result, connect, until_finished};
use crate::data::Order;
use crate::gauge::Gauge;
use crate::task::Task;

/// The most events in a transaction. More gains nothing (see LEDGER.md).
pub(crate) const BATCH: usize = 1_000;

pub(crate) async fn by_partition(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    let mut tasks = Vec::new();
    let (reader, partitions) = reader::read(&task, &gauge, BATCH)?;
    for partition in partitions {
        tasks.push(work(partition, connect(&task).await?, Arc::clone(&gauge)));
    }
    until_finished(&gauge, tasks).await?;
    reader.ended().await
}

async fn work(mut partition: Partition, mut db: PgConnection, gauge: Arc<Gauge>) -> Result<()> {
    while let Some(chunk) = partition.chunks.recv().await {
        let Some((last, _)) = chunk.last() else { continue };
        let last = *last;
        let events = chunk.len();
        write(&mut db, chunk.into_iter().map(|(_, order)| order)).await?;
        partition.offsets.store(partition.number, last)?;
        gauge.handled(events);
    }
    Ok(())
}

/// Claims the events and writes the effects of the new ones, in one transaction.
pub(crate) async fn write(
    db: &mut PgConnection,
    orders: impl Iterator<Item = Order>,
) -> Result<()> {
    let mut orders: Vec<Order> = orders.collect();
    let mut tx = db.begin().await?;
    claim(&mut tx, &mut orders).await?;
    insert(&mut tx, orders).await?;
    Ok(tx.commit().await?)
}

/// Writes the effects of orders.
pub(crate) async fn insert(tx: &mut PgConnection, orders: Vec<Order>) -> Result<()> {
    let (mut order_ids, mut event_ids, mut cents) = (Vec::new(), Vec::new(), Vec::new());
    for order in orders {
        order_ids.push(order.order_id);
        event_ids.push(order.event_id);
        cents.push(order.cents);
    }
    sqlx::query(
        "insert into invoices (order_id, event_id, cents)
         select * from unnest($1::bigint[], $2::uuid[], $3::bigint[])",
    )
    .bind(order_ids)
    .bind(event_ids)
    .bind(cents)
    .execute(tx)
    .await?;
    Ok(())
}

/// Inserts the keys and keeps the orders that are new.
pub(crate) async fn claim(tx: &mut PgConnection, orders: &mut Vec<Order>) -> Result<()> {
    orders.sort_by_key(|order| order.event_id);
    orders.dedup_by_key(|order| order.event_id);
    let keys: Vec<Uuid> = orders.iter().map(|order| order.event_id).collect();
    let new: Vec<Uuid> = sqlx::query_scalar(
        "insert into processed_events (event_id) select * from unnest($1::uuid[])
         on conflict do nothing returning event_id",
    )
    .bind(keys)
    .fetch_all(tx)
    .await?;
    if new.len() < orders.len() {
        let new: HashSet<Uuid> = new.into_iter().collect();
        orders.retain(|order| new.contains(&order.event_id));
    }
    Ok(())
}
