//! How long a statement may take.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::time::{Duration, Instant};

use common::{Fixture, claim, on_store, options, url};
use idem_postgres::Postgres;
use idem_runtime::store::{Terms, Writer};
use idem_runtime::{ErrorKind, Store};
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

/// Begins with a limit and asks which one there is.
async fn limit(store: &Postgres, limit: Duration) -> String {
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    let terms = Terms { statement_timeout: Some(limit), ..Terms::default() };
    let mut tx = store.begin(&writer, &terms).await.unwrap();
    let value = sqlx::query_scalar("select current_setting('statement_timeout')")
        .fetch_one(common::lend(&mut tx))
        .await
        .unwrap();
    store.rollback(tx).await;
    value
}

#[tokio::test]
async fn terms_shorten_the_limit_of_a_statement_and_never_lengthen_it() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let (short, long) = (Duration::from_millis(1500), Duration::from_secs(600));
        assert_eq!(limit(&store, short).await, "1500ms");
        assert_eq!(limit(&store, long).await, "1min");
        for (users, with_short, with_long) in
            [("3s", "1500ms", "3s"), ("20ms", "20ms", "20ms"), ("0", "1500ms", "10min")]
        {
            let options = options().options([("statement_timeout", users)]);
            let store = Postgres::builder_with(options).schema(&fixture.schema);
            let store = store.connect().await.unwrap();
            assert_eq!(limit(&store, short).await, with_short, "{users}");
            assert_eq!(limit(&store, long).await, with_long, "{users}");
        }
        let endless = fixture.builder().statement_timeout(None).connect().await.unwrap();
        assert_eq!(limit(&endless, long).await, "10min");
    })
    .await;
}

#[tokio::test]
async fn a_statement_limit_ends_a_claim_that_is_stuck() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        let mut other = sqlx::PgConnection::connect(&url()).await.unwrap();
        let sql = fixture.sql(
            "begin; insert into {schema}.markers (marker_id, scope, event_key) \
                 values ({schema}.marker_id('bill', 'stuck'), 'bill', 'stuck')",
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut other).await.unwrap();
        let limit = Duration::from_millis(50);
        let terms = Terms { statement_timeout: Some(limit), ..Terms::default() };
        let began = Instant::now();
        let writer = Writer::Lane(&held);
        let mut tx = store.begin(&writer, &terms).await.unwrap();
        let error = claim(&store, &mut tx, &writer, &["stuck"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
        // Sooner than `lock_timeout`.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(store.rollback(tx).await, "the connection is good");
        other.execute("rollback").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_transaction_whose_handler_works_elsewhere_is_not_ended_for_being_idle() {
    on_store(async |_fixture: Fixture, store: Postgres| {
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        // One after the other on the same connections: what is set in one is not left for the next.
        for (outside, expected) in [(false, "10s"), (true, "0"), (false, "10s")] {
            let terms = Terms { outside, ..Terms::default() };
            let mut tx = store.begin(&writer, &terms).await.unwrap();
            let asked = "select current_setting('idle_in_transaction_session_timeout')";
            let limit: String =
                sqlx::query_scalar(asked).fetch_one(common::lend(&mut tx)).await.unwrap();
            assert_eq!(limit, expected, "outside: {outside}");
            store.rollback(tx).await;
        }
    })
    .await;
}
