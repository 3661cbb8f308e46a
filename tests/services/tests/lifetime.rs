//! No server outlives the test that started it, not even one that is killed.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use idem_test_services::{Error, Kafka, Postgres, ProcessId, Scratch, wait_until};

/// Set for the process that is going to be killed: where it starts its servers.
const VICTIM_DIR: &str = "IDEM_TEST_VICTIM_DIR";

#[test]
fn servers_die_with_a_killed_process() -> Result<(), Error> {
    let scratch = Scratch::new("lifetime")?;
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "starts_servers_and_waits_to_be_killed"])
        .env(VICTIM_DIR, scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = |name: &str| {
        let text = fs::read_to_string(scratch.path().join(name).join("ready")).ok();
        // The line's end says that all of it was written.
        Ok(text.and_then(|text| text.strip_suffix('\n')?.parse::<u32>().ok()))
    };
    let deadline = Duration::from_secs(120);
    let found = wait_until("kafka's pid", deadline, || pid("kafka"))
        .and_then(|kafka| Ok([kafka, wait_until("postgres' pid", deadline, || pid("postgres"))?]));
    let servers = found.map(|pids| pids.map(ProcessId::of));

    victim.kill().unwrap();
    victim.wait().unwrap();

    for server in servers? {
        let server = server.expect("a server that runs until its parent is killed");
        wait_until("a server to die with its parent", Duration::from_secs(20), || {
            Ok((!server.is_alive()).then_some(()))
        })?;
    }
    Ok(())
}

/// No test of its own, but the process that the test above kills. The servers are started by
/// threads that end, as tests do.
#[test]
fn starts_servers_and_waits_to_be_killed() -> Result<(), Error> {
    let Some(dir) = std::env::var_os(VICTIM_DIR) else {
        return Ok(());
    };
    let [kafka_dir, postgres_dir] = ["kafka", "postgres"].map(|name| Path::new(&dir).join(name));
    let (kafka, postgres) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::start(&kafka_dir));
        let postgres = scope.spawn(|| Postgres::start(&postgres_dir));
        (kafka.join().unwrap(), postgres.join().unwrap())
    });
    let (kafka, postgres) = (kafka?, postgres?);
    fs::write(kafka_dir.join("ready"), format!("{}\n", kafka.pid())).unwrap();
    fs::write(postgres_dir.join("ready"), format!("{}\n", postgres.pid())).unwrap();
    // Until the kill; should the other test fail, its end of the pipe is closed.
    let _ = io::stdin().read(&mut [0]);
    Ok(())
}
