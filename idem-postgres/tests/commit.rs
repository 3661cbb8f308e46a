//! A commit whose answer is lost, and a store that says what it knows and no more.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::proxy::Proxy;
use common::{Fixture, lend, on_store, open_batch, options, seal_at};
use idem_postgres::Postgres;
use idem_runtime::lane::Standing;
use idem_runtime::store::{Fault, Writer};
use idem_runtime::{ErrorKind, Outcome, Store};
use sqlx::{Executor as _, PgConnection};

async fn through(proxy: &Proxy, fixture: &Fixture) -> Postgres {
    let options = proxy.options(&options());
    Postgres::builder_with(options).schema(&fixture.schema).connect().await.unwrap()
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_lanes_row_tells() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let proxy = Proxy::to(&options()).await;
        let store = through(&proxy, &fixture).await;
        for (lands, partition) in [(true, 0), (false, 1)] {
            let held = fixture.lane(&store, partition).await;
            let key = partition.to_string();
            let (mut tx, _) = open_batch(&store, &held, &[&key]).await.unwrap();
            store.seal(&mut tx, &Writer::Lane(&held), Some(&seal_at(1))).await.unwrap();
            if lands {
                proxy.cut_after_commit()
            } else {
                proxy.cut_before_commit()
            }
            let error = store.commit(tx).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownCommit, "{error:?}");

            // Taking the lane waits for the transaction, if the server is still at it.
            let standing = async || {
                let row = store.read(&held).await.unwrap().unwrap();
                held.standing(Some((row.token, row.revision)))
            };
            if lands {
                let moved = format!(
                    "select revision from {{schema}}.lanes where lane_id = {}",
                    held.number
                );
                fixture.until("the commit lands", &moved, 1).await;
                assert_eq!(standing().await, Standing::Ahead);
            } else {
                assert_eq!(standing().await, Standing::Held);
            }
        }
        assert_eq!((fixture.markers().await, fixture.effects().await), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_caller_whose_commit_was_lost_is_told_that_it_did_the_work() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let proxy = Proxy::to(&options()).await;
        let store = through(&proxy, &fixture).await;
        let effect = fixture.sql("insert into {schema}.effects values (1)");
        let call = async |key: &'static str| {
            store
                .process_if_new("bill", key, async |tx: &mut PgConnection| {
                    tx.execute(sqlx::AssertSqlSafe(effect.clone())).await?;
                    Ok(())
                })
                .await
        };
        proxy.cut_after_commit();
        assert_eq!(call("a").await.unwrap(), Outcome::Processed(()));
        assert_eq!(call("a").await.unwrap(), Outcome::Duplicate(None));

        proxy.cut_before_commit();
        let error = call("b").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
        assert_eq!(call("b").await.unwrap(), Outcome::Processed(()));
        assert_eq!((fixture.markers().await, fixture.effects().await), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn a_failed_transaction_cannot_look_committed() {
    on_store(async |fixture: Fixture, store: Postgres| {
        // What sqlx says of a COMMIT that the server answers with ROLLBACK: nothing.
        let mut plain = fixture.app.begin().await.unwrap();
        assert!(plain.execute("select 1 / 0").await.is_err());
        plain.commit().await.unwrap();

        // Hence the seal, which cannot succeed in such a transaction, and a commit that asks for it.
        let held = fixture.lane(&store, 0).await;
        let (mut tx, _) = open_batch(&store, &held, &["a"]).await.unwrap();
        let writer = Writer::Lane(&held);
        store.seal(&mut tx, &writer, Some(&seal_at(1))).await.unwrap();
        assert!(lend(&mut tx).execute("select 1 / 0").await.is_err());
        assert_eq!(store.commit(tx).await.unwrap_err().kind(), ErrorKind::HandlerBroke);
        assert_eq!(fixture.markers().await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_serialization_failure_in_the_commit_is_known_and_passes() {
    on_store(async |fixture: Fixture, store: Postgres| {
        fixture
            .run(
                "create function {schema}.unlucky() returns trigger language plpgsql as
                 $$ begin raise exception using errcode = '40001'; end $$;
                 create constraint trigger unlucky after insert on {schema}.effects
                 deferrable initially deferred for each row execute function {schema}.unlucky()",
            )
            .await;
        let held = fixture.lane(&store, 0).await;
        let (mut tx, _) = open_batch(&store, &held, &["a"]).await.unwrap();
        store.seal(&mut tx, &Writer::Lane(&held), Some(&seal_at(1))).await.unwrap();
        assert_eq!(store.commit(tx).await.unwrap_err().kind(), ErrorKind::Transient);
        assert_eq!(fixture.markers().await, 0);
    })
    .await;
}

#[tokio::test]
async fn faults_of_a_handlers_statements_are_told_by_sqlstate() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        let raise = |code: &str| {
            format!("do $$ begin raise exception using errcode = '{code}', message = 'x'; end $$")
        };
        for (sql, fault) in [
            (raise("40001"), Fault::Transient),
            (raise("40P01"), Fault::Transient),
            (raise("55P03"), Fault::Transient),
            (raise("23505"), Fault::Permanent),
            ("select 'x'::int".to_owned(), Fault::Permanent),
            ("select 1 / 0".to_owned(), Fault::Permanent),
            // The parent may be on its way.
            (raise("23503"), Fault::Handler),
            (raise("P0001"), Fault::Handler),
            // Too slow, every time: that is the handler's.
            ("set local statement_timeout = 5; select pg_sleep(60)".to_owned(), Fault::Handler),
            ("select pg_terminate_backend(pg_backend_pid())".to_owned(), Fault::Lost),
            ("select 1; commit".to_owned(), Fault::HandlerBroke),
        ] {
            let (mut tx, _) = open_batch(&store, &held, &["a"]).await.unwrap();
            let failed =
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone())).execute(lend(&mut tx)).await;
            assert_eq!(Postgres::fault(&failed.unwrap_err()), fault, "{sql}");
            let is_good = store.rollback(tx).await;
            assert_eq!(is_good, fault != Fault::Lost, "{sql}");
        }
        assert_eq!(fixture.markers().await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_is_idle_for_too_long_is_ended_by_the_server() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let store = fixture
            .builder()
            .idle_in_transaction_timeout(std::time::Duration::from_millis(100))
            .connect()
            .await
            .unwrap();
        let held = fixture.lane(&store, 0).await;
        let (mut tx, _) = open_batch(&store, &held, &["a"]).await.unwrap();
        let sessions = format!(
            "select count(*) from pg_stat_activity where application_name = '{}'",
            common::lane_name(&held)
        );
        fixture.until("the session is ended", &sessions, 0).await;
        let late = store.seal(&mut tx, &Writer::Lane(&held), Some(&seal_at(1))).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Transient);
    })
    .await;
}
