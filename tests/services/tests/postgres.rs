//! A genuine database server is started, broken, rewound and started again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use idem_test_services::{
    Error, Lifetime, Postgres, PostgresOptions, ProcessId, Scratch, wait_until,
};

fn address(postgres: &Postgres) -> String {
    let url = postgres.url();
    let (_, rest) = url.split_once('@').unwrap_or_default();
    rest.trim_end_matches("/postgres").to_owned()
}

fn count(postgres: &Postgres) -> Result<String, Error> {
    postgres.psql("select count(*) from t")
}

#[test]
fn what_was_committed_survives_a_kill_on_the_same_port() -> Result<(), Error> {
    let scratch = Scratch::new("pg-kill")?;
    let mut postgres = Postgres::start(scratch.path())?;
    postgres.psql("create table t as select generate_series(1, 1000) as n")?;
    let (url, before) = (postgres.url(), postgres.pid());
    for _ in 0..3 {
        postgres.kill()?;
        assert!(postgres.psql("select 1").is_err());
        postgres.restart()?;
        assert_eq!(count(&postgres)?, "1000");
    }
    assert_eq!(postgres.url(), url);
    assert_ne!(postgres.pid(), before);

    postgres.stop()?;
    assert!(TcpStream::connect(address(&postgres)).is_err());
    postgres.restart()?;
    assert_eq!(count(&postgres)?, "1000");
    Ok(())
}

#[test]
fn a_wrong_password_is_refused() -> Result<(), Error> {
    let scratch = Scratch::new("pg-password")?;
    let postgres = Postgres::start(scratch.path())?;
    let url = postgres.url();
    let (credentials, rest) = url.split_once('@').unwrap_or_default();
    let output = Command::new("psql")
        .args(["--command", "select 1", &format!("{credentials}x@{rest}")])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("password authentication failed"), "{printed}");
    Ok(())
}

#[test]
fn a_restored_snapshot_forgets_what_came_after_it() -> Result<(), Error> {
    let scratch = Scratch::new("pg-snapshot")?;
    let mut postgres = Postgres::start(scratch.path())?;
    let url = postgres.url();
    postgres.psql("create table t as select 1 as n")?;
    let stopped = postgres.snapshot()?;
    postgres.psql("insert into t values (2)")?;
    let running = postgres.snapshot_running()?;
    postgres.psql("insert into t values (3)")?;
    assert_eq!(count(&postgres)?, "3");

    postgres.restore(&running)?;
    assert_eq!(count(&postgres)?, "2");
    postgres.restore(&stopped)?;
    assert_eq!(count(&postgres)?, "1");
    postgres.restore(&running)?;
    assert_eq!(count(&postgres)?, "2");
    assert_eq!(postgres.url(), url);
    Ok(())
}

#[test]
fn a_paused_server_keeps_connections_and_answers_when_it_is_resumed() -> Result<(), Error> {
    let scratch = Scratch::new("pg-pause")?;
    let postgres = Postgres::start(scratch.path())?;
    postgres.psql("create table t (n int)")?;
    thread::scope(|scope| {
        // A backend at work when the server is frozen.
        let insert = scope.spawn(|| postgres.psql("insert into t select 1 from pg_sleep(0.5)"));
        wait_until("the insert to start", Duration::from_secs(20), || {
            let active = "select 1 from pg_stat_activity where query like 'insert into t%'";
            Ok((postgres.psql(active)? == "1").then_some(()))
        })?;

        postgres.pause()?;
        // The kernel accepts a connection for the server, which would answer this question (about
        // TLS) with one byte at once.
        let mut stream = TcpStream::connect(address(&postgres)).unwrap();
        stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(stream.read_exact(&mut [0]).is_err());
        assert!(!insert.is_finished());

        postgres.resume()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        insert.join().unwrap()?;
        assert_eq!(count(&postgres)?, "1");
        Ok(())
    })
}

#[test]
fn a_paused_server_can_be_killed() -> Result<(), Error> {
    let scratch = Scratch::new("pg-pause-kill")?;
    let mut postgres = Postgres::start(scratch.path())?;
    postgres.pause()?;
    postgres.kill()?;
    postgres.restart()?;
    assert_eq!(postgres.psql("select 1")?, "1");
    postgres.pause()
    // And the drop of a paused server must not hang.
}

#[test]
fn a_dropped_server_is_gone_with_its_data() -> Result<(), Error> {
    let scratch = Scratch::new("pg-drop")?;
    let postgres = Postgres::start(scratch.path())?;
    let pid = postgres.pid();
    drop(postgres);
    assert_eq!(ProcessId::of(pid), None);
    assert!(!scratch.path().join("postgres-data").exists());
    assert!(scratch.path().join("postgres.log").exists());
    Ok(())
}

#[test]
fn a_server_that_cannot_start_says_why() -> Result<(), Error> {
    let scratch = Scratch::new("pg-broken")?;
    let options = PostgresOptions {
        settings: vec![("shared_buffers".into(), "-1".into())],
        ..PostgresOptions::default()
    };
    let error = Postgres::start_with(scratch.path(), options).unwrap_err();
    assert!(error.to_string().contains("shared_buffers"), "{error}");
    Ok(())
}

#[test]
fn a_detached_server_outlives_its_handle_and_is_stopped_by_pid() -> Result<(), Error> {
    let dir = Scratch::permanent("pg-detached")?;
    let options = PostgresOptions { lifetime: Lifetime::Detached, ..PostgresOptions::default() };
    let service = Postgres::start_with(&dir, options)?.detached();
    assert!(service.runs());

    service.stop_and_remove()?;

    assert!(!service.runs() && !dir.exists());
    Ok(())
}
