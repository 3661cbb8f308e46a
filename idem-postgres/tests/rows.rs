//! What stands in the rows: lanes, scopes, markers, as people and operators see them.

mod common;

use std::time::{Duration, Instant, SystemTime};

use common::{Fixture, batch, claim, key, on_store, open_batch, take};
use idem_postgres::Postgres;
use idem_runtime::lane::{LogIdentity, Position};
use idem_runtime::store::{Fault, NewLog, Opening, Reposition, Seal, Sealed, Terms, Writer};
use idem_runtime::{ErrorKind, MarkerMode, Origin, Registration, Store};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

#[tokio::test]
async fn a_marker_names_its_origin_and_keeps_its_metadata() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 3).await;
        batch(&store, &mut held, &["a", "b"]).await.unwrap();
        let marker = store.marker("bill", &key("b")).await.unwrap().unwrap();
        let origin =
            Origin { group: "billing".into(), topic: "orders".into(), partition: 3, offset: 1 };
        assert_eq!((marker.origin, marker.attempt, marker.metadata), (Some(origin), None, None));
        let age = SystemTime::now().duration_since(marker.processed_at).unwrap_or_default();
        assert!(age < Duration::from_secs(600), "{age:?}");

        let metadata = serde_json::json!({ "order": 7, "who": "Zoë" });
        let marked = store.mark_processed("bill", "c", Some(metadata.clone())).await.unwrap();
        assert!(marked.is_processed());
        let marker = store.marker("bill", &key("c")).await.unwrap().unwrap();
        assert_eq!((marker.origin, marker.metadata), (None, Some(metadata)));
        assert!(marker.attempt.is_some());
        assert_eq!(store.marker("bill", &key("d")).await.unwrap(), None);
        assert_eq!(store.marker("ship", &key("a")).await.unwrap(), None);

        let seen = "
            select count(*) from {schema}.processed_events
            where scope = 'bill' and event_key = 'b' and state = 'processed'
              and group_name = 'billing' and topic = 'orders' and partition = 3 and \"offset\" = 1";
        assert_eq!(fixture.number(seen).await, 1);
    })
    .await;
}

#[tokio::test]
async fn what_offset_mode_remembers_does_not_go_down_unless_the_log_is_another() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        for offset in [10, 4] {
            let (mut tx, _) = open_batch(&store, &held, &[]).await.unwrap();
            let seal = Seal { position: Position::at(offset), offset_scopes: &["ship", "bill"] };
            let sealed = store.seal(&mut tx, &Writer::Lane(&held), Some(&seal)).await.unwrap();
            assert_eq!(sealed, Sealed::Yes);
            store.commit(tx).await.unwrap();
            held = store.read(&held).await.unwrap().unwrap().held();
        }
        let row = store.read(&held).await.unwrap().unwrap();
        assert_eq!(row.position.offset, 4);
        assert_eq!((row.offset_marks["ship"], row.offset_marks["bill"]), (10, 10));

        let identity = LogIdentity { cluster_id: Some("c".into()), topic_id: Some("t2".into()) };
        let to = |new_log: bool| Reposition {
            position: Position { offset: 2, leader_epoch: Some(5) },
            identity: &identity,
            new_log: new_log.then_some(NewLog::Another),
            slices: &[],
        };
        assert!(store.reposition(&held, &to(false)).await.unwrap());
        assert!(!store.reposition(&held, &to(false)).await.unwrap(), "its revision is older now");
        let row = store.read(&held).await.unwrap().unwrap();
        assert_eq!((row.position, row.identity.clone()), (to(false).position, identity.clone()));
        assert_eq!(row.offset_marks.len(), 2);
        assert!(store.reposition(&row.held(), &to(true)).await.unwrap());
        let row = store.read(&held).await.unwrap().unwrap();
        assert!(row.offset_marks.is_empty());
        assert_eq!((row.floor, row.revision), (0, held.revision + 2));
    })
    .await;
}

#[tokio::test]
async fn a_topic_is_opened_as_a_whole_and_once() {
    on_store(async |_fixture: Fixture, store: Postgres| {
        let identity = LogIdentity { cluster_id: Some("c".into()), topic_id: None };
        let lanes: Vec<(i32, Position)> =
            (0..40).rev().map(|n| (n, Position { offset: 5, leader_epoch: Some(1) })).collect();
        let mut openers = tokio::task::JoinSet::new();
        for n in 0..4 {
            let (store, identity, mut lanes) = (store.clone(), identity.clone(), lanes.clone());
            lanes.rotate_left(n * 7);
            openers.spawn(async move {
                let opening =
                    Opening { group: "g", topic: "t", identity: &identity, lanes: &lanes };
                store.open_topic(&opening).await
            });
        }
        for opened in openers.join_all().await {
            opened.unwrap();
        }
        let rows = store.lanes("g", "t").await.unwrap();
        assert_eq!(rows.len(), 40);
        assert!(rows.iter().enumerate().all(|(n, row)| row.id.partition == n as i32));
        assert!(rows.iter().all(|row| row.token.is_nil() && row.revision == 0));
        assert_eq!(rows[0].position, Position { offset: 5, leader_epoch: Some(1) });
        assert_eq!(rows[0].identity, identity);
        assert!(store.lanes("g", "other").await.unwrap().is_empty());
        assert!(store.lanes("other", "t").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn looking_at_lanes_waits_for_no_lock() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        let owner = common::owner("host:1");
        let observed = store.observe(&owner, &[held.number, 999]).await.unwrap();
        assert_eq!(observed.len(), 1);
        assert_eq!((observed[0].token, observed[0].revision), (held.token, held.revision));
        // The one that took the lane, and the one that looked.
        assert_eq!(fixture.number("select count(*) from {schema}.owners").await, 2);

        let mut other = PgConnection::connect(&common::url()).await.unwrap();
        let locks = fixture.sql(
            "begin; select from {schema}.owners for update; select from {schema}.lanes for update",
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(locks)).execute(&mut other).await.unwrap();
        let began = Instant::now();
        let observed = store.observe(&owner, &[held.number]).await.unwrap();
        assert_eq!(observed[0].token, held.token);
        // Less than `lock_timeout`, which is what it would wait for the heartbeat's row.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        other.execute("rollback").await.unwrap();

        let before = "select count(*) from {schema}.owners where heartbeat_at > started_at";
        store.observe(&owner, &[]).await.unwrap();
        assert_eq!(fixture.number(before).await, 1);
    })
    .await;
}

#[tokio::test]
async fn only_the_holder_of_a_lane_releases_it() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let former = fixture.lane(&store, 0).await;
        let held = take(&store, 0).await;
        let released = "select count(*) from {schema}.lanes where released_at is not null";
        store.release(&former).await.unwrap();
        assert_eq!(fixture.number(released).await, 0);
        store.release(&held).await.unwrap();
        assert_eq!(fixture.number(released).await, 1);
        take(&store, 0).await;
        assert_eq!(fixture.number(released).await, 0);
        let named = "select count(*) from {schema}.lanes
                     where owner_name = 'a test' and owner_id is not null and taken_at is not null";
        assert_eq!(fixture.number(named).await, 1);
    })
    .await;
}

async fn register(
    store: &Postgres,
    group: &str,
    scopes: &[&str],
    adopt: &[&str],
    retire: &[&str],
) -> idem_runtime::Result<()> {
    let scopes: Vec<_> = scopes.iter().map(|scope| (*scope, MarkerMode::Rows)).collect();
    let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let (adopt, retire) = (owned(adopt), owned(retire));
    let registration = Registration {
        group,
        scopes: &scopes,
        windows: &[],
        adopt: &adopt,
        retire: &retire,
        broadcast: None,
    };
    store.register(&registration).await
}

#[tokio::test]
async fn a_scope_has_one_group_until_another_adopts_it() {
    on_store(async |fixture: Fixture, store: Postgres| {
        register(&store, "g", &["a", "b"], &[], &[]).await.unwrap();
        register(&store, "g", &["a", "b"], &[], &[]).await.unwrap();
        let error = register(&store, "h", &["c", "a"], &[], &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Scope);
        let all = "select count(*) from {schema}.scopes";
        assert_eq!(fixture.number(all).await, 2, "nothing is recorded when something is refused");

        // Retired, and not asked for again; and back.
        register(&store, "g", &["a", "c"], &[], &["b"]).await.unwrap();
        let retired = "select count(*) from {schema}.scopes where state = 'retired'";
        assert_eq!(fixture.number(retired).await, 1);
        register(&store, "g", &["a", "d"], &[], &["c"]).await.unwrap();
        register(&store, "g", &["a", "b", "c", "d"], &[], &[]).await.unwrap();
        assert_eq!(fixture.number(retired).await, 0);

        register(&store, "h", &["a"], &["a"], &[]).await.unwrap();
        assert_eq!(
            register(&store, "g", &["a", "b", "c", "d"], &[], &[]).await.unwrap_err().kind(),
            ErrorKind::Scope
        );
    })
    .await;
}

#[tokio::test]
async fn of_two_groups_that_bring_a_new_scope_at_once_one_is_refused() {
    on_store(async |_fixture: Fixture, store: Postgres| {
        let mut groups = tokio::task::JoinSet::new();
        for n in 0..8 {
            let store = store.clone();
            groups.spawn(async move { register(&store, &format!("g{n}"), &["a"], &[], &[]).await });
        }
        let answers = groups.join_all().await;
        let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 7);
        assert!(refused.iter().all(|error| error.kind() == ErrorKind::Scope), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_mode_of_a_later_release_is_not_overwritten() {
    on_store(async |fixture: Fixture, store: Postgres| {
        register(&store, "g", &["a"], &[], &[]).await.unwrap();
        fixture
            .run(
                "alter table {schema}.scopes drop constraint scopes_mode_known;
                 update {schema}.scopes set mode = 'carved'",
            )
            .await;
        let error = register(&store, "g", &["a"], &[], &[]).await.unwrap_err();
        assert!(error.to_string().contains("`carved`"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_marker_takes_about_170_bytes_with_its_index() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        for _ in 0..20 {
            let keys: Vec<String> = (0..500).map(|_| Uuid::new_v4().to_string()).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            batch(&store, &mut held, &keys).await.unwrap();
        }
        let size = "select pg_total_relation_size('{schema}.markers') / 10000";
        let size = fixture.number(size).await;
        assert!((120..230).contains(&size), "{size} bytes a marker");
    })
    .await;
}

#[tokio::test]
async fn a_result_that_the_database_refuses_is_at_fault_itself() {
    on_store(async |_: Fixture, store: Postgres| {
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        claim(&store, &mut tx, &writer, &["a"]).await.unwrap();
        // Not by way of a handler, whose results are looked at before.
        let (key, value) = (key("a"), serde_json::json!("a\0"));
        let error = store.keep_results(&mut tx, &[("bill", &key, &value)]).await.unwrap_err();
        assert!(!error.is_retryable(), "{error:?}");
        assert_eq!((error.kind(), Postgres::fault(&error)), (ErrorKind::Store, Fault::Permanent));
        assert!(store.rollback(tx).await, "the connection is good");
    })
    .await;
}
