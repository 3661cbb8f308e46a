//! Behind PgBouncer in transaction mode.
//!
//! PGBOUNCER_URL names one for the database of DATABASE_URL. Without it these tests run against the
//! server itself: the statements are the same, only nobody changes sessions below them.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::str::FromStr as _;

use common::letters::{event, give_up, letters, settle};
use common::{Fixture, batch, finish, key, lend, on_store, take};
use idem_postgres::Postgres;
use idem_runtime::lane::{AttemptRow, Held, Slice};
use idem_runtime::store::{Claim, Claimed, Terms, Writer};
use idem_runtime::{
    ErrorKind, Failure, IsolationLevel, LetterAction, LetterState, MarkerMode, MarkerState,
    Registration, Store,
};
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
        let registration = Registration {
            group: "billing",
            scopes: &scopes,
            windows: &[],
            adopt: &[],
            retire: &[],
            broadcast: None,
        };
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
async fn failures_and_slices_work_there_too() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let store = pooled(&fixture).await;
        let mut held = fixture.lane(&store, 0).await;
        for (offset, state) in [(1, LetterState::Parked), (2, LetterState::Waiting)] {
            give_up(&store, &mut held, &event(offset, b"k"), state).await.unwrap();
        }
        let first = letters(&store).await.remove(0);
        assert_eq!(store.unforwarded(&[held.number], 9).await.unwrap().len(), 1);
        store.forwarded(&[first.id]).await.unwrap();
        settle(&store, first.id, LetterAction::Replayed).await.unwrap();
        assert_eq!(store.history(first.id).await.unwrap().len(), 1);

        let next = store.released(&held, 0, 9).await.unwrap().remove(0);
        for isolation in [IsolationLevel::ReadCommitted, IsolationLevel::Serializable] {
            let limit = std::time::Duration::from_secs(1);
            let terms = Terms { isolation, statement_timeout: Some(limit), ..Terms::default() };
            let writer = Writer::Lane(&held);
            let mut tx = store.begin(&writer, &terms).await.unwrap();
            let key = key("e2");
            let claim =
                Claim { state: MarkerState::Dead, reclaim: true, ..Claim::new("bill", &key) };
            let claimed = store.claim(&mut tx, &writer, &[claim]).await.unwrap();
            assert_eq!(claimed, Claimed::Keys(vec![true]));
            let given_up = store.given_up(&mut tx, &[("bill", &key)]).await.unwrap();
            assert_eq!(given_up[0].unwrap().state, MarkerState::Dead);
            store.parked(&mut tx, &held, &[("bill", b"k")]).await.unwrap();
            store.unpark(&mut tx, &held, &[next.id]).await.unwrap();
            store.forget_attempts(&mut tx, &held, &[2], true).await.unwrap();
            finish(&store, tx, &mut held).await.unwrap();
        }
        assert!(store.read(&held).await.unwrap().unwrap().parked.is_empty());

        let first_failed_at = std::time::SystemTime::now();
        let (scope, offset) = ("bill".to_owned(), 3);
        let (failures, open, deaths) = (1, true, 0);
        let attempt = AttemptRow { scope, offset, failures, first_failed_at, open, deaths };
        assert!(store.note_attempt(&held, &attempt).await.unwrap());
        assert_eq!(store.cut(&held, 2).await.unwrap(), Some(vec![0, 0]));
        let slice = Some(Slice { index: 1, of: 2 });
        let mut slice = Held { slice, revision: 0, ..held.clone() };
        batch(&store, &mut slice, &["s"]).await.unwrap();
        assert_eq!(store.read(&slice).await.unwrap().unwrap().revision, 1);
        assert_eq!(take(&store, 0).await.revision, held.revision);
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
