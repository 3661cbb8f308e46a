//! A schema for each test, in the database of DATABASE_URL, and what the tests have in common.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![expect(clippy::expect_used, reason = "what is missing fails the test")]

pub(crate) mod letters;
pub(crate) mod proxy;

use std::fmt::Write as _;
use std::future::Future;
use std::str::FromStr;
use std::time::{Duration, Instant};

use idem_postgres::{Builder, Postgres};
use idem_runtime::lane::{Held, LaneId, LogIdentity, Owner, Position};
use idem_runtime::store::{Claim, Claimed, Opening, Seal, Sealed, Terms, Writer};
use idem_runtime::{Key, Result, Store};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::{LocalSet, spawn_local};
use uuid::Uuid;

/// How long a test waits for something that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) schema: String,
    /// A plain pool, such as an application has.
    pub(crate) app: PgPool,
}

pub(crate) fn url() -> String {
    std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        panic!("DATABASE_URL is not set: run `cargo xtask test`, which starts a PostgreSQL")
    })
}

pub(crate) fn options() -> PgConnectOptions {
    PgConnectOptions::from_str(&url()).expect("DATABASE_URL is a URL")
}

/// Runs a test on a schema of its own, which is dropped afterwards, also when the test fails.
pub(crate) async fn on_schema<F>(test: impl FnOnce(Fixture) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let fixture = Fixture::new().await;
    // A local task catches a panic, and need not be `Send`, as async closures are not everywhere.
    let test = test(fixture.clone());
    let ended = LocalSet::new().run_until(async { spawn_local(test).await }).await;
    let dropped = fixture.drop_schema().await;
    if let Err(failure) = ended {
        std::panic::resume_unwind(failure.into_panic());
    }
    dropped.expect("nothing is left open on the schema");
}

/// Runs a test on a schema that is migrated and has a table `effects (n bigint)`.
pub(crate) async fn on_store<F>(test: impl FnOnce(Fixture, Postgres) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    on_schema(async |fixture: Fixture| {
        let store = fixture.store().await;
        store.migrate().await.expect("migrates");
        fixture.run("create table {schema}.effects (n bigint not null)").await;
        test(fixture, store).await;
    })
    .await;
}

impl Fixture {
    /// The name of a schema of its own, which is not there yet.
    pub(crate) async fn new() -> Self {
        let schema = format!("t_{}", Uuid::new_v4().simple());
        let app = PgPoolOptions::new().max_connections(12).connect(&url()).await;
        Self { schema, app: app.expect("the database of DATABASE_URL can be reached") }
    }

    pub(crate) async fn drop_schema(&self) -> sqlx::Result<()> {
        // A test that failed may have left a transaction behind that holds the tables.
        let sql = "set lock_timeout = '10s'; drop schema if exists {schema} cascade";
        sqlx::raw_sql(AssertSqlSafe(self.sql(sql))).execute(&self.app).await.map(drop)
    }

    pub(crate) fn builder(&self) -> Builder {
        Postgres::builder(&url()).schema(&self.schema)
    }

    pub(crate) async fn store(&self) -> Postgres {
        self.builder().connect().await.expect("connects")
    }

    pub(crate) fn sql(&self, template: &str) -> String {
        template.replace("{schema}", &format!("\"{}\"", self.schema))
    }

    /// Runs statements outside of idem.
    pub(crate) async fn run(&self, template: &str) {
        let sql = self.sql(template);
        sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&self.app)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A number, read outside of idem.
    pub(crate) async fn number(&self, template: &str) -> i64 {
        let sql = self.sql(template);
        sqlx::query_scalar(AssertSqlSafe(sql.clone()))
            .fetch_one(&self.app)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) async fn effects(&self) -> i64 {
        self.number("select count(*) from {schema}.effects").await
    }

    pub(crate) async fn markers(&self) -> i64 {
        self.number("select count(*) from {schema}.markers").await
    }

    /// Until a number is what it should become.
    pub(crate) async fn until(&self, what: &str, template: &str, expected: i64) {
        let until = Instant::now() + DEADLINE;
        loop {
            let number = self.number(template).await;
            if number == expected {
                return;
            }
            assert!(Instant::now() < until, "{what}: still {number}, not {expected}");
            // PostgreSQL tells nobody that a session waits: polled, with a deadline.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until so many sessions of this lane (as its transactions name themselves) wait for a lock.
    pub(crate) async fn until_lane_waits(&self, held: &Held) {
        let name = lane_name(held);
        let waiting = format!(
            "select count(*) from pg_stat_activity \
             where application_name = '{name}' and wait_event_type = 'Lock'"
        );
        self.until("a lane's transaction waits for a lock", &waiting, 1).await;
    }

    /// Creates a lane at offset 0 and takes it.
    pub(crate) async fn lane(&self, store: &Postgres, partition: i32) -> Held {
        let opening = Opening {
            group: "billing",
            topic: "orders",
            identity: &LogIdentity::default(),
            lanes: &[(partition, Position::at(0))],
        };
        store.open_topic(&opening).await.expect("opens");
        take(store, partition).await
    }
}

pub(crate) fn lane_name(held: &Held) -> String {
    format!("idem lane {} {}", held.number, held.token.simple())
}

pub(crate) fn owner(name: &str) -> Owner {
    Owner { id: Uuid::new_v4(), name: name.to_owned(), dead_after: Duration::from_secs(600) }
}

pub(crate) async fn take(store: &Postgres, partition: i32) -> Held {
    let id = LaneId { group: "billing".into(), topic: "orders".into(), partition };
    store.take(&id, &owner("a test")).await.expect("takes").expect("the lane is there").held()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

pub(crate) async fn claim(
    store: &Postgres,
    tx: &mut <Postgres as Store>::Tx,
    writer: &Writer<'_>,
    keys: &[&str],
) -> Result<Claimed> {
    let mut keys: Vec<Key> = keys.iter().map(|text| key(text)).collect();
    keys.sort();
    let claims: Vec<_> = keys
        .iter()
        .zip(0..)
        .map(|(key, n)| Claim { offset: Some(n), ..Claim::new("bill", key) })
        .collect();
    store.claim(tx, writer, &claims).await
}

pub(crate) fn seal_at(offset: i64) -> Seal<'static> {
    Seal { position: Position::at(offset), offset_scopes: &[] }
}

/// A whole batch: claim, an effect for each new key, seal and commit. Answers which keys were new.
pub(crate) async fn batch(store: &Postgres, held: &mut Held, keys: &[&str]) -> Result<Vec<bool>> {
    let (tx, new) = open_batch(store, held, keys).await?;
    finish(store, tx, held).await?;
    Ok(new)
}

/// A batch up to its seal.
pub(crate) async fn open_batch(
    store: &Postgres,
    held: &Held,
    keys: &[&str],
) -> Result<(<Postgres as Store>::Tx, Vec<bool>)> {
    let writer = Writer::Lane(held);
    let mut tx = store.begin(&writer, &Terms::default()).await?;
    let Claimed::Keys(new) = claim(store, &mut tx, &writer, keys).await? else {
        panic!("the lane was fenced");
    };
    let mut effects = String::new();
    for n in 0..new.iter().filter(|new| **new).count() {
        let _ = write!(effects, "insert into {}.effects values ({n});", store.schema());
    }
    let connection = lend(&mut tx);
    sqlx::raw_sql(AssertSqlSafe(effects)).execute(connection).await.expect("an effect");
    Ok((tx, new))
}

/// Seals a lane's transaction one offset further, and commits.
pub(crate) async fn finish(
    store: &Postgres,
    mut tx: <Postgres as Store>::Tx,
    held: &mut Held,
) -> Result<()> {
    let next = held.position.offset + 1;
    match store.seal(&mut tx, &Writer::Lane(held), Some(&seal_at(next))).await? {
        Sealed::Yes => {}
        Sealed::No => panic!("the lane was fenced"),
    }
    store.commit(tx).await?;
    held.revision += 1;
    held.position.offset = next;
    Ok(())
}

pub(crate) fn lend(tx: &mut <Postgres as Store>::Tx) -> &mut sqlx::PgConnection {
    <Postgres as idem_runtime::Lends<sqlx::PgConnection>>::lend(tx)
}
