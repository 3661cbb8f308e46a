//! The policies of what is kept beside markers, each on both databases: results, another payload under
//! one key, and attempts whose end nobody knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use idem::postgres::Postgres;
use idem::sqlite::Sqlite;
use idem::{
    Begun, BoxError, Builder, Counts, DeadLetters, ErrorKind, FailureClass, Kafka, LetterFilter,
    Markers, Outcome, Probed, Processor, Serves, State, Subscriber, idempotent,
};
use idem_e2e_tests::{Order, World, until};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool};
use tokio::sync::Semaphore;

use crate::BIN;

/// A service outside, and whether its answer comes.
#[derive(Debug, Clone)]
struct Remote {
    charges: Arc<AtomicU32>,
    answers: Arc<Semaphore>,
}

impl Remote {
    fn new() -> Self {
        Self { charges: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
    }

    fn charges(&self) -> u32 {
        self.charges.load(SeqCst)
    }

    async fn charge(&self) -> Result<(), BoxError> {
        self.charges.fetch_add(1, SeqCst);
        self.answers.acquire().await?.forget();
        Ok(())
    }
}

async fn was_charged(order: &Order, begun: &Begun) -> Result<Probed, BoxError> {
    assert_eq!(begun.key().as_str(), order.event_id);
    let remote = begun.state::<Remote>().ok_or("no remote")?;
    Ok(if remote.charges() == 0 { Probed::NotDone } else { Probed::Done })
}

const TABLE: &str = "create table seen (scope text not null, event_id text not null)";
const SEEN: &str = "insert into seen (scope, event_id) values ($1, $2)";

macro_rules! handlers {
    ($module:ident, $store:literal, $database:ty, $connection:ident) => {
        mod $module {
            use super::*;

            pub(super) async fn payloads(world: &World, store: &$database, db: &Db, orders: &[Order]) {
                payloads!(world, store, db, orders);
            }

            pub(super) async fn attempts(store: &$database, db: &Db, order: &Order) {
                attempts!(store, db, order);
            }

            handlers!($store, $connection: warned payload_check = "warn");
            handlers!($store, $connection: buried payload_check = "dead_letter");
            handlers!($store, $connection: stopped payload_check = "stop");
            handlers!($store, $connection, outside: again unknown = "retry");
            handlers!($store, $connection, outside: later unknown = retry_after("1h"));
            handlers!($store, $connection, outside: never unknown = "never");
            handlers!($store, $connection, outside: probed probe = was_charged);
        }
    };
    ($store:literal, $connection:ident: $name:ident $($check:tt)+) => {
        #[idempotent(key = "event_id", store = $store, topic = "orders", store_result, $($check)+)]
        async fn $name(order: Order, tx: &mut $connection) -> Result<i64, BoxError> {
            let insert = sqlx::query(SEEN).bind(stringify!($name)).bind(&order.event_id);
            insert.execute(tx).await?;
            Ok(order.cents)
        }
    };
    ($store:literal, $connection:ident, outside: $name:ident $($effects:tt)+) => {
        #[idempotent(
            key = "event_id",
            store = $store,
            timeout = "30s",
            effects = external($($effects)+)
        )]
        async fn $name(
            order: Order,
            remote: State<Remote>,
            tx: &mut $connection,
        ) -> Result<(), BoxError> {
            let insert = sqlx::query(SEEN).bind(stringify!($name)).bind(&order.event_id);
            insert.execute(tx).await?;
            remote.charge().await
        }
    };
}

/// A database, seen from outside idem.
enum Db {
    Postgres(PgPool, String),
    Sqlite(SqlitePool),
}

impl Db {
    /// How many effects of a handler there are.
    async fn seen(&self, scope: &str) -> i64 {
        let count = "select count(*) from seen where scope = $1";
        let count = match self {
            Self::Postgres(db, _) => sqlx::query_scalar(count).bind(scope).fetch_one(db).await,
            Self::Sqlite(db) => sqlx::query_scalar(count).bind(scope).fetch_one(db).await,
        };
        count.unwrap()
    }

    /// Makes it so long ago that attempts of a handler were begun.
    async fn minutes_pass(&self, scope: &str, minutes: i64) {
        let passed = match self {
            Self::Postgres(db, schema) => {
                let sql = format!(
                    "update {schema}.markers set processed_at = processed_at - $2 * interval '1 minute'
                     where scope = $1 and state = 3"
                );
                let sql = sqlx::query(AssertSqlSafe(sql)).bind(scope).bind(minutes);
                sql.execute(db).await.unwrap().rows_affected()
            }
            Self::Sqlite(db) => {
                let sql = "update idem_markers set processed_at = processed_at - $2 * 60000
                           where scope = $1 and state = 3";
                let sql = sqlx::query(sql).bind(scope).bind(minutes);
                sql.execute(db).await.unwrap().rows_affected()
            }
        };
        assert_eq!(passed, 1, "one attempt of {scope} is begun");
    }
}

/// An application of one handler in a group of its own.
macro_rules! app {
    ($world:expr, $store:expr, $name:ident) => {
        Builder::new()
            .kafka(Kafka::new(&$world.settings.bootstrap))
            .group(
                format!("{}_{}_{}", $world.topic, module_path!(), stringify!($name))
                    .replace("::", "."),
            )
            .store($store.clone())
            .topic_name("orders", &$world.topic)
            .handler::<$name>()
            .build()
            .unwrap()
    };
}

/// Runs a handler until it has all effects that it can have, and answers with what it counted.
macro_rules! worked {
    ($world:expr, $store:expr, $db:expr, $name:ident) => {{
        let app = app!($world, $store, $name);
        let handle = app.handle();
        let run = tokio::spawn(app.run());
        until("the last event is worked", async || $db.seen(stringify!($name)).await == 11).await;
        handle.shutdown();
        run.await.unwrap().unwrap()
    }};
}

/// What the three answers to another payload under one key do.
macro_rules! payloads {
    ($world:expr, $store:expr, $db:expr, $orders:expr) => {{
        let stopped = async {
            let app = app!($world, $store, stopped);
            let handle = app.handle();
            let run = tokio::spawn(app.run());
            until("the lane stopped", async || handle.stopped_lanes().len() == 1).await;
            let line = handle.stopped_lanes().join("");
            assert!(line.contains("partition 0, offset 13, scope stopped"), "{line}");
            handle.shutdown();
            run.await.unwrap().unwrap_err();
            assert_eq!($db.seen("stopped").await, 10);
        };
        let (warned, buried, ()) = tokio::join!(
            async { worked!($world, $store, $db, warned) },
            async { worked!($world, $store, $db, buried) },
            stopped,
        );
        assert_eq!((warned.processed, warned.duplicates, warned.key_reused), (11, 10, 1));
        assert_eq!((buried.processed, buried.duplicates, buried.dead_lettered), (11, 9, 1));
        let letters = DeadLetters::new($store.clone(), "a test");
        let letters = letters.list(&LetterFilter::new()).await.unwrap();
        let classes: Vec<_> = letters.into_iter().map(|it| it.cause.unwrap().class).collect();
        assert_eq!(classes, [FailureClass::KeyReuse]);
        // What the lane returned is the answer of a call, whichever payload it has.
        let mut other = $orders[5].clone();
        other.cents += 1;
        let answer = warned::process($store, other).await.unwrap();
        assert_eq!(answer, Outcome::Duplicate(Some($orders[5].cents)));
    }};
}

/// A call that dies in the middle of its effect outside.
macro_rules! died {
    ($store:expr, $remote:expr, $order:expr, $name:ident) => {{
        let calls = Processor::new($store.clone()).state($remote.clone());
        let order = $order.clone();
        let call = tokio::spawn(async move { calls.process::<$name>(order).await });
        until("it is charged", async || $remote.charges() == 1).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }};
}

/// What becomes of attempts whose end nobody knows.
macro_rules! attempts {
    ($store:expr, $db:expr, $order:expr) => {{
        let calls = |remote: &Remote| Processor::new($store.clone()).state(remote.clone());

        let remote = Remote::new();
        died!($store, remote, $order, again);
        $db.minutes_pass("again", 10).await;
        remote.answers.add_permits(1);
        let outcome = calls(&remote).process::<again>($order.clone()).await;
        assert!(outcome.unwrap().is_processed());
        assert_eq!((remote.charges(), $db.seen("again").await), (2, 1));

        let remote = Remote::new();
        died!($store, remote, $order, later);
        $db.minutes_pass("later", 10).await;
        let outcome = calls(&remote).process::<later>($order.clone()).await;
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("call again in"), "{error}");
        $db.minutes_pass("later", 51).await;
        remote.answers.add_permits(1);
        let outcome = calls(&remote).process::<later>($order.clone()).await;
        assert!(outcome.unwrap().is_processed());
        assert_eq!((remote.charges(), $db.seen("later").await), (2, 1));

        let remote = Remote::new();
        died!($store, remote, $order, never);
        $db.minutes_pass("never", 10).await;
        let outcome = calls(&remote).process::<never>($order.clone()).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::UnknownEnd);
        assert_eq!((remote.charges(), $db.seen("never").await), (1, 0));

        let remote = Remote::new();
        died!($store, remote, $order, probed);
        $db.minutes_pass("probed", 10).await;
        let outcome = calls(&remote).process::<probed>($order.clone()).await;
        assert!(outcome.unwrap().is_processed());
        let again = calls(&remote).process::<probed>($order.clone()).await;
        assert!(again.unwrap().is_duplicate());
        assert_eq!((remote.charges(), $db.seen("probed").await), (1, 0));
    }};
}

handlers!(on_postgres, "postgres", Postgres, PgConnection);
handlers!(on_sqlite, "sqlite", Sqlite, SqliteConnection);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_beside_markers_decides_alike_on_both_databases() {
    let world = World::new("policies", 1, BIN).await;
    sqlx::raw_sql(TABLE).execute(&world.db).await.unwrap();
    let postgres = world.settings.store().await.unwrap();
    let postgres_db = Db::Postgres(world.db.clone(), world.settings.schema.clone());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.db");
    let sqlite = Sqlite::open(&file).await.unwrap();
    sqlite.migrate().await.unwrap();
    let db = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&file)).await.unwrap();
    sqlx::raw_sql(TABLE).execute(&db).await.unwrap();
    let sqlite_db = Db::Sqlite(db);

    // Ten orders, the same ones again, of which one says something else, and one more.
    let orders = world.orders(0, 11);
    world.produce(&orders[..10]);
    let mut again = orders[..10].to_vec();
    again[3].cents += 1;
    world.produce(&again);
    world.produce(&orders[10..]);
    let order = world.orders(100, 1).remove(0);
    tokio::join!(
        on_postgres::payloads(&world, &postgres, &postgres_db, &orders),
        on_sqlite::payloads(&world, &sqlite, &sqlite_db, &orders),
        on_postgres::attempts(&postgres, &postgres_db, &order),
        on_sqlite::attempts(&sqlite, &sqlite_db, &order),
    );
}

/// What a handler says of an order; of one that costs less than nothing it is a text that PostgreSQL
/// does not take.
fn receipt(order: &Order) -> String {
    let end = if order.cents < 0 { "\0" } else { "" };
    format!("{}{end}", order.event_id)
}

#[idempotent(key = "event_id", store = "postgres", topic = "orders", store_result)]
async fn receipts(order: Order, tx: &mut PgConnection) -> Result<String, BoxError> {
    sqlx::query(SEEN).bind("receipts").bind(&order.event_id).execute(tx).await?;
    Ok(receipt(&order))
}

#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    store_result,
    timeout = "30s",
    effects = external(unknown = "retry")
)]
async fn charges(
    order: Order,
    remote: State<Remote>,
    tx: &mut PgConnection,
) -> Result<String, BoxError> {
    sqlx::query(SEEN).bind("charges").bind(&order.event_id).execute(tx).await?;
    remote.charge().await?;
    Ok(receipt(&order))
}

/// Works three orders, of which one has a result that cannot be kept, and answers with what was counted.
async fn two_of_three<H: Subscriber>(world: &World, store: &Postgres, remote: &Remote) -> Counts
where
    Postgres: Serves<H>,
{
    let app = Builder::new()
        .kafka(Kafka::new(&world.settings.bootstrap))
        .group(format!("{}_{}", world.topic, H::SCOPE))
        .store(store.clone())
        .topic_name("orders", &world.topic)
        .state(remote.clone())
        .markers(Markers::Rows)
        .handler::<H>()
        .build()
        .unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    let db = Db::Postgres(world.db.clone(), world.settings.schema.clone());
    until("the last order is worked", async || db.seen(H::SCOPE).await == 2).await;
    handle.shutdown();
    run.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_kept_holds_up_no_lane_and_repeats_no_effect() {
    let world = World::new("receipts", 1, BIN).await;
    sqlx::raw_sql(TABLE).execute(&world.db).await.unwrap();
    let store = world.settings.store().await.unwrap();
    let mut orders = world.orders(0, 3);
    orders[1].cents = -1;
    world.produce(&orders);
    let remote = Remote::new();
    remote.answers.add_permits(10);
    let letters = DeadLetters::new(store.clone(), "a test");
    for scope in ["receipts", "charges"] {
        let counts = match scope {
            "receipts" => two_of_three::<receipts>(&world, &store, &remote).await,
            _ => two_of_three::<charges>(&world, &store, &remote).await,
        };
        assert_eq!((counts.processed, counts.dead_lettered), (2, 1), "{scope}");
        let found = letters.list(&LetterFilter::new().scope(scope)).await.unwrap();
        let [letter] = &found[..] else { panic!("{found:?}") };
        let cause = letter.cause.as_ref().unwrap();
        assert_eq!((cause.class, cause.attempts), (FailureClass::Handler, 1), "{scope}");
        assert!(cause.error.contains("NUL"), "{}", cause.error);
        assert_eq!(letter.key.as_ref().unwrap().as_str(), orders[1].event_id);
    }
    assert_eq!(remote.charges(), 3, "each order is charged once");
    let answer = receipts::process(&store, orders[0].clone()).await.unwrap();
    assert_eq!(answer, Outcome::Duplicate(Some(orders[0].event_id.clone())));
}
