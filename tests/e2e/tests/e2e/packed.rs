//! Packed markers on a genuine Kafka: what only they have. All other tests can be run with them, too.

use idem::{Idem, RunHandle, Store as _};
use idem_e2e_tests::{World, until};
use sqlx::AssertSqlSafe;

use crate::BIN;

async fn world(name: &str, partitions: i32) -> World {
    let mut world = World::new(name, partitions, BIN).await;
    world.settings.markers = "packed".into();
    world.settings.check_interval_ms = Some(200);
    world
}

/// How many rows of its own a table has.
async fn rows(world: &World, table: &str) -> i64 {
    let sql = format!("select count(*) from {}.{table}", world.settings.schema);
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&world.db).await.unwrap()
}

fn begin(app: Idem) -> (RunHandle, tokio::task::JoinHandle<idem::Result<idem::Counts>>) {
    (app.handle(), tokio::spawn(app.run()))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kills_duplicates_and_a_replay_each_order_is_billed_once_and_has_no_row_of_its_own() {
    let world = world("packed", 4).await;
    let settings = world.settings.instance("one");
    let orders = world.orders(0, 4_000);
    world.produce(&orders);
    world.produce(&orders[..1_000]);
    for kill in 1..=5 {
        let mut consumer = world.start(&settings);
        until("it is on its way", async || world.invoices().await.0 >= kill * 500).await;
        consumer.kill();
    }
    let mut consumer = world.start_working(&settings).await;
    world.until_drained().await;
    assert_eq!(world.invoices().await, (4_000, 4_000));
    // All of it again.
    world.produce(&orders);
    world.until_drained().await;
    assert!(consumer.terminate().success());
    assert_eq!(world.invoices().await, (4_000, 4_000));
    assert_eq!(rows(&world, "markers").await, 0);
    // How many rows there are depends on what was waiting; what is in them does not: each order, and each
    // duplicate that came to a place of its own.
    assert_eq!(world.processed().await, 9_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_key_is_found_with_its_place_and_forgotten_while_its_owner_runs() {
    let world = world("packed_forget", 1).await;
    let orders = world.orders(0, 300);
    world.produce(&orders);
    // In the same batch, maybe: the first place is what counts.
    world.produce(&orders[7..8]);
    let (handle, run) = begin(world.settings.build().await.unwrap());
    world.until_drained().await;
    let store = world.settings.store().await.unwrap();
    let key = idem::Key::new(orders[7].event_id.as_str()).unwrap();
    assert!(store.is_processed("bill", orders[7].event_id.as_str()).await.unwrap());
    let origin = store.find_marker("bill", &key).await.unwrap().unwrap().origin.unwrap();
    assert_eq!((origin.topic.as_str(), origin.partition, origin.offset), (&*world.topic, 0, 7));
    assert!(store.forget_marker("bill", &key).await.unwrap());
    assert!(!store.is_processed("bill", orders[7].event_id.as_str()).await.unwrap());
    // The owner's window is of no use to it from here on.
    world.produce(&orders[..20]);
    world.until_drained().await;
    assert_eq!(world.invoices().await, (301, 300), "the one that was forgotten, once more");
    handle.shutdown();
    let counts = run.await.unwrap().unwrap();
    assert_eq!((counts.processed, counts.went_back), (301, 0));
    // A rewind to the beginning finds all of them.
    world.kafka.commit(&world.settings.group, &world.topic, 0, 0);
    let (handle, run) = begin(world.settings.build().await.unwrap());
    until("all is delivered again", async || handle.counts().delivered >= 321).await;
    handle.shutdown();
    assert_eq!(run.await.unwrap().unwrap().processed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_grows_stops_its_lanes_until_they_may_widen() {
    let mut world = world("packed_growth", 2).await;
    let orders = world.orders(0, 400);
    world.produce(&orders);
    let (handle, run) = begin(world.settings.build().await.unwrap());
    world.until_drained().await;
    world.kafka.add_partitions(&world.topic, 5).await;
    until("a lane says so", async || {
        let lines = handle.stopped_lanes();
        lines.iter().any(|it| it.contains("partitions of the topic was 2 and is 5"))
    })
    .await;
    handle.shutdown();
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), idem::ErrorKind::LayoutChanged);

    // The same orders again, some of them in other partitions than before.
    world.partitions = 5;
    world.settings.widen = true;
    world.produce(&orders);
    let (handle, run) = begin(world.settings.build().await.unwrap());
    world.until_drained().await;
    handle.shutdown();
    run.await.unwrap().unwrap();
    assert_eq!(world.invoices().await, (400, 400));
    let moved = (2..5).map(|it| world.kafka.bounds(&world.topic, it).1).sum::<i64>();
    assert!(moved > 100, "{moved} keys are elsewhere now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_layout_that_does_not_fit_into_memory_is_known_in_all_partitions() {
    const ORDERS: i64 = 20_000;
    let mut world = world("packed_widen", 2).await;
    world.settings.handlers = vec!["bill_many".into()];
    // Each of the lanes that there will be would have twice its part of it.
    world.settings.packed_memory = Some(1 << 20);
    world.settings.widen = true;
    let orders = world.orders(0, ORDERS);
    world.produce(&orders);
    let (handle, run) = begin(world.settings.build().await.unwrap());
    world.until_drained().await;
    handle.shutdown();
    run.await.unwrap().unwrap();
    let before = world.ends();
    world.kafka.add_partitions(&world.topic, 6).await;
    world.partitions = 6;

    // All of them again, most of them in other partitions than before; and those who put the former layout
    // into runs are killed.
    world.produce(&orders);
    let settings = world.settings.instance("one");
    for kill in 0..3 {
        let mut consumer = world.start_working(&settings).await;
        until("it has begun", async || {
            rows(&world, "runs").await > 0 || world.positions().await > before + kill * 2_000
        })
        .await;
        consumer.kill();
    }
    let (handle, run) = begin(world.settings.build().await.unwrap());
    world.until_drained().await;
    assert_eq!(world.invoices().await, (ORDERS, ORDERS));
    let moved = (2..6).map(|it| world.kafka.bounds(&world.topic, it).1).sum::<i64>();
    assert!(moved > ORDERS / 2, "{moved} keys are elsewhere now");
    // There is one copy of what all lanes ask for.
    let schema = &world.settings.schema;
    let copies = format!(
        "select (select count(*) from {schema}.packs where partitions = 2 and run_id is null),
                (select sum(digests)::bigint from {schema}.runs
                 where run_id in (select run_id from {schema}.packs where partitions = 2))"
    );
    let copies: (i64, i64) =
        sqlx::query_as(AssertSqlSafe(copies)).fetch_one(&world.db).await.unwrap();
    assert_eq!(copies, (0, ORDERS));

    // A key of the former layout that is forgotten is new, in whatever partition.
    let store = world.settings.store().await.unwrap();
    let key = idem::Key::new(orders[7].event_id.as_str()).unwrap();
    assert!(store.forget_marker("bill_many", &key).await.unwrap());
    world.produce(&orders[..100]);
    world.until_drained().await;
    assert_eq!(world.invoices().await, (ORDERS + 1, ORDERS));
    handle.shutdown();
    run.await.unwrap().unwrap();
}
