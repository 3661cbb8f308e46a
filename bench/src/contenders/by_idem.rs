//! idem, set up as its README says: nothing is tuned.

use std::sync::Arc;

use idem::postgres::Postgres;
use idem::{Builder, Kafka, RunHandle, Serves, Subscriber, idempotent};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Result, database};
use crate::data::{self, Order};
use crate::gauge::Gauge;
use crate::task::Task;

/// The scope of the handlers whose markers are rows.
pub(crate) const SCOPE: &str = "bench.bill";
/// The scope of the handler whose window is filled before.
pub(crate) const PACKED_SCOPE: &str = "bench.bill_packed";

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

/// The same as `bill`; the partitions are worked in slices.
#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    scope = "bench.bill_in_slices",
    order_by = "message_key",
    slices = 4
)]
async fn bill_in_slices(order: Order, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    insert(&order, db).await
}

/// One statement for all new events of a batch.
#[idempotent(key = "event_id", store = "postgres", topic = "orders", scope = "bench.bill_many")]
async fn bill_many(orders: Vec<Order>, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    insert_all(&orders, db).await
}

/// The same; the place of an event in Kafka is its key.
#[idempotent(key = offset, store = "postgres", topic = "orders", scope = "bench.many_by_offset")]
async fn bill_many_by_offset(orders: Vec<Order>, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    insert_all(&orders, db).await
}

/// The same as `bill`, with packed markers.
#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    scope = "bench.bill_packed",
    markers = "packed"
)]
async fn bill_packed(order: Order, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    insert(&order, db).await
}

/// The same as `bill_many`, with packed markers.
#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    scope = "bench.many_packed",
    markers = "packed"
)]
async fn bill_many_packed(orders: Vec<Order>, db: &mut PgConnection) -> Result<(), sqlx::Error> {
    insert_all(&orders, db).await
}

/// As `bill`; one order in a hundred is refused for good.
#[idempotent(key = "event_id", store = "postgres", topic = "orders", scope = "bench.bill_most")]
async fn bill_most(order: Order, db: &mut PgConnection) -> Result<(), idem::Failure> {
    if data::is_refused(order.order_id) {
        return Err(idem::permanent("this order cannot be billed").into());
    }
    Ok(insert(&order, db).await?)
}

/// As `bill_many`; one order in a hundred is refused for good, and the handler says which.
#[idempotent(key = "event_id", store = "postgres", topic = "orders", scope = "bench.many_but_some")]
async fn bill_many_but_some(
    orders: Vec<Order>,
    db: &mut PgConnection,
) -> Result<(), idem::Failure> {
    if let Some(at) = orders.iter().position(|order| data::is_refused(order.order_id)) {
        return Err(idem::Failure::permanent("this order cannot be billed").of_event(at));
    }
    Ok(insert_all(&orders, db).await?)
}

async fn insert_all(orders: &[Order], db: &mut PgConnection) -> Result<(), sqlx::Error> {
    let numbers: Vec<i64> = orders.iter().map(|order| order.order_id).collect();
    let ids: Vec<Uuid> = orders.iter().map(|order| order.event_id).collect();
    let cents: Vec<i64> = orders.iter().map(|order| order.cents).collect();
    sqlx::query(
        "insert into invoices (order_id, event_id, cents)
         select * from unnest($1::bigint[], $2::uuid[], $3::bigint[])",
    )
    .bind(numbers)
    .bind(ids)
    .bind(cents)
    .execute(db)
    .await?;
    Ok(())
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

pub(crate) async fn in_slices(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_in_slices>(task, gauge).await
}

pub(crate) async fn many(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_many>(task, gauge).await
}

pub(crate) async fn many_by_offset(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_many_by_offset>(task, gauge).await
}

pub(crate) async fn plain_packed(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_packed>(task, gauge).await
}

pub(crate) async fn many_packed(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_many_packed>(task, gauge).await
}

/// As `plain_packed`, with so many bytes of memory for windows.
pub(crate) async fn in_window(task: Task, gauge: Arc<Gauge>, memory: usize) -> Result<()> {
    run_with::<bill_packed>(task, gauge, Some(memory)).await
}

pub(crate) async fn plain_with_dead(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_most>(task, gauge).await
}

pub(crate) async fn many_with_dead(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    run::<bill_many_but_some>(task, gauge).await
}

async fn run<H: Subscriber>(task: Task, gauge: Arc<Gauge>) -> Result<()>
where
    Postgres: Serves<H>,
{
    run_with::<H>(task, gauge, None).await
}

async fn run_with<H: Subscriber>(task: Task, gauge: Arc<Gauge>, memory: Option<usize>) -> Result<()>
where
    Postgres: Serves<H>,
{
    let store = store(&task).await?;
    let app = begin(&task, memory)
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

fn begin(task: &Task, memory: Option<usize>) -> Builder {
    let builder = Builder::new().kafka(Kafka::new(&task.bootstrap));
    match memory {
        Some(bytes) => builder.packed_memory(bytes),
        None => builder,
    }
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
