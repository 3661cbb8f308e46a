//! Opening a file, and letting it go.

mod common;

use common::Fixture;
use idem_runtime::{ErrorKind, Store};
use idem_sqlite::Sqlite;
use sqlx::sqlite::SqliteConnectOptions;

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named() {
    let fixture = Fixture::new();
    let error = Sqlite::open(fixture.file().join("nowhere.db")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("nowhere.db"), "{error}");

    std::fs::write(fixture.file(), "this is no database, however long it may become ".repeat(99))
        .unwrap();
    let error = Sqlite::open(fixture.file()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("not a SQLite database"), "{error}");
}

#[tokio::test]
async fn a_database_in_memory_is_refused_with_the_way_out() {
    for options in [
        SqliteConnectOptions::new(),
        "sqlite::memory:".parse::<SqliteConnectOptions>().unwrap(),
        SqliteConnectOptions::new().filename(":memory:"),
    ] {
        let error = Sqlite::builder_with(options).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("Sqlite::temporary()"), "{error}");
    }
}

#[tokio::test]
async fn a_temporary_database_goes_with_its_last_clone() {
    let store = Sqlite::temporary().await.unwrap();
    store.migrate().await.unwrap();
    let path = store.path().to_owned();
    let clone = store.clone();
    drop(store);
    assert!(clone.mark_processed("bill", "1", None).await.unwrap().is_processed());
    assert!(path.exists());
    clone.close().await;
    drop(clone);
    assert!(!path.exists());
}

#[tokio::test]
async fn the_files_writes_wait_for_no_readers() {
    let (fixture, _store) = Fixture::with_store().await;
    let mut connection = fixture.outside().await;
    let mode: String =
        sqlx::query_scalar("pragma journal_mode").fetch_one(&mut connection).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (_fixture, store) = Fixture::with_store().await;
    store.close().await;
    let error = store.is_processed("bill", "1").await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}
