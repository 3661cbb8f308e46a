//! The suite that every store runs, on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::Fixture;
use idem_postgres::Postgres;
use idem_runtime::conformance::{Harness, Misbehaviour};
use idem_runtime::{Failure, conformance};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

struct Schema {
    fixture: Fixture,
    store: Postgres,
}

async fn connect(fixture: &Fixture) -> Postgres {
    // A harness's handlers do not know the schema; the store's sessions find it.
    let options = common::options().options([("search_path", &fixture.schema)]);
    Postgres::builder_with(options).schema(&fixture.schema).connect().await.unwrap()
}

impl Harness for Schema {
    type Store = Postgres;

    async fn unmigrated() -> Self {
        let fixture = Fixture::new().await;
        let store = connect(&fixture).await;
        fixture.run("create schema {schema}").await;
        fixture.run("create table {schema}.notes (note text not null)").await;
        Self { fixture, store }
    }

    async fn migrate(&self) {
        self.store.migrate().await.unwrap();
    }

    async fn stop(self) {
        self.store.close().await;
        self.fixture.drop_schema().await.unwrap();
    }

    fn store(&self) -> &Postgres {
        &self.store
    }

    async fn reopened(&self) -> Postgres {
        connect(&self.fixture).await
    }

    async fn write(connection: &mut PgConnection, effect: &str) -> Result<(), Failure> {
        sqlx::query("insert into notes values ($1)").bind(effect).execute(connection).await?;
        Ok(())
    }

    async fn effects(&self) -> Vec<String> {
        let sql = self.fixture.sql("select note from {schema}.notes");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.fixture.app).await.unwrap()
    }

    async fn misbehave(connection: &mut PgConnection, how: Misbehaviour) -> bool {
        let sql = match how {
            Misbehaviour::Commit => "commit",
            Misbehaviour::Rollback => "rollback",
            Misbehaviour::CommitAndBegin => "commit and chain",
            Misbehaviour::RollbackAndBegin => "rollback and chain",
            Misbehaviour::SwallowError => "select 1 / 0",
            _ => return false,
        };
        let _ = connection.execute(sql).await;
        true
    }
}

conformance!(Schema);
