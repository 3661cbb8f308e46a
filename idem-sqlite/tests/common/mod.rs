//! A file for each test, and what the tests have in common.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "what is missing fails the test")]

use std::time::Duration;

use idem_runtime::lane::{Held, LaneId, LogIdentity, Owner, Position};
use idem_runtime::store::{Claim, Claimed, Lends as _, Opening, Seal, Sealed, Terms, Writer};
use idem_runtime::{Key, Result, Store};
use idem_sqlite::{Builder, Sqlite, Tx};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tempfile::TempDir;
use uuid::Uuid;

/// A file in a folder of its own.
pub(crate) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A store that is migrated, beside a table `effects (n integer)`.
    pub(crate) async fn with_store() -> (Self, Sqlite) {
        let fixture = Self::new();
        let store = fixture.store().await;
        store.migrate().await.expect("migrates");
        fixture.run("create table effects (n integer not null)").await;
        (fixture, store)
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("shop.db")
    }

    pub(crate) fn builder(&self) -> Builder {
        Sqlite::builder(self.file())
    }

    pub(crate) async fn store(&self) -> Sqlite {
        self.builder().open().await.expect("opens")
    }

    /// A connection outside of idem.
    pub(crate) async fn outside(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.file()).create_if_missing(true);
        SqliteConnection::connect_with(&options).await.expect("opens")
    }

    /// Runs statements outside of idem.
    pub(crate) async fn run(&self, sql: &str) {
        let mut connection = self.outside().await;
        connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("runs");
        connection.close().await.expect("closes");
    }

    /// A number, read outside of idem.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let mut connection = self.outside().await;
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number")
    }

    pub(crate) async fn effects(&self) -> i64 {
        self.number("select count(*) from effects").await
    }

    pub(crate) async fn markers(&self) -> i64 {
        self.number("select count(*) from idem_markers").await
    }
}

pub(crate) fn lane() -> LaneId {
    LaneId { group: "billing".into(), topic: "orders".into(), partition: 0 }
}

/// A new run of a process of this name.
pub(crate) fn owner(name: &str) -> Owner {
    Owner { id: Uuid::new_v4(), name: name.into(), dead_after: Duration::from_secs(30) }
}

/// Creates the lane, when it is not there, and takes it.
pub(crate) async fn held(store: &Sqlite) -> Held {
    let lanes = [(0, Position::at(0))];
    let identity = LogIdentity::default();
    let opening = Opening { group: "billing", topic: "orders", identity: &identity, lanes: &lanes };
    store.open_topic(&opening).await.unwrap();
    store.take(&lane(), &owner("test")).await.unwrap().unwrap().held()
}

pub(crate) fn lend(tx: &mut Tx) -> &mut SqliteConnection {
    Sqlite::lend(tx)
}

pub(crate) async fn claim(store: &Sqlite, tx: &mut Tx, writer: &Writer<'_>, key: &str) -> bool {
    let key = Key::new(key).unwrap();
    let claim = Claim { offset: Some(0), ..Claim::new("bill", &key) };
    match store.claim(tx, writer, &[claim]).await.unwrap() {
        Claimed::Keys(new) => new == [true],
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn begin(store: &Sqlite, writer: &Writer<'_>) -> Result<Tx> {
    store.begin(writer, &Terms::default()).await
}

/// Begins a batch, claims a new key and writes an effect.
pub(crate) async fn open_batch(store: &Sqlite, writer: &Writer<'_>, key: &str) -> Tx {
    let mut tx = begin(store, writer).await.unwrap();
    assert!(claim(store, &mut tx, writer, key).await, "{key} is new");
    lend(&mut tx).execute("insert into effects values (1)").await.unwrap();
    tx
}

pub(crate) async fn seal(store: &Sqlite, tx: &mut Tx, writer: &Writer<'_>) -> Result<Sealed> {
    let seal = Seal { position: Position::at(1), offset_scopes: &[] };
    store.seal(tx, writer, matches!(writer, Writer::Lane(_)).then_some(&seal)).await
}

pub(crate) fn direct() -> Writer<'static> {
    Writer::Direct { attempt: Uuid::new_v4() }
}
