//! What happens when a handler ends or breaks the transaction it was lent.
//!
//! After each mistake: no marker without effects, no effects without a marker, and the store goes
//! on as if nothing had been.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::{Fixture, lend, on_store, open_batch, seal_at};
use idem_postgres::Postgres;
use idem_runtime::lane::Held;
use idem_runtime::store::{Fault, Sealed, Writer};
use idem_runtime::{Error, ErrorKind, Failure, Store};
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Runs a handler's mistake in a lane's batch, goes on as the pipeline does, and looks at what is
/// left. The mistake's own error is its return value.
async fn in_a_lane(
    fixture: &Fixture,
    store: &Postgres,
    mistake: impl AsyncFn(&mut PgConnection) -> sqlx::Result<()>,
) -> (Option<Fault>, Result<(), Error>) {
    let held = fixture.lane(store, 0).await;
    let (mut tx, _) = open_batch(store, &held, &["a", "b"]).await.unwrap();
    let failed = mistake(lend(&mut tx)).await.err().map(|error| Postgres::fault(&error));
    // A handler that swallows it: the seal has to find out.
    let writer = Writer::Lane(&held);
    let sealed = store.seal(&mut tx, &writer, Some(&seal_at(2))).await;
    let ended = match sealed {
        Ok(Sealed::Yes) => store.commit(tx).await,
        Ok(Sealed::No) => panic!("nobody else has the lane"),
        Err(error) => {
            store.rollback(tx).await;
            Err(error)
        }
    };
    nothing_is_kept(fixture, store, &held).await;
    (failed, ended)
}

/// As [`in_a_lane`], without Kafka.
async fn directly(
    fixture: &Fixture,
    store: &Postgres,
    mistake: impl AsyncFn(&mut PgConnection) -> sqlx::Result<()>,
    swallow: bool,
) -> Error {
    let effect = fixture.sql("insert into {schema}.effects values (1)");
    let error = store
        .process_if_new("bill", "a", async |tx: &mut PgConnection| {
            tx.execute(sqlx::AssertSqlSafe(effect.clone())).await?;
            match mistake(tx).await {
                Err(error) if !swallow => Err(error.into()),
                _ => Ok::<_, Failure>(()),
            }
        })
        .await
        .unwrap_err();
    assert_eq!(fixture.markers().await, 0);
    assert_eq!(fixture.effects().await, 0);
    error
}

async fn nothing_is_kept(fixture: &Fixture, store: &Postgres, held: &Held) {
    assert_eq!(fixture.markers().await, 0, "markers");
    assert_eq!(fixture.effects().await, 0, "effects");
    assert_eq!(fixture.number("select count(*) from {schema}.open_batches").await, 0);
    let row = store.read(held).await.unwrap().unwrap();
    assert_eq!((row.revision, row.position.offset), (held.revision, held.position.offset));
    // The next batch is not disturbed.
    let mut held = row.held();
    assert_eq!(common::batch(store, &mut held, &["a"]).await.unwrap(), [true]);
    assert_eq!((fixture.markers().await, fixture.effects().await), (1, 1));
    fixture.run("truncate {schema}.markers, {schema}.effects").await;
    fixture.run("update {schema}.lanes set position = 0, revision = 0").await;
}

fn is_the_handlers_bug(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::HandlerBroke, "{error:?}");
    assert!(!error.is_retryable());
}

/// Each way to end the transaction, and whether the statement itself fails.
const ENDINGS: [(&str, bool); 7] = [
    ("commit", true),
    ("commit and chain", true),
    ("rollback", false),
    ("rollback and chain", false),
    ("rollback; begin read write", false),
    ("rollback; begin read write; insert into {schema}.effects values (9)", false),
    ("prepare transaction 'behind idem'", true),
];

#[tokio::test]
async fn a_handler_that_ends_the_transaction_of_a_lane_keeps_nothing() {
    on_store(async |fixture: Fixture, store: Postgres| {
        for (ending, fails) in ENDINGS {
            let sql = fixture.sql(ending);
            let (failed, ended) = in_a_lane(&fixture, &store, async |tx: &mut PgConnection| {
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(tx).await.map(drop)
            })
            .await;
            // PREPARE TRANSACTION is refused by a server that has none, before the guard is asked.
            if fails && !ending.starts_with("prepare") {
                assert_eq!(failed, Some(Fault::HandlerBroke), "{ending}");
            }
            is_the_handlers_bug(&ended.unwrap_err());
        }
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_without_kafka_keeps_nothing() {
    on_store(async |fixture: Fixture, store: Postgres| {
        for (ending, fails) in ENDINGS {
            let sql = fixture.sql(ending);
            let mistake = async |tx: &mut PgConnection| {
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(tx).await.map(drop)
            };
            is_the_handlers_bug(&directly(&fixture, &store, mistake, true).await);
            if fails && !ending.starts_with("prepare") {
                is_the_handlers_bug(&directly(&fixture, &store, mistake, false).await);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_written_after_the_transaction_was_ended_is_refused() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let effect = fixture.sql("insert into {schema}.effects values (7)");
        for ending in ["commit", "rollback"] {
            let (failed, ended) = in_a_lane(&fixture, &store, async |tx: &mut PgConnection| {
                let _ = tx.execute(ending).await;
                tx.execute(sqlx::AssertSqlSafe(effect.clone())).await.map(drop)
            })
            .await;
            // 25006: the session is read-only outside of idem's transaction.
            assert_eq!(failed, Some(Fault::HandlerBroke), "{ending}");
            is_the_handlers_bug(&ended.unwrap_err());
        }
    })
    .await;
}

#[tokio::test]
async fn a_swallowed_error_is_found_at_the_seal() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mistake = async |tx: &mut PgConnection| {
            let _ = tx.execute("select 1 / 0").await;
            Ok(())
        };
        let (_, ended) = in_a_lane(&fixture, &store, mistake).await;
        let error = ended.unwrap_err();
        is_the_handlers_bug(&error);
        assert!(error.to_string().contains("went on without returning"), "{error}");
        is_the_handlers_bug(&directly(&fixture, &store, mistake, true).await);

        // What comes after it in the handler says that it is not the first error.
        let (failed, _) = in_a_lane(&fixture, &store, async |tx: &mut PgConnection| {
            let _ = tx.execute("select 1 / 0").await;
            tx.execute("select 1").await.map(drop)
        })
        .await;
        assert_eq!(failed, Some(Fault::HandlerBroke));
    })
    .await;
}

#[tokio::test]
async fn an_error_that_is_returned_is_the_handlers_own() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mistake = async |tx: &mut PgConnection| tx.execute("select 1 / 0").await.map(drop);
        let error = directly(&fixture, &store, mistake, false).await;
        assert_eq!(error.kind(), ErrorKind::Handler);
        let (failed, _) = in_a_lane(&fixture, &store, mistake).await;
        assert_eq!(failed, Some(Fault::Permanent));
    })
    .await;
}

#[tokio::test]
async fn savepoints_work_as_they_do_anywhere() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let insert = fixture.sql("insert into {schema}.effects values (1)");
        let insert = || sqlx::AssertSqlSafe(insert.clone());
        let outcome = store
            .process_if_new("bill", "a", async |tx: &mut PgConnection| {
                let mut kept = tx.begin().await?;
                kept.execute(insert()).await?;
                kept.commit().await?;
                let mut undone = tx.begin().await?;
                undone.execute(insert()).await?;
                undone.rollback().await?;
                let mut failing = tx.begin().await?;
                let failed = failing.execute("select 1 / 0").await;
                assert!(failed.is_err());
                // Undone by being dropped.
                drop(failing);
                tx.execute("savepoint mine").await?;
                tx.execute(insert()).await?;
                tx.execute("release mine").await?;
                Ok::<_, Failure>(())
            })
            .await
            .unwrap();
        assert!(outcome.is_processed());
        assert_eq!((fixture.markers().await, fixture.effects().await), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_savepoint_that_is_left_open_is_not_taken_for_the_commit() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mistake = async |tx: &mut PgConnection| {
            std::mem::forget(tx.begin().await?);
            Ok(())
        };
        is_the_handlers_bug(&directly(&fixture, &store, mistake, true).await);

        // Not a connection that broke, though it is not kept.
        let held = fixture.lane(&store, 0).await;
        let (mut tx, _) = open_batch(&store, &held, &["a"]).await.unwrap();
        mistake(lend(&mut tx)).await.unwrap();
        assert!(store.rollback(tx).await);
    })
    .await;
}

#[tokio::test]
async fn the_guard_does_not_mind_deferred_constraints_and_reports_them_by_name() {
    on_store(async |fixture: Fixture, store: Postgres| {
        fixture
            .run(
                "create table {schema}.parents (id bigint primary key);
                 create table {schema}.children (
                     parent bigint constraint children_have_parents
                     references {schema}.parents deferrable initially deferred)",
            )
            .await;
        let child = fixture.sql("insert into {schema}.children values (4711)");
        let checked = fixture.sql("set constraints {schema}.children_have_parents immediate");
        let run = async |check: bool| {
            store
                .process_if_new("bill", "a", async |tx: &mut PgConnection| {
                    tx.execute(sqlx::AssertSqlSafe(child.clone())).await?;
                    if check {
                        tx.execute(sqlx::AssertSqlSafe(checked.clone())).await?;
                    }
                    Ok::<_, Failure>(())
                })
                .await
        };
        let error = run(false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("children_have_parents"), "{error}");
        assert!(!error.report().contains("4711"), "{}", error.report());
        assert_eq!(run(true).await.unwrap_err().kind(), ErrorKind::Handler);
        fixture.run("insert into {schema}.parents values (4711)").await;
        assert!(run(true).await.unwrap().is_processed());
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_was_not_sealed_is_not_committed() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        let (mut tx, _) = open_batch(&store, &held, &["a"]).await.unwrap();
        let writer = Writer::Lane(&held);
        assert_eq!(store.seal(&mut tx, &writer, Some(&seal_at(1))).await.unwrap(), Sealed::Yes);
        // The seal is the last statement: lending again undoes it.
        lend(&mut tx).execute("select 1").await.unwrap();
        is_the_handlers_bug(&store.commit(tx).await.unwrap_err());
        fixture.until("the transaction ends", "select count(*) from {schema}.markers", 0).await;
        nothing_is_kept(&fixture, &store, &held).await;
    })
    .await;
}

#[tokio::test]
async fn the_guards_table_is_small_and_leaves_nothing_behind() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        for n in 0..600 {
            common::batch(&store, &mut held, &[&n.to_string()]).await.unwrap();
        }
        assert_eq!(fixture.number("select count(*) from {schema}.open_batches").await, 0);
        let pages = "select pg_relation_size('{schema}.open_batches') / 8192";
        let pages = fixture.number(pages).await;
        // 600 rows fill three; a vacuum or a reader elsewhere may add some.
        assert!(pages < 20, "{pages} pages");
        assert_eq!(fixture.number("select revision from {schema}.lanes").await, 600);
    })
    .await;
}
