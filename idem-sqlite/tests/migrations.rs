//! The tables: made by idem or by another tool, checked at start.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::Fixture;
use idem_runtime::{ErrorKind, Store};
use idem_sqlite::Sqlite;
use sqlx::{AssertSqlSafe, Executor as _};

async fn refusal(store: &Sqlite) -> String {
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_fresh_file_is_migrated_once_and_keeps_its_identity() {
    let fixture = Fixture::new();
    let store = fixture.store().await;
    assert_eq!(store.pending_migrations().await.unwrap().len(), 8);
    store.migrate().await.unwrap();
    let id = store.check().await.unwrap();
    assert_eq!(id.get_version_num(), 4);
    store.migrate().await.unwrap();
    assert!(store.pending_migrations().await.unwrap().is_empty());
    assert_eq!(store.check().await.unwrap(), id);
    assert_eq!(fixture.store().await.check().await.unwrap(), id);
}

#[tokio::test]
async fn migrators_that_start_together_do_not_disturb_each_other() {
    let fixture = Fixture::new();
    let mut migrators = Vec::new();
    for _ in 0..6 {
        let file = fixture.file();
        migrators.push(tokio::spawn(async move {
            let store = Sqlite::open(file).await?;
            store.migrate().await?;
            store.check().await
        }));
    }
    let mut ids = Vec::new();
    for migrator in migrators {
        ids.push(migrator.await.unwrap().unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn each_way_of_being_out_of_step_has_an_error_that_names_the_fix() {
    let fixture = Fixture::new();
    let store = fixture.store().await;
    let missing = refusal(&store).await;
    assert!(missing.contains("are missing: call `store.migrate()`"), "{missing}");
    assert!(missing.contains("shop.db"), "{missing}");

    store.migrate().await.unwrap();
    fixture.run("create table kept as select * from idem_migrations").await;
    fixture.run("delete from idem_migrations").await;
    assert!(refusal(&store).await.contains("ledger is empty"));
    // It does not take the tables that are there for its own.
    assert!(store.migrate().await.unwrap_err().to_string().contains("ledger is empty"));

    fixture.run("insert into idem_migrations values (1, 'markers_and_lanes', 7, 0)").await;
    assert!(refusal(&store).await.contains("was changed"));
    assert_eq!(store.migrate().await.unwrap_err().kind(), ErrorKind::Migration);

    fixture.run("insert into idem_migrations values (99, 'later', 7, 0)").await;
    let ahead = refusal(&store).await;
    assert!(ahead.contains("ahead") && ahead.contains("99 (later)"), "{ahead}");

    fixture.run("delete from idem_migrations; delete from idem_store").await;
    fixture.run("insert into idem_migrations select * from kept").await;
    assert!(refusal(&store).await.contains("identity"));
}

/// Applies the printed files as another tool does.
async fn print_and_apply(fixture: &Fixture, prefix: &str) {
    let mut tool = fixture.outside().await;
    for file in Sqlite::migrations(prefix).unwrap() {
        tool.execute(AssertSqlSafe(file.sql)).await.unwrap();
    }
}

#[tokio::test]
async fn printed_sql_leaves_the_same_tables_and_passes_the_check() {
    let shape = async |fixture: &Fixture| {
        let sql = "select group_concat(sql, char(10)) from sqlite_schema";
        let mut connection = fixture.outside().await;
        sqlx::query_scalar::<_, String>(sql).fetch_one(&mut connection).await.unwrap()
    };
    let printed = Fixture::new();
    print_and_apply(&printed, "idem_").await;
    let store = printed.store().await;
    store.check().await.unwrap();
    assert!(store.mark_processed("bill", "1", None).await.unwrap().is_processed());

    let applied = Fixture::new();
    applied.store().await.migrate().await.unwrap();
    assert_eq!(shape(&printed).await, shape(&applied).await);
}

#[tokio::test]
async fn a_printed_file_that_is_applied_twice_fails_and_changes_nothing() {
    let fixture = Fixture::new();
    print_and_apply(&fixture, "idem_").await;
    let store = fixture.store().await;
    let id = store.check().await.unwrap();
    let mut tool = fixture.outside().await;
    for file in Sqlite::migrations("idem_").unwrap() {
        tool.execute(AssertSqlSafe(file.sql)).await.unwrap_err();
        tool.execute("rollback").await.unwrap();
    }
    assert_eq!(store.check().await.unwrap(), id);
}

#[tokio::test]
async fn a_file_that_an_old_tool_has_applied_in_part_is_found() {
    let fixture = Fixture::new();
    let mut tool = fixture.outside().await;
    for file in Sqlite::migrations("idem_").unwrap() {
        assert!(file.sql.contains("\n-- Apply it with SQLite 3.42 or later"), "{}", file.sql);
        // What SQLite before 3.42 says, and the `sqlite3` command, which goes on after errors.
        for statement in file.sql.replace("unixepoch('subsec')", "null").split_inclusive(";\n") {
            let _ = tool.execute(AssertSqlSafe(statement.to_owned())).await;
        }
    }
    let store = fixture.store().await;
    let refused = refusal(&store).await;
    assert!(refused.contains("ledger is empty: a file was applied in part"), "{refused}");
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration, "{error:?}");
    assert!(error.to_string().contains("SQLite 3.42 or later"), "{error}");
}

#[tokio::test]
async fn two_prefixes_are_two_stores_in_one_file() {
    let fixture = Fixture::new();
    let one = fixture.store().await;
    let other = fixture.builder().prefix("Other_").open().await.unwrap();
    one.migrate().await.unwrap();
    assert!(refusal(&other).await.contains("Other_"));
    other.migrate().await.unwrap();
    assert_ne!(one.check().await.unwrap(), other.check().await.unwrap());
    assert!(one.mark_processed("bill", "1", None).await.unwrap().is_processed());
    assert!(other.mark_processed("bill", "1", None).await.unwrap().is_processed());
    let error = fixture.builder().prefix("x; drop table y_").open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn files_are_written_once_and_never_over_another_content() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new");
    let written = Sqlite::write_migrations("idem_", &folder).unwrap();
    let names = [
        "0001_markers_and_lanes.sql",
        "0002_failures.sql",
        "0003_marker_details.sql",
        "0004_instances.sql",
        "0005_packed.sql",
        "0006_packed_upkeep.sql",
        "0007_letter_edits.sql",
        "0008_former_forms.sql",
    ];
    assert_eq!(written, names.map(|name| folder.join(name)));
    assert!(Sqlite::write_migrations("idem_", &folder).unwrap().is_empty());
    let error = Sqlite::write_migrations("other_", &folder).unwrap_err();
    assert!(error.to_string().contains("another content"), "{error}");
}

#[tokio::test]
async fn people_can_read_the_markers() {
    let (fixture, store) = Fixture::with_store().await;
    let metadata = serde_json::json!({"by": "import"});
    let _ = store.mark_processed("bill", "e1", Some(metadata)).await.unwrap();
    let mut connection = fixture.outside().await;
    let row: (String, String, String, String) = sqlx::query_as(
        "select scope, event_key, state, metadata ->> 'by' from idem_processed_events
         where processed_at > '2020-01-01' and processed_at < '2100-01-01'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(row, ("bill".into(), "e1".into(), "processed".into(), "import".into()));
}
