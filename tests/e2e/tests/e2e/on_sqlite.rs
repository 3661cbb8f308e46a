//! The policies on a SQLite file, read from a genuine Kafka.

use std::time::Duration;

use idem::sqlite::Sqlite;
use idem::{
    BoxError, Builder, Context, DeadLetters, ErrorKind, Idem, Kafka, LetterFilter, LetterState,
    OnFailure, Policy, Replay, Retry, Store as _, idempotent,
};
use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{Order, World, until};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool};

use crate::BIN;

#[idempotent(key = "event_id", store = "sqlite", topic = "orders")]
async fn bill(order: Order, cx: &Context, tx: &mut SqliteConnection) -> Result<(), BoxError> {
    sqlx::query("insert into invoices (event_id, customer) values (?, ?)")
        .bind(&order.event_id)
        .bind(&order.customer)
        .execute(&mut *tx)
        .await?;
    match order.act {
        Act::FailOnce if cx.attempt() == 1 => Err("the first attempt fails".into()),
        Act::Hang if cx.attempt() == 1 => std::future::pending().await,
        Act::Refuse => {
            let mended = sqlx::query_scalar("select exists (select 1 from mended)");
            match mended.fetch_one(tx).await? {
                true => Ok(()),
                false => Err(idem::permanent("the order is refused").into()),
            }
        }
        _ => Ok(()),
    }
}

struct File {
    world: World,
    store: Sqlite,
    db: SqlitePool,
    _dir: tempfile::TempDir,
}

impl File {
    async fn new(name: &str) -> Self {
        let world = World::new(name, 2, BIN).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.db");
        let store = Sqlite::open(&file).await.unwrap();
        store.migrate().await.unwrap();
        let db = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&file));
        let db = db.await.unwrap();
        sqlx::raw_sql(
            "create table invoices (event_id text, customer text); create table mended (x)",
        )
        .execute(&db)
        .await
        .unwrap();
        Self { world, store, db, _dir: dir }
    }

    fn idem(&self, policy: Policy) -> Idem {
        let retry =
            Retry::new().max(4).backoff(Duration::from_millis(5), Duration::from_millis(20));
        Builder::new()
            .kafka(Kafka::new(&self.world.settings.bootstrap))
            .group(&self.world.settings.group)
            .store(self.store.clone())
            .handler_with::<bill>(policy.retry(retry).timeout(Duration::from_secs(2)))
            .topic_name("orders", &self.world.topic)
            .max_batch(50)
            .build()
            .unwrap()
    }

    /// How many invoices, and of how many orders.
    async fn invoices(&self) -> (i64, i64) {
        let count = "select count(*), count(distinct event_id) from invoices";
        sqlx::query_as(count).fetch_one(&self.db).await.unwrap()
    }

    async fn letters(&self, state: LetterState) -> usize {
        let letters = DeadLetters::new(self.store.clone(), "a test");
        letters.list(&LetterFilter::new().state(state)).await.unwrap().len()
    }

    async fn positions(&self) -> i64 {
        let sum = sqlx::query_scalar("select coalesce(sum(position), 0) from idem_lanes");
        sum.fetch_one(&self.db).await.unwrap()
    }

    async fn worked_by(&self, idem: Idem) {
        let handle = idem.handle();
        let run = tokio::spawn(idem.run());
        let ends = self.world.ends();
        until("every lane is at its log's end", async || self.positions().await == ends).await;
        handle.shutdown();
        run.await.unwrap().unwrap();
    }
}

fn troubled(world: &World) -> Vec<Order> {
    let mut orders = world.orders(0, 600);
    for order in &mut orders {
        order.customer = Some(format!("customer-{}", order.order_id % 23));
        order.act = match order.order_id % 100 {
            17 => Act::Refuse,
            3 | 63 => Act::FailOnce,
            _ => Act::Plain,
        };
    }
    orders[444].act = Act::Hang;
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_become_dead_letters_on_sqlite_and_are_replayed_once() {
    let file = File::new("on_sqlite").await;
    let orders = troubled(&file.world);
    file.world.produce(&orders);
    file.world.produce(&orders[..200]);
    file.worked_by(file.idem(Policy::new())).await;
    assert_eq!(file.invoices().await, (594, 594));
    assert_eq!(file.letters(LetterState::Dead).await, 6);

    sqlx::query("insert into mended values (1)").execute(&file.db).await.unwrap();
    let replay = || Replay::new(file.store.clone(), "ana").handler::<bill>();
    let (one, other) = (replay(), replay());
    let all = LetterFilter::new();
    let (one, other) = tokio::join!(one.run(&all), other.run(&all));
    assert_eq!(one.unwrap().processed + other.unwrap().processed, 6);
    assert_eq!(file.invoices().await, (600, 600));
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_keys_wait_on_sqlite_over_a_restart_and_are_released_in_order() {
    let file = File::new("parked_on_sqlite").await;
    let orders = troubled(&file.world);
    let policy = Policy::new().on_failure(OnFailure::PARK_KEY).slices(3);
    file.world.produce(&orders[..300]);
    file.worked_by(file.idem(policy)).await;
    assert_eq!(file.letters(LetterState::Parked).await, 3);
    file.world.produce(&orders[300..]);
    file.worked_by(file.idem(policy)).await;
    let (parked, waiting) =
        (file.letters(LetterState::Parked).await, file.letters(LetterState::Waiting).await);
    assert!(parked >= 3 && waiting > 0, "{parked} {waiting}");
    let (invoices, invoiced) = file.invoices().await;
    assert_eq!(invoices, invoiced);
    assert_eq!(invoices, 600 - i64::try_from(parked + waiting).unwrap());

    sqlx::query("insert into mended values (1)").execute(&file.db).await.unwrap();
    let replay = Replay::new(file.store.clone(), "ana").handler::<bill>();
    let idem = file.idem(policy);
    let handle = idem.handle();
    let run = tokio::spawn(idem.run());
    until("all are worked", async || {
        replay.run(&LetterFilter::new()).await.unwrap();
        file.invoices().await.0 == 600
    })
    .await;
    handle.shutdown();
    run.await.unwrap().unwrap();
    assert_eq!(file.invoices().await, (600, 600));
    for customer in 0..23 {
        let billed: Vec<String> =
            sqlx::query_scalar("select event_id from invoices where customer = ? order by rowid")
                .bind(format!("customer-{customer}"))
                .fetch_all(&file.db)
                .await
                .unwrap();
        let expected: Vec<String> = orders
            .iter()
            .filter(|it| it.order_id % 23 == customer)
            .map(|it| it.event_id.clone())
            .collect();
        assert_eq!(billed, expected, "customer-{customer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_on_sqlite_stops_at_a_failure_and_goes_on_when_it_is_mended() {
    let file = File::new("stops_on_sqlite").await;
    let orders = troubled(&file.world);
    file.world.produce(&orders[..100]);
    let policy = Policy::new().on_failure(OnFailure::Stop);
    let idem = file.idem(policy);
    let handle = idem.handle();
    let run = tokio::spawn(idem.run());
    until("a lane stands still", async || !handle.stopped_lanes().is_empty()).await;
    handle.shutdown();
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error:?}");
    assert!(error.to_string().contains("the order is refused"), "{error}");
    let id = orders[17].event_id.as_str();
    assert!(!file.store.is_processed("bill", id).await.unwrap());
    sqlx::query("insert into mended values (1)").execute(&file.db).await.unwrap();
    file.worked_by(file.idem(policy)).await;
    assert_eq!(file.invoices().await, (100, 100));
}
