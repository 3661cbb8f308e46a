//! Connecting, and what is said when it does not work.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::time::Duration;

use common::letters::{event, give_up, letters, settle};
use common::{Fixture, on_schema, on_store, options, url};
use idem_postgres::Postgres;
use idem_runtime::store::{Terms, Writer};
use idem_runtime::{Error, ErrorKind, LetterAction, LetterState, Registration, Store};
use sqlx::Executor as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

async fn refusal(builder: idem_postgres::Builder) -> Error {
    assert!(!format!("{builder:?}").contains("hunter2"));
    let error = builder.acquire_timeout(Duration::from_secs(5)).connect().await.unwrap_err();
    assert!(!format!("{error:?} {}", error.report()).contains("hunter2"), "{error:?}");
    error
}

#[tokio::test]
async fn a_connection_that_fails_says_why_and_never_the_password() {
    let nobody = options().username("nobody_of_that_name").password("hunter2");
    let error = refusal(Postgres::builder_with(nobody)).await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("refused the credentials"), "{error}");

    let nowhere = options().database("no_database_of_that_name");
    let error = refusal(Postgres::builder_with(nowhere)).await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("there is no database"), "{error}");

    // A port that nobody listens on: the one of a listener that is gone.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let closed = options().host("127.0.0.1").port(port).password("hunter2");
    let error = refusal(Postgres::builder_with(closed)).await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("cannot be reached"), "{error}");

    for bad in
        ["hunter2", "postgres://u:hunter2@host:port/db", "postgres://u:hunter2@h/d?sslmode=x"]
    {
        let error = refusal(Postgres::builder(bad)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = options().host("127.0.0.1").port(port);
    let error = Postgres::builder_with(options)
        .acquire_timeout(Duration::from_millis(100))
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
}

/// Refuses a client as PgBouncer refuses one that asks for a setting at the start, among others.
async fn refuse_settings(listener: &tokio::net::TcpListener) {
    const TLS: [u8; 4] = 80_877_103_u32.to_be_bytes();
    let (mut client, _) = listener.accept().await.unwrap();
    loop {
        let length = client.read_u32().await.unwrap();
        let mut message = vec![0; usize::try_from(length).unwrap() - 4];
        client.read_exact(&mut message).await.unwrap();
        if !message.starts_with(&TLS) {
            break;
        }
        client.write_all(b"N").await.unwrap();
    }
    let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
    client.write_u8(b'E').await.unwrap();
    client.write_u32(u32::try_from(fields.len() + 4).unwrap()).await.unwrap();
    client.write_all(fields).await.unwrap();
}

#[tokio::test]
async fn a_pooler_that_takes_no_settings_is_named_by_the_error() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pooler = tokio::spawn(async move {
        for _ in 0..2 {
            refuse_settings(&listener).await;
        }
    });
    let there = options().host("127.0.0.1").port(port).password("hunter2");
    for (is_told, advised) in [(false, true), (true, false)] {
        let error = refusal(Postgres::builder_with(there.clone()).pgbouncer(is_told)).await;
        assert_eq!(error.kind(), ErrorKind::Connection, "{error:?}");
        assert_eq!(error.to_string().contains(".pgbouncer(true)"), advised, "{error}");
    }
    pooler.await.unwrap();
}

#[tokio::test]
async fn a_lazy_store_reports_when_it_is_used() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let options = options().host("127.0.0.1").port(port);
    let store = Postgres::builder_with(options)
        .acquire_timeout(Duration::from_millis(200))
        .connect_lazy()
        .unwrap();
    assert!(store.check().await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn debug_shows_the_database_and_not_the_password() {
    on_store(async |_fixture: Fixture, store: Postgres| {
        let shown = format!("{store:?}");
        assert!(shown.contains("schema") && shown.contains('@'), "{shown}");
        let password =
            url().split('@').next().and_then(|it| it.rsplit_once(':')).map(|it| it.1.to_owned());
        if let Some(password) = password.filter(|it| it.len() > 3) {
            assert!(!shown.contains(&password), "{shown}");
        }
    })
    .await;
}

#[tokio::test]
async fn sessions_are_read_only_and_limited_whatever_the_user_forgot() {
    on_store(async |_fixture: Fixture, store: Postgres| {
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        let connection = common::lend(&mut tx);
        for (setting, expected) in [
            ("default_transaction_read_only", "on"),
            ("transaction_read_only", "off"),
            ("lock_timeout", "5s"),
            ("statement_timeout", "1min"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("application_name", "idem"),
            ("client_connection_check_interval", "2s"),
        ] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            assert_eq!(value, expected, "{setting}");
        }
        store.rollback(tx).await;
    })
    .await;
}

#[tokio::test]
async fn a_role_without_rights_to_create_does_everything_but_migrate() {
    on_schema(async |fixture: Fixture| {
        let role = format!("r_{}", fixture.schema);
        fixture.run(&format!("create role {role} login password 'hunter2'")).await;
        let options = options().username(&role).password("hunter2");
        let builder = Postgres::builder_with(options).schema(&fixture.schema);
        let store = builder.connect().await.unwrap();

        let error = store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("may not create"), "{error}");

        fixture.store().await.migrate().await.unwrap();
        let error = store.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("grant usage on schema"), "{error}");
        fixture.run(&format!("grant usage on schema {{schema}} to {role}")).await;
        let most = "grant select on all tables in schema {schema} to";
        fixture.run(&format!("{most} {role}")).await;
        let error = store.check().await.unwrap_err();
        assert!(error.to_string().contains("insert on markers"), "{error}");

        fixture
            .run(&format!(
                "grant select, insert, update, delete on all tables in schema {{schema}} to {role}"
            ))
            .await;
        store.check().await.unwrap();
        // Markers are read through a view, which has rights of its own.
        let view = format!("select on {{schema}}.processed_events from {role}");
        fixture.run(&format!("revoke {view}")).await;
        let error = store.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("(select on processed_events)"), "{error}");
        fixture.run(&format!("grant {}", view.replace(" from ", " to "))).await;
        store.check().await.unwrap();
        let scopes = [("bill", idem_runtime::MarkerMode::Rows)];
        let registration = Registration {
            group: "billing",
            scopes: &scopes,
            windows: &[],
            adopt: &[],
            retire: &[],
            broadcast: None,
        };
        store.register(&registration).await.unwrap();
        assert!(store.mark_processed("bill", "1", None).await.unwrap().is_processed());
        assert!(store.is_processed("bill", "1").await.unwrap());
        let mut held = fixture.lane(&store, 0).await;
        fixture.run("create table {schema}.effects (n bigint not null)").await;
        fixture.run(&format!("grant insert on {{schema}}.effects to {role}")).await;
        assert_eq!(common::batch(&store, &mut held, &["1", "2"]).await.unwrap(), [false, true]);
        let event = event(1, b"k");
        give_up(&store, &mut held, &event, LetterState::Parked).await.unwrap();
        let id = letters(&store).await[0].id;
        settle(&store, id, LetterAction::Dropped).await.unwrap();
        assert_eq!(store.cut(&held, 2).await.unwrap(), Some(vec![0, 0]));
        store.release(&held).await.unwrap();
        store.close().await;
        fixture.run(&format!("drop schema {{schema}} cascade; drop role {role}")).await;
    })
    .await;
}

#[tokio::test]
async fn a_role_migrates_a_schema_that_it_owns_and_is_told_so() {
    on_schema(async |fixture: Fixture| {
        let role = format!("r_{}", fixture.schema);
        fixture
            .run(&format!(
                "create role {role} login password 'hunter2'; create schema {{schema}};
                 grant create, usage on schema {{schema}} to {role}"
            ))
            .await;
        let there = options().username(&role).password("hunter2");
        let store = Postgres::builder_with(there).schema(&fixture.schema).connect().await.unwrap();
        let refused = store.migrate().await;
        fixture.run(&format!("alter schema {{schema}} owner to {role}")).await;
        let migrated = store.migrate().await;
        store.close().await;
        fixture.run(&format!("drop schema {{schema}} cascade; drop role {role}")).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("does not own it"), "{error}");
        assert!(error.to_string().contains("owner to .."), "{error}");
        migrated.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused_at_the_start() {
    on_schema(async |fixture: Fixture| {
        let database = fixture.schema.clone();
        fixture
            .run(&format!(
                "create database {database} template template0 encoding 'LATIN1' \
                 lc_collate 'C' lc_ctype 'C'"
            ))
            .await;
        let there = options().database(&database);
        let store = Postgres::builder_with(there).connect().await.unwrap();
        store.migrate().await.unwrap();
        let checked = store.check().await;
        store.close().await;
        fixture.run(&format!("drop database {database}")).await;
        let error = checked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("encoding LATIN1"), "{error}");
        assert!(error.to_string().contains("encoding 'UTF8'"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_of_the_server_stale_connections_are_replaced() {
    on_store(async |fixture: Fixture, store: Postgres| {
        // Several idle connections, which the server then ends, as a restart does.
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut open = Vec::new();
        let mut pids = Vec::new();
        for _ in 0..4 {
            let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
            let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
                .fetch_one(common::lend(&mut tx))
                .await
                .unwrap();
            pids.push(pid.to_string());
            open.push(tx);
        }
        for tx in open {
            store.rollback(tx).await;
        }
        let pids = pids.join(", ");
        let idle = format!(
            "select count(*) from pg_stat_activity where pid in ({pids}) and state = 'idle'"
        );
        fixture.until("the connections are idle", &idle, 4).await;
        let ended = format!("select pg_terminate_backend(pid) from unnest(array[{pids}]) as pid");
        fixture.app.execute(sqlx::AssertSqlSafe(ended)).await.unwrap();
        let gone = format!("select count(*) from pg_stat_activity where pid in ({pids})");
        fixture.until("the connections are gone", &gone, 0).await;

        for n in 0..4 {
            let tx = store.begin(&writer, &Terms::default()).await;
            store.rollback(tx.unwrap_or_else(|error| panic!("begin {n}: {error:?}"))).await;
        }
        assert!(store.mark_processed("bill", "1", None).await.unwrap().is_processed());
    })
    .await;
}
