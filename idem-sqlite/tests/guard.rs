//! What happens when a handler ends or breaks the transaction it was lent.
//!
//! After each mistake: no marker without effects, no effects without a marker, and the store goes
//! on as if nothing had been.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::{Fixture, begin, claim, direct, held, lend, open_batch, seal};
use idem_runtime::store::{Fault, Sealed, Writer};
use idem_runtime::{Error, ErrorKind, Failure, Store};
use idem_sqlite::Sqlite;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// Each way to end the transaction, and whether one of the statements fails.
const ENDINGS: [(&str, bool); 9] = [
    ("commit", true),
    ("end transaction", true),
    ("rollback", false),
    ("rollback; begin", false),
    ("rollback; begin immediate", false),
    ("rollback; begin immediate; insert into effects values (9)", false),
    ("rollback; begin; insert into effects values (9); commit", true),
    ("rollback; insert into effects values (9)", true),
    ("rollback; savepoint a; insert into effects values (9); release a", true),
];

async fn run(connection: &mut SqliteConnection, sql: &str) -> sqlx::Result<()> {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.map(drop)
}

fn is_the_handlers_bug(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::HandlerBroke, "{error:?}");
    assert!(!error.is_retryable());
}

/// Nothing is kept, and the same event goes through when the handler behaves.
async fn nothing_is_kept(fixture: &Fixture, store: &Sqlite, writer: &Writer<'_>) {
    assert_eq!((fixture.markers().await, fixture.effects().await), (0, 0));
    assert_eq!(fixture.number("select coalesce(sum(revision), 0) from idem_lanes").await, 0);
    let mut tx = open_batch(store, writer, "a").await;
    assert_eq!(seal(store, &mut tx, writer).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
    assert_eq!((fixture.markers().await, fixture.effects().await), (1, 1));
    fixture.run("delete from idem_markers; delete from effects").await;
    fixture.run("update idem_lanes set revision = 0, position = 0").await;
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_keeps_nothing() {
    let (fixture, store) = Fixture::with_store().await;
    let held = held(&store).await;
    for writer in [Writer::Lane(&held), direct()] {
        for (ending, fails) in ENDINGS {
            let mut tx = open_batch(&store, &writer, "a").await;
            let failed = run(lend(&mut tx), ending).await.err();
            let fault = failed.map(|error| Sqlite::fault(&error));
            assert_eq!(fault, fails.then_some(Fault::HandlerBroke), "{ending}");
            is_the_handlers_bug(&seal(&store, &mut tx, &writer).await.unwrap_err());
            store.rollback(tx).await;
            nothing_is_kept(&fixture, &store, &writer).await;
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_committed_in_spite_of_it_keeps_nothing() {
    let (fixture, store) = Fixture::with_store().await;
    let writer = direct();
    for (ending, _) in ENDINGS {
        let mut tx = open_batch(&store, &writer, "a").await;
        let _ = run(lend(&mut tx), ending).await;
        is_the_handlers_bug(&store.commit(tx).await.unwrap_err());
        nothing_is_kept(&fixture, &store, &writer).await;
    }
}

#[tokio::test]
async fn a_call_without_kafka_has_the_same_guard() {
    let (fixture, store) = Fixture::with_store().await;
    for (ending, fails) in ENDINGS {
        for swallow in [true, false] {
            let error = store
                .process_if_new("bill", "a", async |tx| {
                    run(tx, "insert into effects values (1)").await?;
                    match run(tx, ending).await {
                        Err(error) if !swallow => Err(error.into()),
                        ended => {
                            assert!(swallow || ended.is_ok() != fails);
                            Ok::<_, Failure>(())
                        }
                    }
                })
                .await
                .unwrap_err();
            is_the_handlers_bug(&error);
            assert_eq!((fixture.markers().await, fixture.effects().await), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_conflict_that_rolls_back_the_transaction_keeps_nothing() {
    let (fixture, store) = Fixture::with_store().await;
    fixture.run("create table once (n integer primary key); insert into once values (1)").await;
    let writer = direct();
    let mut tx = open_batch(&store, &writer, "a").await;
    let error = run(lend(&mut tx), "insert or rollback into once values (1)").await.unwrap_err();
    assert_eq!(Sqlite::fault(&error), Fault::Permanent);
    is_the_handlers_bug(&seal(&store, &mut tx, &writer).await.unwrap_err());
    store.rollback(tx).await;
    nothing_is_kept(&fixture, &store, &writer).await;
}

#[tokio::test]
async fn savepoints_of_a_handler_are_its_own() {
    let (fixture, store) = Fixture::with_store().await;
    let outcome = store
        .process_if_new("bill", "a", async |tx| {
            let mut kept = tx.begin().await?;
            run(&mut kept, "insert into effects values (1)").await?;
            let mut undone = kept.begin().await?;
            run(&mut undone, "insert into effects values (2)").await?;
            undone.rollback().await?;
            kept.commit().await?;
            let mut dropped = tx.begin().await?;
            run(&mut dropped, "insert into effects values (3)").await?;
            drop(dropped);
            run(tx, "savepoint a; insert into effects values (4); release a").await?;
            Ok(())
        })
        .await
        .unwrap();
    assert!(outcome.is_processed());
    assert_eq!(fixture.number("select sum(n) from effects").await, 5);
    assert_eq!(fixture.markers().await, 1);
}

#[tokio::test]
async fn a_savepoint_that_is_left_open_is_the_handlers_bug() {
    let (fixture, store) = Fixture::with_store().await;
    let writer = direct();
    let mut tx = open_batch(&store, &writer, "a").await;
    std::mem::forget(lend(&mut tx).begin().await.unwrap());
    is_the_handlers_bug(&seal(&store, &mut tx, &writer).await.unwrap_err());
    store.rollback(tx).await;
    nothing_is_kept(&fixture, &store, &writer).await;
}

#[tokio::test]
async fn a_statement_whose_future_was_dropped_is_over_before_the_seal() {
    let (fixture, store) = Fixture::with_store().await;
    let writer = direct();
    let slow = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000)
                insert into effects select i from n";
    let mut tx = open_batch(&store, &writer, "a").await;
    for sql in [slow, "rollback"] {
        tokio::select! {
            biased;
            _ = run(lend(&mut tx), sql) => panic!("{sql} is answered at once"),
            () = async {} => {}
        }
    }
    is_the_handlers_bug(&seal(&store, &mut tx, &writer).await.unwrap_err());
    store.rollback(tx).await;
    nothing_is_kept(&fixture, &store, &writer).await;
}

#[tokio::test]
async fn a_swallowed_error_leaves_a_transaction_that_is_whole() {
    let (fixture, store) = Fixture::with_store().await;
    let writer = direct();
    let mut tx = open_batch(&store, &writer, "a").await;
    run(lend(&mut tx), "insert into effects values (null)").await.unwrap_err();
    assert_eq!(seal(&store, &mut tx, &writer).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
    assert_eq!((fixture.markers().await, fixture.effects().await), (1, 1));
}

#[tokio::test]
async fn what_is_written_after_the_seal_is_not_committed() {
    let (fixture, store) = Fixture::with_store().await;
    let writer = direct();
    let mut tx = open_batch(&store, &writer, "a").await;
    assert_eq!(seal(&store, &mut tx, &writer).await.unwrap(), Sealed::Yes);
    run(lend(&mut tx), "insert into effects values (2)").await.unwrap();
    is_the_handlers_bug(&store.commit(tx).await.unwrap_err());
    nothing_is_kept(&fixture, &store, &writer).await;
}

#[tokio::test]
async fn a_deferred_constraint_keeps_nothing() {
    let (fixture, store) = Fixture::with_store().await;
    fixture
        .run(
            "create table parents (id integer primary key);
             create table children (parent integer references parents deferrable initially deferred)",
        )
        .await;
    let writer = direct();
    let mut tx = open_batch(&store, &writer, "a").await;
    run(lend(&mut tx), "insert into children values (7)").await.unwrap();
    assert_eq!(seal(&store, &mut tx, &writer).await.unwrap(), Sealed::Yes);
    assert_eq!(store.commit(tx).await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(fixture.number("select count(*) from children").await, 0);
    nothing_is_kept(&fixture, &store, &writer).await;
}

#[tokio::test]
async fn a_write_by_another_way_inside_of_a_handler_ends_with_an_error() {
    let fixture = Fixture::new();
    let turn = std::time::Duration::from_millis(50);
    let store = fixture.builder().turn_timeout(turn).open().await.unwrap();
    store.migrate().await.unwrap();
    let error = store
        .process_if_new("bill", "a", async |_| {
            let _ = store.mark_processed("other", "a", None).await?;
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(error.report().contains("turn_timeout"), "{error:?}");
    assert_eq!(fixture.markers().await, 0);
    // A look is no write.
    let seen = store
        .process_if_new("bill", "a", async |_| Ok(store.is_processed("bill", "a").await?))
        .await
        .unwrap();
    assert_eq!(seen.value(), Some(false));
}

#[tokio::test]
async fn a_dropped_transaction_lets_the_next_one_begin_at_once() {
    let (fixture, store) = Fixture::with_store().await;
    let writer = direct();
    for _ in 0..30 {
        drop(open_batch(&store, &writer, "a").await);
    }
    let mut tx = begin(&store, &writer).await.unwrap();
    assert!(claim(&store, &mut tx, &writer, "a").await);
    store.rollback(tx).await;
    nothing_is_kept(&fixture, &store, &writer).await;
}
