//! Behind PgBouncer in transaction mode.
//!
//! PGBOUNCER_URL names one for the database of DATABASE_URL. Without it these tests run against the
//! server itself: the statements are the same, only nobody changes sessions below them.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::str::FromStr as _;

use common::{Fixture, batch, lend, on_store, take};
use idem_postgres::Postgres;
use idem_runtime::store::{Terms, Writer};
use idem_runtime::{ErrorKind, Failure, MarkerMode, Registration, Store};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

async fn pooled(fixture: &Fixture) -> Postgres {
    let url = std::env::var("PGBOUNCER_URL").unwrap_or_else(|_| common::url());
    let options = PgConnectOptions::from_str(&url).unwrap();
    Postgres::builder_with(options).schema(&fixture.schema).pgbouncer(true).connect().await.unwrap()
}

#[tokio::test]
async fn everything_works_without_session_settings_and_named_statements() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        fixture.run("drop table {schema}.effects; drop schema {schema} cascade").await;
        let store = pooled(&fixture).await;
        assert_eq!(store.check().await.unwrap_err().kind(), ErrorKind::Migration);
        store.migrate().await.unwrap();
        store.migrate().await.unwrap();
        store.check().await.unwrap();
        fixture.run("create table {schema}.effects (n bigint not null)").await;

        let scopes = [("bill", MarkerMode::Rows)];
        let registration =
            Registration { group: "billing", scopes: &scopes, adopt: &[], retire: &[] };
        store.register(&registration).await.unwrap();
        // More lanes than server connections, side by side.
        let mut lanes = tokio::task::JoinSet::new();
        for partition in 0..8 {
            let mut held = fixture.lane(&store, partition).await;
            let store = store.clone();
            lanes.spawn(async move {
                for n in 0..10 {
                    let own = format!("{partition}-{n}");
                    let shared = format!("shared-{n}");
                    batch(&store, &mut held, &[&own, &shared]).await.unwrap();
                }
                let owner = common::owner("a test");
                assert_eq!(store.observe(&owner, &[held.number]).await.unwrap().len(), 1);
                store.release(&held).await.unwrap();
            });
        }
        lanes.join_all().await;
        assert_eq!((fixture.markers().await, fixture.effects().await), (90, 90));
        assert_eq!(take(&store, 0).await.revision, 10);
        assert!(store.is_processed("bill", "shared-3").await.unwrap());
        assert!(store.mark_processed("bill", "new", None).await.unwrap().is_processed());
    })
    .await;
}

#[tokio::test]
async fn limits_are_set_in_the_transaction() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let store = pooled(&fixture).await;
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        for (setting, expected) in [
            ("lock_timeout", "5s"),
            ("statement_timeout", "1min"),
            ("idle_in_transaction_session_timeout", "10s"),
        ] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .persistent(false)
                .fetch_one(lend(&mut tx))
                .await
                .unwrap();
            assert_eq!(value, expected, "{setting}");
        }
        store.rollback(tx).await;
    })
    .await;
}

#[tokio::test]
async fn a_handlers_commit_fails_there_too() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let store = pooled(&fixture).await;
        let effect = fixture.sql("insert into {schema}.effects values (1)");
        for ending in ["commit", "rollback", "commit and chain", "rollback and chain"] {
            let error = store
                .process_if_new("bill", "a", async |tx: &mut PgConnection| {
                    sqlx::raw_sql(AssertSqlSafe(effect.clone())).execute(&mut *tx).await?;
                    let _ = sqlx::raw_sql(AssertSqlSafe(ending)).execute(tx).await;
                    Ok::<_, Failure>(())
                })
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerBroke, "{ending}: {error:?}");
            assert_eq!((fixture.markers().await, fixture.effects().await), (0, 0), "{ending}");
        }
    })
    .await;
}
