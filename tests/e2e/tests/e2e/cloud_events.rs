//! CloudEvents that somebody else wrote: the CloudEvents project's own SDK, in Python.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use idem::{CloudEvent, idempotent};
use idem_e2e_tests::World;
use serde::Deserialize;
use sqlx::PgConnection;

use crate::BIN;
use crate::formats::{Place, run};

const PACKAGES: [&str; 2] = ["cloudevents==2.2.0", "confluent-kafka==2.16.1"];

#[derive(Debug, Deserialize)]
struct Placed {
    order_id: i64,
    cents: i64,
}

#[idempotent(
    key = ("source", "id"),
    store = "postgres",
    topic = "orders",
    format = "cloudevents",
    types = "order.*",
)]
async fn bill_cloud(event: CloudEvent<Placed>, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let said = format!(
        "{} {} {} {} {}",
        event.ty,
        event.source,
        event.subject.unwrap_or_default(),
        event.time.unwrap_or_default(),
        event.extensions.get("partitionkey").map_or("", String::as_str),
    );
    sqlx::query(
        "insert into invoices (scope, event_id, order_id, cents, customer)
         values ('cloud', $1, $2, $3, $4)",
    )
    .bind(&event.id)
    .bind(event.data.order_id)
    .bind(event.data.cents)
    .bind(said)
    .execute(tx)
    .await?;
    Ok(())
}

/// Runs a program; what it says when it fails.
fn call(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// A Python with the packages, made once in the target directory.
fn python() -> Result<PathBuf, String> {
    idem_test_services::ensure_python().map_err(|error| error.to_string())?;
    let services = idem_test_services::services_dir().map_err(|error| error.to_string())?;
    let dir = services.join(format!("python-{}", PACKAGES.join("-").replace("==", "-")));
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    if !ready.exists() {
        // What is left of one that was broken off.
        let _ = fs::remove_dir_all(&dir);
        call(Command::new("python3").arg("-m").arg("venv").arg(&dir))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        call(Command::new(&python).args(install).args(PACKAGES))?;
        fs::write(&ready, "").map_err(|error| error.to_string())?;
    }
    Ok(python)
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_events_of_another_language_are_billed_once_in_both_modes() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "CI runs this test: {why}");
            // Not `eprintln!`, whose text is shown of tests that fail only.
            let skipped = "!!! SKIPPED: CloudEvents of another language, because of Python:";
            writeln!(std::io::stderr(), "\n{skipped}\n{why}\n").unwrap();
            return;
        }
    };
    let world = World::new("cloud_events", 2, BIN).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/cloud_events.py");
    let produce = |mode: &str, first: i64, count: i64| {
        let mut command = Command::new(&python);
        command.arg(&script).args([&world.kafka.bootstrap, &world.topic, mode]);
        call(command.args([first.to_string(), count.to_string()])).unwrap();
    };
    produce("binary", 0, 40);
    produce("structured", 40, 40);
    // The same events once more, each in the other mode.
    produce("structured", 0, 20);
    produce("binary", 40, 20);
    let counts = run::<bill_cloud>(&world, &Place::of(&world), None, async || {
        world.until_drained().await;
    })
    .await;
    assert_eq!(world.invoices().await, (80, 80));
    assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), (80, 40, 0));
    for number in [3_i64, 43] {
        let (cents, said): (i64, String) =
            sqlx::query_as("select cents, customer from invoices where order_id = $1")
                .bind(number)
                .fetch_one(&world.db)
                .await
                .unwrap();
        let key = number % 7;
        let expected =
            format!("order.placed /shop/orders order-{number} 2026-01-02T03:04:05Z customer-{key}");
        assert_eq!((cents, said), (number * 10, expected));
    }
}
