//! Exactly-once billing on your own Kafka and your own PostgreSQL.
//!
//! **Shows:** the same handler as `quickstart.rs` on real parts: it makes a topic's worth of orders
//! with duplicates, bills them, and stops and starts over the whole topic once more.
//!
//! **Does not show:** several instances, failures, or tuning.
//!
//! It writes a topic `idem-example-…`, the schema `idem` and the table `idem_example_invoices`.
//!
//! ```sh
//! KAFKA_BOOTSTRAP=localhost:9092 DATABASE_URL=postgres://me@localhost/test \
//!     cargo run --example orders
//! ```

#![expect(clippy::print_stdout, reason = "it talks to the person who runs it")]

use std::time::Duration;

use idem::postgres::Postgres;
use idem::{Builder, Kafka, Start, idempotent};
use idem_examples::orders::{OrderPlaced, produce_orders};
use idem_examples::table::{print_table, progress};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use sqlx::PgConnection;

const ORDERS: i64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes the invoice of an order.
#[idempotent(key = "event_id", store = "postgres", topic = "orders", scope = "example.bill")]
async fn bill(event: OrderPlaced, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into idem_example_invoices (event_id, order_id, cents) values ($1, $2, $3)",
    )
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
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .init();
    let bootstrap = required("KAFKA_BOOTSTRAP", "the broker, such as localhost:9092")?;
    let url = required("DATABASE_URL", "the database, such as postgres://me@localhost/test")?;

    let store = Postgres::connect(&url).await?;
    store.migrate().await?;
    let db = sqlx::PgPool::connect(&url).await?;
    sqlx::query(
        "create table if not exists idem_example_invoices (event_id text, order_id bigint, \
         cents bigint)",
    )
    .execute(&db)
    .await?;
    sqlx::query("truncate idem_example_invoices").execute(&db).await?;

    let topic = format!("idem-example-{}", uuid::Uuid::new_v4().simple());
    let admin: AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", &bootstrap).create()?;
    let new = NewTopic::new(&topic, 4, TopicReplication::Fixed(1));
    for created in admin.create_topics([&new], &AdminOptions::new()).await? {
        created.map_err(|(topic, code)| format!("topic {topic} cannot be created: {code}"))?;
    }
    let messages = produce_orders(&bootstrap, &topic, ORDERS)?;
    println!("produced {ORDERS} orders as {messages} messages to {topic}");

    let mut runs = Vec::new();
    for (run, group) in [("first run", &topic), ("whole topic again", &format!("{topic}-again"))] {
        let app = Builder::new()
            .kafka(Kafka::new(&bootstrap))
            .group(group)
            .store(store.clone())
            .handler::<bill>()
            .topic_name("orders", &topic)
            .start(Start::Earliest)
            .adopt_scope("example.bill")
            .build()?;
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        progress(&handle, run, messages, PATIENCE).await;
        handle.shutdown();
        runs.push((run, running.await??));
    }

    let invoices: (i64, i64) =
        sqlx::query_as("select count(*), count(distinct event_id) from idem_example_invoices")
            .fetch_one(&db)
            .await?;
    if print_table(&runs, ORDERS, invoices) { Ok(()) } else { Err("they do not agree".into()) }
}

fn required(name: &str, what: &str) -> Result<String, String> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
        format!("{name} is not set: set it to {what}; for a run with nothing installed, use `cargo run --example quickstart`")
    })
}
