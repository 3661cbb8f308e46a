//! A world for one test: schemas, topic and group of its own, on services it may share.

use std::path::Path;
use std::time::{Duration, Instant};

use idem::postgres::Postgres;
use idem::{DeadLetter, DeadLetters, LetterFilter, Replay};
use idem_test_services::{Endpoints, Scratch};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::handlers::{Act, Gate, Order, bill};
use crate::kafka::Kafka;
use crate::process::ConsumerProcess;
use crate::settings::{Said, Settings};

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A world for one test.
pub struct World {
    /// The broker.
    pub kafka: Kafka,
    /// The database, seen from outside idem; unqualified names are the effects.
    pub db: PgPool,
    /// How consumers of this world are set up.
    pub settings: Settings,
    /// The test's topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    scratch: Scratch,
    bin: &'static str,
}

impl World {
    /// A world on the shared services. `bin` is the consumer's program.
    ///
    /// # Panics
    /// When no services are up; the message says how to start them.
    pub async fn new(name: &str, partitions: i32, bin: &'static str) -> Self {
        let endpoints = Endpoints::discover().unwrap_or_else(|error| panic!("{error}"));
        Self::on(&endpoints, name, partitions, bin).await
    }

    /// A world on these services.
    ///
    /// # Panics
    /// When they do not answer.
    pub async fn on(endpoints: &Endpoints, name: &str, partitions: i32, bin: &'static str) -> Self {
        Self::with_topic(endpoints, name, partitions, &[], bin).await
    }

    /// As [`on`](Self::on), with settings of the topic.
    ///
    /// # Panics
    /// When they do not answer.
    pub async fn with_topic(
        endpoints: &Endpoints,
        name: &str,
        partitions: i32,
        topic: &[(&str, &str)],
        bin: &'static str,
    ) -> Self {
        // Shown when the test fails.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_default_env()
                    .unwrap_or_else(|_| "info".into()),
            )
            .with_test_writer()
            .with_ansi(false)
            .try_init();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let unique = format!("{name}_{}", &id[..8]);
        let scratch = Scratch::new(name).unwrap_or_else(|error| panic!("{error}"));
        let effects = format!("fx_{unique}");
        let options: sqlx::postgres::PgConnectOptions =
            endpoints.database_url.parse().expect("a URL");
        let db = PgPoolOptions::new()
            .max_connections(3)
            .connect_with(options.options([("search_path", &effects)]))
            .await
            .expect("the database answers");
        let tables = format!(
            "create schema {effects};
             create table {effects}.invoices (scope text not null, event_id text not null,
                 order_id bigint not null, cents bigint not null, customer text,
                 written_at timestamptz not null default clock_timestamp());
             create table {effects}.mended (event_id text primary key)"
        );
        db.execute(AssertSqlSafe(tables)).await.expect("the effects' tables are made");
        let kafka = Kafka { bootstrap: endpoints.kafka_bootstrap.clone() };
        kafka.create_topic(&unique, partitions, topic).await;
        let settings = Settings {
            bootstrap: endpoints.kafka_bootstrap.clone(),
            database_url: endpoints.database_url.clone(),
            schema: format!("idem_{unique}"),
            effects,
            group: unique.clone(),
            topic: unique.clone(),
            instance: None,
            properties: Vec::new(),
            handlers: vec!["bill".into()],
            gate: i64::from_str_radix(&id[..12], 16).expect("hexadecimal"),
            restart_on_changed_log: false,
            lost: None,
            start: None,
            adopt: Vec::new(),
            max_batch: 500,
            lock_timeout_ms: 30_000,
            queue_bytes: 32 << 20,
            markers: std::env::var("IDEM_TEST_MARKERS").unwrap_or_else(|_| "rows".into()),
            widen: false,
            packed_memory: None,
            policy: Said::default(),
            dead_letter_topic: None,
            keep_unmatched: false,
            broadcast: None,
            forget_after_ms: None,
            check_interval_ms: None,
        };
        let store = settings.store().await.expect("the store connects");
        store.migrate().await.expect("the store's tables are made");
        Self { kafka, db, settings, topic: unique, partitions, scratch, bin }
    }

    /// The test's folder.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts a consumer in a process of its own.
    pub fn start(&self, settings: &Settings) -> ConsumerProcess {
        ConsumerProcess::start(self.bin, self.dir(), settings)
    }

    /// Starts a consumer in a process of its own, and waits until it has a lane.
    ///
    /// # Panics
    /// When it gets none in time.
    pub async fn start_working(&self, settings: &Settings) -> ConsumerProcess {
        let consumer = self.start(settings);
        until("the consumer has a lane", async || consumer.log().contains("lane taken")).await;
        consumer
    }

    /// Orders with numbers from `first`, all different.
    pub fn orders(&self, first: i64, count: i64) -> Vec<Order> {
        (first..first + count).map(order).collect()
    }

    /// Writes the orders, each to the partition of its key.
    pub fn produce(&self, orders: &[Order]) {
        self.kafka.produce(&self.topic, orders.iter().map(|order| (None, order)));
    }

    /// How many invoices there are, and for how many different orders.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn invoices(&self) -> (i64, i64) {
        sqlx::query_as("select count(*), count(distinct (scope, event_id)) from invoices")
            .fetch_one(&self.db)
            .await
            .expect("the invoices can be counted")
    }

    /// Waits until there are invoices for this many different orders, and checks that none is
    /// double.
    ///
    /// # Panics
    /// When they do not come in time, or one is double.
    pub async fn until_invoiced(&self, orders: i64) {
        let mut last = (0, 0);
        until(&format!("{orders} invoices"), async || {
            last = self.try_invoices().await.unwrap_or(last);
            last.1 >= orders
        })
        .await;
        assert_eq!(last, (orders, orders), "(invoices, different orders)");
    }

    /// As [`invoices`](Self::invoices), while the database may be away.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn try_invoices(&self) -> sqlx::Result<(i64, i64)> {
        sqlx::query_as("select count(*), count(distinct (scope, event_id)) from invoices")
            .fetch_one(&self.db)
            .await
    }

    /// Waits until every lane of the group stands at the end of its log, as the database has it.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn until_drained(&self) {
        let ends = self.ends();
        until("every lane is at its log's end", async || self.positions().await == ends).await;
    }

    /// The sum of the lanes' positions.
    pub async fn positions(&self) -> i64 {
        let sql = format!(
            "select coalesce(sum(position), 0)::bigint from {}.lanes where topic = $1",
            self.settings.schema
        );
        sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&self.topic)
            .fetch_one(&self.db)
            .await
            .unwrap_or(-1)
    }

    /// The sum of the ends of its logs.
    pub fn ends(&self) -> i64 {
        (0..self.partitions).map(|it| self.kafka.bounds(&self.topic, it).1).sum()
    }

    /// How many markers there are, in either form.
    pub async fn processed(&self) -> i64 {
        let schema = &self.settings.schema;
        let sql = format!(
            "select (select count(*) from {schema}.markers)
                  + (select coalesce(sum(digests), 0)::bigint from {schema}.packs)"
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.db).await.unwrap_or(-1)
    }

    /// The orders a customer was billed for, in the order in which that happened.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn invoices_of(&self, customer: &str) -> Vec<i64> {
        sqlx::query_scalar("select order_id from invoices where customer = $1 order by written_at")
            .bind(customer)
            .fetch_all(&self.db)
            .await
            .expect("the invoices can be read")
    }

    /// All dead letters.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn letters(&self) -> Vec<DeadLetter> {
        let store = self.settings.store().await.expect("the store connects");
        let letters = DeadLetters::new(store, "a test").list(&LetterFilter::new()).await;
        letters.expect("the dead letters can be read")
    }

    /// A replay of `bill` by ana.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn replay(&self, settings: &Settings) -> Replay<Postgres> {
        let store = settings.store().await.expect("the store connects");
        Replay::new(store, "ana")
            .group(&settings.group)
            .handler::<bill>()
            .state(Gate(settings.gate))
    }

    /// How many transactions wait at the test's gate.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn at_gate(&self) -> i64 {
        sqlx::query_scalar(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted
             and ((classid::bigint << 32) | objid::bigint) = $1",
        )
        .bind(self.settings.gate)
        .fetch_one(&self.db)
        .await
        .expect("the locks can be seen")
    }

    /// Closes the gate: handlers that come to it wait until the answer is dropped or committed.
    ///
    /// # Panics
    /// When the database fails.
    pub async fn close_gate(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut tx = self.db.begin().await.expect("a transaction");
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(self.settings.gate)
            .execute(&mut *tx)
            .await
            .expect("the gate closes");
        tx
    }
}

/// An order with this number.
pub fn order(number: i64) -> Order {
    Order {
        event_id: format!("event-{number}"),
        order_id: number,
        cents: number % 1000,
        act: Act::Plain,
        customer: None,
    }
}

/// Waits until the condition holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        // A poll's pause, not a wait for something to have happened.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
