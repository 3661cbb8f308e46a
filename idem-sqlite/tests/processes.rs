//! Several stores, and several processes, on one file.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::process::{Child, Command};
use std::time::Duration;

use common::{Fixture, begin, claim, direct, held, lend, open_batch, seal};
use idem_runtime::store::{Sealed, Writer};
use idem_runtime::{ErrorKind, Result, Store};
use idem_sqlite::Sqlite;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Executor as _};

const FILE: &str = "IDEM_SQLITE_TEST_FILE";
const KEYS: usize = 300;

/// Handles the same keys as every other worker; answers how many it was the first for.
async fn work(store: &Sqlite) -> Result<i64> {
    let mut processed = 0;
    for key in 0..KEYS {
        let outcome = store
            .process_if_new("bill", &key, async |tx| {
                tx.execute("insert into effects values (1)").await?;
                Ok(())
            })
            .await?;
        processed += i64::from(outcome.is_processed());
    }
    Ok(processed)
}

/// Not a test by itself: what the processes of the other tests run.
#[tokio::test]
async fn worker() {
    if let Ok(file) = std::env::var(FILE) {
        work(&Sqlite::open(file).await.unwrap()).await.unwrap();
    }
}

fn spawn(fixture: &Fixture) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["worker", "--exact", "--nocapture"])
        .env(FILE, fixture.file())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn two_stores_on_one_file_have_one_effect_for_each_key() {
    let (fixture, store) = Fixture::with_store().await;
    let other = fixture.store().await;
    let (a, b) = tokio::join!(work(&store), work(&other));
    assert_eq!(a.unwrap() + b.unwrap(), KEYS as i64);
    assert_eq!(fixture.effects().await, KEYS as i64);
}

#[tokio::test]
async fn processes_on_one_file_have_one_effect_for_each_key() {
    let (fixture, store) = Fixture::with_store().await;
    let mut workers = [spawn(&fixture), spawn(&fixture)];
    work(&store).await.unwrap();
    for worker in &mut workers {
        assert!(worker.wait().unwrap().success());
    }
    assert_eq!(fixture.effects().await, KEYS as i64);
    assert_eq!(fixture.markers().await, KEYS as i64);
}

#[tokio::test]
async fn a_killed_process_leaves_markers_and_effects_in_step() {
    let (fixture, store) = Fixture::with_store().await;
    for round in 1..6 {
        let mut worker = spawn(&fixture);
        let enough = fixture.effects().await + round * 5;
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while fixture.effects().await < enough.min(KEYS as i64) {
            assert!(std::time::Instant::now() < deadline, "the worker does not get on");
            tokio::task::yield_now().await;
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert_eq!(fixture.effects().await, fixture.markers().await);
    }
    work(&store).await.unwrap();
    assert_eq!(fixture.effects().await, KEYS as i64);
}

#[tokio::test]
async fn a_file_that_another_process_holds_is_a_passing_failure() {
    let (fixture, store) = Fixture::with_store().await;
    let impatient = fixture.builder().busy_timeout(Duration::ZERO).open().await.unwrap();
    let writer = direct();
    let tx = open_batch(&store, &writer, "a").await;
    for _ in 0..3 {
        let error = begin(&impatient, &writer).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
    }
    store.rollback(tx).await;
    let mut tx = begin(&impatient, &writer).await.unwrap();
    assert!(claim(&impatient, &mut tx, &writer, "a").await);
    impatient.rollback(tx).await;
}

#[tokio::test]
async fn a_lane_that_another_process_took_is_fenced() {
    let (fixture, store) = Fixture::with_store().await;
    let former = held(&store).await;
    let other = fixture.store().await;
    let now = held(&other).await;
    let writer = Writer::Lane(&former);
    let mut tx = begin(&store, &writer).await.unwrap();
    assert_eq!(seal(&store, &mut tx, &writer).await.unwrap(), Sealed::No);
    store.rollback(tx).await;
    assert_eq!(store.read(&former).await.unwrap().unwrap().token, now.token);
}

#[tokio::test]
async fn a_commit_that_finds_the_file_busy_is_sent_again() {
    let fixture = Fixture::new();
    let options = SqliteConnectOptions::new()
        .filename(fixture.file())
        .create_if_missing(true)
        .busy_timeout(Duration::ZERO);
    // Without WAL a reader stands in the way of a commit.
    let store = Sqlite::builder_with(options).wal(false).open().await.unwrap();
    store.migrate().await.unwrap();
    fixture.run("create table effects (n integer not null)").await;
    let writer = direct();
    let mut tx = open_batch(&store, &writer, "a").await;
    assert_eq!(seal(&store, &mut tx, &writer).await.unwrap(), Sealed::Yes);

    let mut reader = fixture.outside().await;
    reader.execute("begin; select count(*) from effects").await.unwrap();
    let release = async {
        // The commit is polled first, and finds the reader.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        reader.execute("commit").await.unwrap();
    };
    let (committed, ()) = tokio::join!(store.commit(tx), release);
    committed.unwrap();
    assert_eq!((fixture.markers().await, fixture.effects().await), (1, 1));
}

#[tokio::test]
async fn a_commit_that_stays_busy_is_undone() {
    let fixture = Fixture::new();
    let short = Duration::from_millis(30);
    let builder = fixture.builder().wal(false).busy_timeout(Duration::ZERO).turn_timeout(short);
    let store = builder.open().await.unwrap();
    store.migrate().await.unwrap();
    fixture.run("create table effects (n integer not null)").await;
    let writer = direct();
    let mut tx = open_batch(&store, &writer, "a").await;
    assert_eq!(seal(&store, &mut tx, &writer).await.unwrap(), Sealed::Yes);
    let mut reader = fixture.outside().await;
    reader.execute("begin; select count(*) from effects").await.unwrap();
    assert_eq!(store.commit(tx).await.unwrap_err().kind(), ErrorKind::Transient);
    reader.close().await.unwrap();
    let mut tx = open_batch(&store, &writer, "a").await;
    lend(&mut tx).execute("insert into effects values (2)").await.unwrap();
    assert_eq!(seal(&store, &mut tx, &writer).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
    assert_eq!((fixture.markers().await, fixture.effects().await), (1, 2));
}
