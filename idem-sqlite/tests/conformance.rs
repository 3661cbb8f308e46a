//! The suite that every store runs, on SQLite.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::Fixture;
use idem_runtime::conformance::{Harness, Misbehaviour};
use idem_runtime::{Failure, conformance};
use idem_sqlite::Sqlite;
use sqlx::Executor as _;
use sqlx::sqlite::SqliteConnection;

struct File {
    fixture: Fixture,
    store: Sqlite,
}

impl Harness for File {
    type Store = Sqlite;

    const ONE_WRITER: bool = true;

    async fn unmigrated() -> Self {
        let fixture = Fixture::new();
        let store = fixture.store().await;
        fixture.run("create table notes (note text not null) strict").await;
        Self { fixture, store }
    }

    async fn migrate(&self) {
        self.store.migrate().await.unwrap();
    }

    async fn stop(self) {
        self.store.close().await;
    }

    fn store(&self) -> &Sqlite {
        &self.store
    }

    async fn write(connection: &mut SqliteConnection, effect: &str) -> Result<(), Failure> {
        sqlx::query("insert into notes values (?1)").bind(effect).execute(connection).await?;
        Ok(())
    }

    async fn effects(&self) -> Vec<String> {
        let mut connection = self.fixture.outside().await;
        sqlx::query_scalar("select note from notes").fetch_all(&mut connection).await.unwrap()
    }

    async fn misbehave(connection: &mut SqliteConnection, how: Misbehaviour) -> bool {
        let sqls: &[&str] = match how {
            Misbehaviour::Commit => &["commit"],
            Misbehaviour::Rollback => &["rollback"],
            Misbehaviour::CommitAndBegin => &["commit", "begin"],
            Misbehaviour::RollbackAndBegin => &["rollback", "begin immediate"],
            Misbehaviour::SwallowError => &["insert into notes values (null)"],
            _ => return false,
        };
        for sql in sqls {
            let _ = connection.execute(*sql).await;
        }
        true
    }
}

conformance!(File);
