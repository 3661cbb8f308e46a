//! The database goes back to an earlier state, and its effects with it: what was lost is read again.

use idem::{Counts, ErrorKind, RunHandle};
use idem_e2e_tests::{Settings, World, until};
use idem_test_services::{Endpoints, Postgres, Scratch};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::task::JoinHandle;

use crate::BIN;

/// A world whose database can be put back.
async fn world(name: &str) -> (World, Postgres, Scratch) {
    let scratch = Scratch::new(name).unwrap();
    let postgres = Postgres::start(scratch.path()).unwrap();
    let shared = Endpoints::discover().unwrap();
    let here = Endpoints { database_url: postgres.url(), ..shared };
    (World::on(&here, name, 4, BIN).await, postgres, scratch)
}

struct Running {
    handle: RunHandle,
    run: JoinHandle<idem::Result<Counts>>,
}

async fn start(settings: &Settings) -> Running {
    let app = settings.build().await.unwrap();
    Running { handle: app.handle(), run: tokio::spawn(app.run()) }
}

impl Running {
    async fn stop(self) -> idem::Result<Counts> {
        self.handle.shutdown();
        self.run.await.unwrap()
    }
}

async fn drain(world: &World) -> Counts {
    let running = start(&world.settings).await;
    world.until_drained().await;
    running.stop().await.unwrap()
}

/// What Kafka's commits add up to; each says who made it.
fn committed(world: &World) -> i64 {
    let mut commits = world.kafka.committed(&world.settings.group, &world.topic, world.partitions);
    commits.retain(|(offset, _)| *offset >= 0);
    assert!(commits.iter().all(|(_, mark)| mark.contains("bill")), "{commits:?}");
    commits.iter().map(|(offset, _)| offset).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_while_idem_is_stopped_gets_its_lost_events_again() {
    let (world, mut postgres, _scratch) = world("restore_stopped").await;
    world.produce(&world.orders(0, 500));
    drain(&world).await;
    let snapshot = postgres.snapshot().unwrap();
    world.produce(&world.orders(500, 500));
    drain(&world).await;
    assert_eq!(world.invoices().await, (1_000, 1_000));

    postgres.restore(&snapshot).unwrap();
    assert_eq!(world.invoices().await, (500, 500));
    // Kafka's commit is ahead of the database and says who made it.
    assert_eq!(committed(&world), 1_000);
    let counts = drain(&world).await;
    assert_eq!((counts.processed, counts.duplicates), (500, 0));
    assert_eq!(world.invoices().await, (1_000, 1_000));
    assert_eq!(committed(&world), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_under_a_running_idem_gets_its_lost_events_again() {
    let (world, mut postgres, _scratch) = world("restore_running").await;
    let running = start(&world.settings).await;
    world.produce(&world.orders(0, 1_000));
    world.until_invoiced(1_000).await;
    let snapshot = postgres.snapshot_running().unwrap();
    world.produce(&world.orders(1_000, 3_000));
    // Kafka knows that more was done than the snapshot has.
    until("Kafka has the offsets", async || committed(&world) >= 2_000).await;

    // More events come before, while and after the database goes back.
    let (kafka, topic, more) =
        (world.kafka.clone(), world.topic.clone(), world.orders(4_000, 6_000));
    let producing = tokio::task::spawn_blocking(move || {
        for chunk in more.chunks(500) {
            kafka.produce(&topic, chunk.iter().map(|order| (None, order)));
        }
    });
    postgres.restore(&snapshot).unwrap();
    producing.await.unwrap();

    world.until_invoiced(10_000).await;
    world.until_drained().await;
    assert!(running.handle.counts().went_back >= 1, "{:?}", running.handle.counts());
    running.stop().await.unwrap();
    assert_eq!(world.invoices().await, (10_000, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_under_an_idle_idem_is_noticed_without_new_events() {
    let (world, mut postgres, _scratch) = world("restore_idle").await;
    world.produce(&world.orders(0, 500));
    // What this run leaves behind is another owner's row for the next one.
    drain(&world).await;
    let before_it_ran = postgres.snapshot_running().unwrap();
    let running = start(&world.settings).await;
    world.produce(&world.orders(500, 500));
    world.until_invoiced(1_000).await;
    world.until_drained().await;
    let while_it_ran = postgres.snapshot_running().unwrap();
    world.produce(&world.orders(1_000, 500));
    world.until_invoiced(1_500).await;
    world.until_drained().await;

    // To a state that this run wrote: its own token, an older revision.
    postgres.restore(&while_it_ran).unwrap();
    world.until_invoiced(1_500).await;
    world.until_drained().await;
    let counts = running.handle.counts();
    assert_eq!((counts.went_back, counts.fenced), (4, 0), "{counts:?}");

    // To one from before it: another owner's token, which looks like a takeover.
    postgres.restore(&before_it_ran).unwrap();
    world.until_invoiced(1_500).await;
    world.until_drained().await;
    let counts = running.handle.counts();
    assert_eq!((counts.went_back, counts.fenced), (4, 4), "{counts:?}");
    running.stop().await.unwrap();
    assert_eq!(world.invoices().await, (1_500, 1_500));
}

/// Takes away what idem keeps, and makes its tables anew; with the effects, or without.
async fn lose(world: &World, effects: bool) {
    let schema = &world.settings.schema;
    let sql = format!("drop schema {schema} cascade");
    world.db.execute(AssertSqlSafe(sql)).await.unwrap();
    if effects {
        world.db.execute("truncate invoices").await.unwrap();
    }
    world.settings.store().await.unwrap().migrate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lost_its_lanes_is_refused_until_the_policy_says_where_to_start() {
    let mut world = World::new("lost", 2, BIN).await;
    world.produce(&world.orders(0, 500));
    drain(&world).await;
    world.produce(&world.orders(500, 500));

    lose(&world, false).await;
    let running = start(&world.settings).await;
    until("both lanes stopped", async || running.handle.stopped_lanes().len() == 2).await;
    let lines = running.handle.stopped_lanes().join("\n");
    assert!(lines.contains("database_lost(DatabaseLost::StartAt"), "{lines}");
    assert_eq!(running.stop().await.unwrap_err().kind(), ErrorKind::DatabaseLost);
    assert_eq!(world.invoices().await, (500, 500), "nothing was worked");
    assert_eq!(committed(&world), 500, "and nothing was skipped");

    // The effects are there: go on where Kafka's commit is.
    world.settings.lost = Some("committed".into());
    assert_eq!(drain(&world).await.processed, 500);
    assert_eq!(world.invoices().await, (1_000, 1_000));

    // The effects are gone, too: everything again.
    lose(&world, true).await;
    world.settings.lost = Some("earliest".into());
    assert_eq!(drain(&world).await.processed, 1_000);
    assert_eq!(world.invoices().await, (1_000, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_idem_stops_when_its_lanes_are_lost() {
    let world = World::new("lost_running", 2, BIN).await;
    let running = start(&world.settings).await;
    world.produce(&world.orders(0, 500));
    world.until_invoiced(500).await;
    until("Kafka has the offsets", async || committed(&world) == 500).await;

    lose(&world, true).await;
    until("both lanes stopped", async || running.handle.stopped_lanes().len() == 2).await;
    world.produce(&world.orders(500, 100));
    assert_eq!(running.stop().await.unwrap_err().kind(), ErrorKind::DatabaseLost);
    assert_eq!(world.invoices().await, (0, 0));
    assert_eq!(committed(&world), 500);
}
