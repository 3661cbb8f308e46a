//! idem, set up as its README says: nothing is tuned.

use std::sync::Arc;

use idem::postgres::Postgres;
use idem::{Builder, Kafka, RunHandle, Serves, Subscriber, idempotent};
use sqlx::PgConnection;

use super::{Result, database};
use crate::data::Order;
use crate::gauge::Gauge;
use crate::task::Task;

/// The scope of the handlers whose markers are rows.
pub(crate) const SCOPE: &str = "bench.bill";

/// A statement for each event.
#[idempotent(key = "event_id", store = "postgres", topic = "orders", scope = "bench.bill")]
async fn bill(order: Order, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    insert(&order, db).await
}

/// The same; the place of an event in Kafka is its key.
#[idempotent(key = offset, store = "postgres", topic = "orders", scope = "bench.bill_by_offset")]
async fn bill_by_offset(order: Order, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    insert(&order, db).await
}

async fn insert(order: &Order, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("insert into invoices (order_id, event_id, cents) values ($1, $2, $3)")
        .bind(order.order_id)
        .bind(order.event_id)
        .bind(order.cents)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn plain(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill>(task, gauge).await
}

pub(crate) async fn by_offset(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_by_offset>(task, gauge).await
}

async fn run<H: Subscriber>(task: Task, gauge: Arc<Gauge>) -> Result<()>
where
    Postgres: Serves<H>,
{
    let store = store(&task).await?;
    let app = Builder::new()
        .kafka(Kafka::new(&task.bootstrap))
        .group(&task.group)
        .store(store)
        .handler::<H>()
        .topic_name("orders", &task.topic)
        .build()?;
    let handle = app.handle();
    gauge.read_from(delivered(&handle));
    let running = tokio::spawn(app.run());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => {
            ended??;
            return Err("idem ended before all events were handled".into());
        }
        () = gauge.finished() => {}
    }
    handle.shutdown();
    running.await??;
    Ok(())
}

fn delivered(handle: &RunHandle) -> impl Fn() -> u64 + Send + Sync + use<> {
    let handle = handle.clone();
    move || handle.counts().delivered
}

/// The store of a task.
pub(crate) async fn store(task: &Task) -> Result<Postgres> {
    let store = Postgres::builder_with(database(task)?).schema(task.idem_schema());
    Ok(store.connect().await?)
}
