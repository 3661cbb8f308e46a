//! Processes that die holding a lane.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::{Fixture, held, lane, owner};
use idem_runtime::Store;
use idem_runtime::lane::{AttemptRow, LaneRow, Owner};
use idem_sqlite::Sqlite;

const FILE: &str = "IDEM_SQLITE_CRASH_FILE";

fn attempt(open: bool) -> AttemptRow {
    let first_failed_at = SystemTime::UNIX_EPOCH;
    AttemptRow { scope: "bill".into(), offset: 3, failures: 2, first_failed_at, open, deaths: 0 }
}

/// Not a test by itself: the process that is killed, with an attempt open.
#[tokio::test]
async fn holder() {
    if let Ok(file) = std::env::var(FILE) {
        let store = Sqlite::open(file).await.unwrap();
        let held = store.take(&lane(), &owner("holder")).await.unwrap().unwrap().held();
        assert!(store.note_attempt(&held, &attempt(true)).await.unwrap());
        std::future::pending::<()>().await;
    }
}

fn spawn(fixture: &Fixture) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["holder", "--exact", "--nocapture"])
        .env(FILE, fixture.file())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A file with a lane, which a process held when it was killed.
async fn killed() -> (Fixture, Sqlite) {
    let (fixture, store) = Fixture::with_store().await;
    let held = held(&store).await;
    store.release(&held).await.unwrap();
    let mut holder = spawn(&fixture);
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.number("select count(*) from idem_attempts where is_open").await == 0 {
        assert!(Instant::now() < deadline, "the process does not take the lane");
        tokio::task::yield_now().await;
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    (fixture, store)
}

async fn take(store: &Sqlite, owner: &Owner) -> LaneRow {
    store.take(&lane(), owner).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_successor_of_the_same_name_knows_at_once() {
    let (_fixture, store) = killed().await;
    let row = take(&store, &owner("holder")).await;
    assert_eq!(row.deaths, 1);
    assert_eq!(row.attempts, [AttemptRow { deaths: 1, ..attempt(false) }]);
}

#[tokio::test]
async fn a_successor_of_another_name_knows_by_the_heartbeat() {
    let (fixture, store) = killed().await;
    fixture.run("update idem_owners set heartbeat_at = heartbeat_at - 60000").await;
    assert_eq!(take(&store, &owner("other")).await.deaths, 1);
    let (_fixture, store) = killed().await;
    let row = take(&store, &owner("other")).await;
    assert_eq!((row.deaths, row.attempts), (0, vec![attempt(false)]));
}

#[tokio::test]
async fn two_processes_that_take_a_lane_after_each_other_count_one_death() {
    let (fixture, store) = killed().await;
    let other = fixture.store().await;
    let (owner_a, owner_b) = (owner("a"), owner("b"));
    fixture.run("update idem_owners set heartbeat_at = heartbeat_at - 60000").await;
    let (a, b) = tokio::join!(take(&store, &owner_a), take(&other, &owner_b));
    // The second of them finds the first one alive.
    assert_eq!((a.deaths, b.deaths), (1, 1));
}
