//! The schema: applied by idem or by another tool, checked at start.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::time::{Duration, Instant};

use common::{Fixture, batch, key, on_schema, take, url};
use idem_postgres::Postgres;
use idem_runtime::store::PackedMarkers as _;
use idem_runtime::{ErrorKind, Outcome, Store};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

async fn refusal(store: &Postgres) -> String {
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_fresh_database_is_migrated_once_and_keeps_its_identity() {
    on_schema(async |fixture: Fixture| {
        let store = fixture.store().await;
        assert_eq!(store.pending_migrations().await.unwrap().len(), 8);
        store.migrate().await.unwrap();
        let id = store.check().await.unwrap();
        store.migrate().await.unwrap();
        assert!(store.pending_migrations().await.unwrap().is_empty());
        assert_eq!(store.check().await.unwrap(), id);
        assert_eq!(fixture.store().await.check().await.unwrap(), id);
    })
    .await;
}

#[tokio::test]
async fn migrators_that_start_together_do_not_disturb_each_other() {
    on_schema(async |fixture: Fixture| {
        let shared = fixture.store().await;
        let mut migrators = Vec::new();
        for n in 0..12 {
            let store = if n % 2 == 0 { shared.clone() } else { fixture.store().await };
            migrators.push(tokio::spawn(async move { store.migrate().await }));
        }
        for migrator in migrators {
            migrator.await.unwrap().unwrap();
        }
        shared.check().await.unwrap();
        assert_eq!(fixture.number("select count(*) from {schema}.store").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_migrator_waits_for_another_one_for_as_long_as_it_takes() {
    on_schema(async |fixture: Fixture| {
        let name = format!("{} waits", fixture.schema);
        let store = Postgres::builder_with(common::options().application_name(&name))
            .schema(&fixture.schema)
            .statement_timeout(Some(Duration::from_secs(1)))
            .lock_timeout(Duration::from_millis(100))
            .connect()
            .await
            .unwrap();
        let mut other = PgConnection::connect(&url()).await.unwrap();
        let lock = fixture.sql(
            "begin; select pg_advisory_xact_lock(hashtextextended('idem migrations {schema}', 0))",
        );
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut other).await.unwrap();
        let migrator = tokio::spawn({
            let store = store.clone();
            async move { store.migrate().await }
        });
        // Longer than any of the limits, and than the client waits for an answer.
        let waiting = format!(
            "select least(1, count(*)) from pg_stat_activity where application_name = '{name}'
             and backend_start < clock_timestamp() - interval '13 seconds'"
        );
        fixture.until("it waits", &waiting, 1).await;
        assert!(!migrator.is_finished(), "{:?}", migrator.await);
        other.execute("rollback").await.unwrap();
        migrator.await.unwrap().unwrap();
        store.check().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_migration_that_finds_a_table_held_lets_others_pass_and_says_who_to_look_for() {
    on_schema(async |fixture: Fixture| {
        let builder = fixture.builder().lock_timeout(Duration::from_millis(400));
        let store = builder.connect().await.unwrap();
        let mut psql = PgConnection::connect(&url()).await.unwrap();
        let mut files = Postgres::migrations(&fixture.schema).unwrap();
        let last = files.pop().unwrap();
        assert!(last.sql.contains(".lanes\n    add column"), "{}", last.name);
        for file in files {
            psql.execute(AssertSqlSafe(file.sql)).await.unwrap();
        }
        // Somebody reads, and does not end.
        let read = fixture.sql("begin; select count(*) from {schema}.lanes");
        sqlx::raw_sql(AssertSqlSafe(read)).execute(&mut psql).await.unwrap();
        let migrator = tokio::spawn({
            let store = store.clone();
            async move { store.migrate().await }
        });
        let waiting = "select count(*) from pg_locks
            where relation = '{schema}.lanes'::regclass and not granted
              and mode = 'AccessExclusiveLock'";
        fixture.until("the migration waits for the table", waiting, 1).await;
        let began = Instant::now();
        // As a program of a former release does with each batch.
        fixture.run("update {schema}.lanes set updated_at = clock_timestamp()").await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

        let error = migrator.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
        assert!(error.to_string().contains("8 (former_forms)"), "{error}");
        assert!(error.to_string().contains("find it in pg_stat_activity"), "{error}");
        psql.execute("rollback").await.unwrap();
        store.migrate().await.unwrap();
        store.check().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn each_way_of_being_out_of_step_has_an_error_that_names_the_fix() {
    on_schema(async |fixture: Fixture| {
        let store = fixture.store().await;
        let missing = refusal(&store).await;
        assert!(missing.contains("are missing: call `store.migrate()`"), "{missing}");
        assert!(missing.contains(&fixture.schema), "{missing}");

        store.migrate().await.unwrap();
        fixture.run("delete from {schema}.migrations").await;
        let behind = refusal(&store).await;
        assert!(behind.contains("behind") && behind.contains("markers_and_lanes"), "{behind}");
        // It does not take the tables that are there for its own.
        assert_eq!(store.migrate().await.unwrap_err().kind(), ErrorKind::Store);

        fixture
            .run("insert into {schema}.migrations values (1, 'markers_and_lanes', 7, now())")
            .await;
        assert!(refusal(&store).await.contains("was changed"));
        assert_eq!(store.migrate().await.unwrap_err().kind(), ErrorKind::Migration);

        fixture.run("insert into {schema}.migrations values (99, 'later', 7, now())").await;
        let ahead = refusal(&store).await;
        assert!(ahead.contains("ahead") && ahead.contains("99 (later)"), "{ahead}");
        assert_eq!(store.pending_migrations().await.unwrap_err().kind(), ErrorKind::Migration);
    })
    .await;
}

#[tokio::test]
async fn what_the_first_release_has_written_is_kept() {
    on_schema(async |fixture: Fixture| {
        let first = Postgres::migrations(&fixture.schema).unwrap().remove(0);
        sqlx::raw_sql(AssertSqlSafe(first.sql)).execute(&fixture.app).await.unwrap();
        fixture
            .run(
                "create table {schema}.effects (n bigint not null);
                 insert into {schema}.scopes (scope, group_name, mode)
                 values ('bill', 'billing', 'rows');
                 insert into {schema}.lanes
                     (group_name, topic, partition, position, leader_epoch, token, revision,
                      owner_id, owner_name, attempt_offset, attempt_at, attempts_died)
                 values ('billing', 'orders', 0, 7, 3, gen_random_uuid(), 5,
                         gen_random_uuid(), 'a former release', 7, now(), 2);
                 insert into {schema}.offset_marks select lane_id, 'ship', 9 from {schema}.lanes;
                 insert into {schema}.lane_slices select lane_id, 2, 1, 8 from {schema}.lanes;
                 insert into {schema}.markers (lane_id, source_offset, scope, event_key, state)
                 select lane_id, n, 'bill', n::text, 0
                 from {schema}.lanes cross join generate_series(1, 6) as n;",
            )
            .await;
        let store = fixture.store().await;
        let behind = refusal(&store).await;
        assert!(
            behind.contains(
                "migrations 2 (failures), 3 (marker_ids), 4 (instances), 5 (packed), \
                 6 (packed_upkeep), 7 (letter_edits), 8 (former_forms) pending"
            ),
            "{behind}"
        );
        let identity = "select count(distinct id) from {schema}.store";
        store.migrate().await.unwrap();
        store.check().await.unwrap();
        assert_eq!(fixture.number(identity).await, 1);

        let row = store.lanes("billing", "orders").await.unwrap().remove(0);
        assert_eq!((row.position.offset, row.position.leader_epoch), (7, Some(3)));
        assert_eq!((row.revision, row.deaths, row.offset_marks["ship"]), (5, 2, 9));
        assert!(row.attempts.is_empty() && row.parked.is_empty());
        let slices = "select sum(position)::bigint from {schema}.lane_slices where revision = 0";
        assert_eq!(fixture.number(slices).await, 8);
        assert!(store.is_processed("bill", "3").await.unwrap());
        let digests = store.digest_key().await.unwrap();
        let again = fixture.store().await.digest_key().await.unwrap();
        assert_eq!(digests.digest(&key("3")), again.digest(&key("3")));
        let mut held = take(&store, 0).await;
        assert_eq!(batch(&store, &mut held, &["3", "9"]).await.unwrap(), [false, true]);
        assert_eq!(store.read(&held).await.unwrap().unwrap().revision, 6);
        // Nobody hears of the former owner any more: it died.
        assert_eq!(store.read(&held).await.unwrap().unwrap().deaths, 3);
    })
    .await;
}

/// Tables, columns, constraints, indexes, triggers, options and comments, without the schema's name.
const SHAPE: &str = "
    select string_agg(line, E'\\n' order by line) from (
        select format('%s %s %s %s %s', c.relname, c.relkind, c.relpersistence, c.reloptions,
                      obj_description(c.oid, 'pg_class')) as line
        from pg_class c where c.relnamespace = '{schema}'::regnamespace
        union all
        select format('%s.%s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                      a.attnotnull, a.attcollation, col_description(c.oid, a.attnum))
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = '{schema}'::regnamespace
        union all
        select format('%s %s', o.conname, pg_get_constraintdef(o.oid)) from pg_constraint o
        where o.connamespace = '{schema}'::regnamespace
        union all
        select format('%s %s %s', t.tgname, t.tgdeferrable, obj_description(t.oid, 'pg_trigger'))
        from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = '{schema}'::regnamespace and not t.tgisinternal
    ) lines";

async fn shape(fixture: &Fixture, schema: &str) -> String {
    let sql = SHAPE.replace("{schema}", &format!("\"{schema}\""));
    let shape: String =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&fixture.app).await.unwrap();
    shape.replace(schema, "SCHEMA")
}

#[tokio::test]
async fn printed_sql_leaves_the_same_tables_and_passes_the_check() {
    on_schema(async |fixture: Fixture| {
        for file in Postgres::migrations(&fixture.schema).unwrap() {
            assert!(file.sql.contains("\n-- Apply it as the owner of the schema"), "{}", file.sql);
        }
        let other = format!("{}_p", fixture.schema);
        let mut psql = PgConnection::connect(&url()).await.unwrap();
        for file in Postgres::migrations(&other).unwrap() {
            psql.execute(AssertSqlSafe(file.sql)).await.unwrap();
        }
        let printed = Postgres::builder(&url()).schema(&other).connect().await.unwrap();
        printed.check().await.unwrap();
        assert!(printed.pending_migrations().await.unwrap().is_empty());
        let done = printed.mark_processed("bill", "1", None).await.unwrap();
        assert_eq!(done, Outcome::Processed(()));

        fixture.store().await.migrate().await.unwrap();
        let expected = shape(&fixture, &fixture.schema).await;
        assert_eq!(shape(&fixture, &other).await, expected);
        psql.execute(AssertSqlSafe(format!("drop schema {other} cascade"))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_printed_file_that_is_applied_twice_fails_and_changes_nothing() {
    on_schema(async |fixture: Fixture| {
        let store = fixture.store().await;
        store.migrate().await.unwrap();
        let id = store.check().await.unwrap();
        let mut psql = PgConnection::connect(&url()).await.unwrap();
        for file in Postgres::migrations(&fixture.schema).unwrap() {
            // One statement after the other, going on after errors, as psql does by default.
            for statement in split(&file.sql) {
                let _ = psql.execute(AssertSqlSafe(statement)).await;
            }
        }
        assert_eq!(store.check().await.unwrap(), id);
    })
    .await;
}

/// Good enough for our own files: a semicolon at the end of a line ends a statement, but not inside
/// of `$$`.
fn split(sql: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut quoted = false;
    for line in sql.lines() {
        quoted ^= line.matches("$$").count() % 2 == 1;
        if let Some(statement) = statements.last_mut() {
            statement.push_str(line);
            statement.push('\n');
        }
        if line.ends_with(';') && !quoted {
            statements.push(String::new());
        }
    }
    statements
}

#[tokio::test]
async fn every_table_and_column_is_described_and_every_constraint_is_named() {
    on_schema(async |fixture: Fixture| {
        fixture.store().await.migrate().await.unwrap();
        let silent = "
            select count(*) from pg_class c
            left join pg_attribute a
              on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relnamespace = '{schema}'::regnamespace and c.relkind in ('r', 'v')
              and (obj_description(c.oid, 'pg_class') is null
                   or col_description(c.oid, a.attnum) is null)";
        assert_eq!(fixture.number(silent).await, 0);
        // Generated names end in `_check` and the like, with a number when there are several.
        let generated = "
            select count(*) from pg_constraint
            where connamespace = '{schema}'::regnamespace and contype = 'c'
              and conname ~ '_check[0-9]*$'";
        assert_eq!(fixture.number(generated).await, 0);
        let collations = "
            select count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid
            where c.relnamespace = '{schema}'::regnamespace and c.relkind = 'r'
              and a.attname in ('scope', 'event_key', 'group_name', 'topic')
              and a.attcollation <> 'pg_catalog.\"C\"'::regcollation";
        assert_eq!(fixture.number(collations).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_was_made_beforehand_is_used() {
    on_schema(async |fixture: Fixture| {
        fixture.run("create schema {schema}").await;
        let store = fixture.store().await;
        store.migrate().await.unwrap();
        store.check().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_schema_may_be_named_like_a_word_of_sql() {
    on_schema(async |fixture: Fixture| {
        let name = format!("Select_{}", &fixture.schema[2..12]);
        let store = Postgres::builder(&url()).schema(&name).connect().await.unwrap();
        store.migrate().await.unwrap();
        store.check().await.unwrap();
        assert!(store.mark_processed("bill", "1", None).await.unwrap().is_processed());
        fixture.run(&format!("drop schema \"{name}\" cascade")).await;
    })
    .await;
}

#[tokio::test]
async fn a_name_that_could_be_sql_is_refused_before_anything_is_asked() {
    for bad in ["a\"; drop table x; --", "", "ä", "a.b"] {
        let error = Postgres::builder(&url()).schema(bad).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(Postgres::migrations(bad).unwrap_err().kind(), ErrorKind::Config);
    }
}
