//! Exactly-once billing with nothing installed.
//!
//! **Shows:** an annotated handler, a producer that repeats itself, and a second start over the
//! whole topic: every order is billed once. The broker is librdkafka's mock cluster in this process,
//! the database a SQLite file.
//!
//! **Does not show:** a real broker, a database on another machine, or what happens when either is
//! killed. See `orders.rs` for a real setup, and `tests/e2e` for what was killed to prove it.
//!
//! ```sh
//! cargo run --example quickstart
//! ```

#![expect(clippy::print_stdout, reason = "it talks to the person who runs it")]

use std::time::{Duration, Instant};

use idem::sqlite::Sqlite;
use idem::{Builder, Kafka, Start, idempotent};
use idem_examples::mock::MockBroker;
use idem_examples::orders::{OrderPlaced, produce_orders};
use idem_examples::table::{print_table, progress};
use sqlx::SqliteConnection;

const ORDERS: i64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes the invoice of an order. Whatever is written through `tx` happens once for each
/// `event_id`.
#[idempotent(key = "event_id", store = "sqlite", topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("insert into invoices (event_id, order_id, cents) values (?, ?, ?)")
        .bind(event.event_id.to_string())
        .bind(event.order_id)
        .bind(event.cents)
        .execute(tx)
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), idem::BoxError> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "error".into()),
        )
        .init();
    let started = Instant::now();
    let dir = tempfile::tempdir()?;
    let store = Sqlite::open(dir.path().join("billing.db")).await?;
    store.migrate().await?;
    let db = sqlx::SqlitePool::connect_with(
        sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("billing.db")),
    )
    .await?;
    sqlx::query("create table invoices (event_id text, order_id integer, cents integer)")
        .execute(&db)
        .await?;

    let broker = MockBroker::start("orders", 4)?;
    let bootstrap = broker.bootstrap();
    let messages = produce_orders(&bootstrap, "orders", ORDERS)?;
    println!("produced {ORDERS} orders as {messages} messages: each tenth order twice");

    // The first run reads the topic; the second, a group of another name that takes the scope over,
    // reads the whole topic once more, as after a reset of the offsets.
    let mut runs = Vec::new();
    for (run, group) in [("first run", "billing"), ("whole topic again", "billing-again")] {
        let mut builder = Builder::new()
            .kafka(Kafka::new(&bootstrap).set("fetch.wait.max.ms", "10"))
            .group(group)
            .store(store.clone())
            .handler::<bill>()
            .start(Start::Earliest);
        if group == "billing-again" {
            builder = builder.adopt_scope("bill");
        }
        let app = builder.build()?;
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        progress(&handle, run, messages, PATIENCE).await;
        handle.shutdown();
        runs.push((run, running.await??));
    }

    let invoices: (i64, i64) =
        sqlx::query_as("select count(*), count(distinct event_id) from invoices")
            .fetch_one(&db)
            .await?;
    let agree = print_table(&runs, ORDERS, invoices);
    println!("finished after {:.1} s", started.elapsed().as_secs_f64());
    if agree { Ok(()) } else { Err("the numbers do not agree".into()) }
}
