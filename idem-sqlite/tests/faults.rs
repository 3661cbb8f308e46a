//! What the errors of handlers are taken for.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::time::Duration;

use common::{Fixture, begin, direct, lend, open_batch};
use idem_runtime::store::Fault;
use idem_runtime::{ErrorKind, Store};
use idem_sqlite::Sqlite;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

const TABLES: &str = "
create table customers (
    id    integer primary key,
    name  text not null unique,
    cents integer not null check (cents >= 0)
) strict;
create table orders (
    id       integer primary key,
    customer integer not null references customers (id) on delete restrict
) strict;
create trigger no_more before insert on orders when new.id > 1000 begin
    select raise(abort, 'the month is closed');
end;
insert into customers values (1, 'ann', 0);
insert into orders values (1, 1);
";

/// What a handler is answered that does this.
async fn fault(store: &Sqlite, sql: &str) -> Fault {
    let mut tx = begin(store, &direct()).await.unwrap();
    let error = lend(&mut tx).execute(AssertSqlSafe(sql.to_owned())).await.unwrap_err();
    assert!(store.rollback(tx).await, "the connection is as good as before");
    Sqlite::fault(&error)
}

#[tokio::test]
async fn data_that_the_tables_do_not_take_is_a_permanent_fault() {
    let (fixture, store) = Fixture::with_store().await;
    fixture.run(TABLES).await;
    for sql in [
        "insert into customers values (1, 'bob', 0)",
        "insert into customers values (2, 'ann', 0)",
        "insert into customers values (2, null, 0)",
        "insert into customers values (2, 'bob', -1)",
        "insert into customers values (2, 'bob', 'many')",
        "insert into customers values ('two', 'bob', 0)",
    ] {
        assert_eq!(fault(&store, sql).await, Fault::Permanent, "{sql}");
    }
}

#[tokio::test]
async fn what_another_row_can_cure_is_not_a_permanent_fault() {
    let (fixture, store) = Fixture::with_store().await;
    fixture.run(TABLES).await;
    for sql in [
        "insert into orders values (2, 7)",
        "update customers set id = 9",
        "delete from customers",
        "insert into orders values (1001, 1)",
        "insert into nowhere values (1)",
    ] {
        assert_eq!(fault(&store, sql).await, Fault::Handler, "{sql}");
    }
}

#[tokio::test]
async fn a_file_that_another_connection_holds_is_a_passing_fault() {
    let (fixture, store) = Fixture::with_store().await;
    let options = SqliteConnectOptions::new().filename(fixture.file()).busy_timeout(Duration::ZERO);
    let mut other = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
    let tx = open_batch(&store, &direct(), "a").await;
    let error = other.execute("insert into effects values (2)").await.unwrap_err();
    assert_eq!(Sqlite::fault(&error), Fault::Transient);
    // Also below what the handler makes of it.
    let error = idem_runtime::Error::new(ErrorKind::Handler, "it failed").with_source(error);
    assert_eq!(Sqlite::fault(&error), Fault::Transient);
    store.rollback(tx).await;
}

#[tokio::test]
async fn a_transaction_that_the_handler_has_ended_is_not_a_lost_connection() {
    let (_fixture, store) = Fixture::with_store().await;
    for end in ["commit", "rollback", "rollback; begin immediate"] {
        let mut tx = open_batch(&store, &direct(), "a").await;
        let _ = lend(&mut tx).execute(end).await;
        assert!(store.rollback(tx).await, "{end}");
    }
}
