//! Files that an earlier release has written.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::{Fixture, lane, owner};
use idem_runtime::lane::{AttemptRow, Position};
use idem_runtime::store::PackedMarkers as _;
use idem_runtime::{ErrorKind, Key, MarkerState, Store};
use idem_sqlite::Sqlite;
use sqlx::{AssertSqlSafe, Executor as _};

/// As the first release leaves it: with a lane that was worked, a mark of offset mode, and markers.
async fn first_release(fixture: &Fixture) {
    let mut tool = fixture.outside().await;
    let first = Sqlite::migrations("idem_").unwrap().swap_remove(0);
    tool.execute(AssertSqlSafe(first.sql)).await.unwrap();
    tool.execute(
        "insert into idem_lanes (lane_id, group_name, topic, partition, position, revision, token,
             owner_id, owner_name, attempt_offset, attempt_at, attempts_died)
         values (7, 'billing', 'orders', 0, 42, 9, '6f6f6f6f-0000-4000-8000-000000000001',
             'somebody', 'before', 41, 1700000000000, 2),
             (99, 'billing', 'gone', 0, 0, 0, '6f6f6f6f-0000-4000-8000-000000000001',
             null, null, null, null, 0);
         delete from idem_lanes where lane_id = 99;
         insert into idem_offset_marks values (7, 'audit', 40);
         insert into idem_markers (scope, event_key, processed_at, lane_id, source_offset)
         values ('bill', 'a', 1700000000000, 7, 41), ('bill', 'b', 1700000000000, null, null);
         insert into idem_scopes (scope, group_name, mode) values ('bill', 'billing', 'rows')",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_file_of_the_first_release_keeps_what_it_has() {
    let fixture = Fixture::new();
    first_release(&fixture).await;
    let store = fixture.store().await;
    let identity: String = sqlx::query_scalar("select id from idem_store")
        .fetch_one(&mut fixture.outside().await)
        .await
        .unwrap();
    let behind = store.check().await.unwrap_err();
    assert_eq!(behind.kind(), ErrorKind::Migration);
    assert!(
        behind.to_string().contains(
            "3 (marker_details), 4 (instances), 5 (packed), 6 (packed_upkeep), \
             7 (letter_edits), 8 (former_forms) pending"
        ),
        "{behind}"
    );

    store.migrate().await.unwrap();
    assert_eq!(store.check().await.unwrap().to_string(), identity);
    let marker = store.marker("bill", &Key::new("a").unwrap()).await.unwrap().unwrap();
    assert_eq!(marker.state, MarkerState::Processed);
    assert_eq!(marker.origin.unwrap().offset, 41);
    assert!(store.is_processed("bill", "b").await.unwrap());
    store.digest_key().await.unwrap();
    assert_eq!(fixture.number("select length(digest_key) from idem_store").await, 16);

    let rows = store.lanes("billing", "orders").await.unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.number, row.position, row.revision), (7, Position::at(42), 9));
    assert_eq!(row.offset_marks["audit"], 40);
    assert_eq!((row.deaths, &row.attempts, &row.parked), (2, &vec![], &vec![]));

    // A number that was given away is not given to another lane: markers name it.
    fixture
        .run("insert into idem_lanes (group_name, topic, partition, position) values ('a', 'b', 0, 0)")
        .await;
    assert_eq!(fixture.number("select max(lane_id) from idem_lanes").await, 100);
}

#[tokio::test]
async fn a_lane_of_the_first_release_is_worked_on() {
    let fixture = Fixture::new();
    first_release(&fixture).await;
    let store = fixture.store().await;
    store.migrate().await.unwrap();
    let row = store.take(&lane(), &owner("after")).await.unwrap().unwrap();
    // Its owner has no heartbeat: it died.
    assert_eq!((row.position, row.deaths), (Position::at(42), 3));
    let held = row.held();
    let attempt = AttemptRow {
        scope: String::new(),
        offset: 42,
        failures: 1,
        first_failed_at: std::time::SystemTime::UNIX_EPOCH,
        open: true,
        deaths: 0,
    };
    assert!(store.note_attempt(&held, &attempt).await.unwrap());
    assert_eq!(store.read(&held).await.unwrap().unwrap().attempts, [attempt]);
    assert_eq!(store.cut(&held, 2).await.unwrap(), Some(vec![0, 0]));
}

#[tokio::test]
async fn a_view_of_somebody_else_that_is_broken_stops_the_upgrade_and_is_named() {
    let fixture = Fixture::new();
    first_release(&fixture).await;
    fixture.run("create view monthly as select * from thrown_away").await;
    let store = fixture.store().await;
    let error = store.migrate().await.unwrap_err();
    assert!(error.report().contains("view monthly"), "{error:?}");
    assert_eq!(fixture.number("select count(*) from idem_migrations").await, 1);

    fixture.run("drop view monthly").await;
    store.migrate().await.unwrap();
    store.check().await.unwrap();
}
