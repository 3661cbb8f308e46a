//! The other shapes of work: batch handlers, slices, serializable transactions.

use std::time::{Duration, Instant};

use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{Said, Settings, World, until};

use crate::BIN;

/// Kills the consumer a few times on its way, and lets it finish.
async fn killed(world: &World, settings: &Settings, every: i64) {
    for _ in 0..8 {
        let before = world.processed().await;
        let mut consumer = world.start(settings);
        let deadline = Instant::now() + Duration::from_secs(10);
        while world.processed().await < before + every && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        consumer.kill();
    }
    let mut consumer = world.start_working(settings).await;
    world.until_drained().await;
    assert!(consumer.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_has_its_effects_once_with_kills_failures_and_duplicates() {
    let world = World::new("batches", 4, BIN).await;
    let mut orders = world.orders(0, 8_000);
    orders[1_234].act = Act::Refuse;
    orders[4_321].act = Act::FailOnce;
    world.produce(&orders);
    world.produce(&orders[..2_000]);
    let mut settings = world.settings.instance("one").handlers(&["bill_many"]);
    settings.policy = Said { attempts: Some(4), ..Said::default() };
    killed(&world, &settings, 700).await;
    assert_eq!(world.invoices().await, (7_999, 7_999));
    assert_eq!(world.letters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_keep_each_customers_order_and_lose_nothing_when_killed() {
    let world = World::new("slices", 2, BIN).await;
    let mut orders = world.orders(0, 4_000);
    for order in &mut orders {
        order.customer = Some(format!("customer-{}", (order.order_id * 31) % 97));
    }
    world.produce(&orders);
    let mut settings = world.settings.instance("one");
    settings.max_batch = 20;
    settings.policy.slices = Some(4);
    killed(&world, &settings, 300).await;
    assert_eq!(world.invoices().await, (4_000, 4_000));
    for customer in (0..97).map(|it| format!("customer-{it}")) {
        let its = orders.iter().filter(|it| it.customer.as_deref() == Some(&customer));
        let expected: Vec<i64> = its.map(|it| it.order_id).collect();
        assert_eq!(world.invoices_of(&customer).await, expected, "{customer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_waits_holds_up_no_other_customer() {
    let world = World::new("slice_waits", 1, BIN).await;
    let mut orders = world.orders(0, 64);
    for order in &mut orders {
        order.customer = Some(format!("customer-{}", order.order_id % 16));
    }
    orders[0].act = Act::Gate;
    let gate = world.close_gate().await;
    world.produce(&orders);
    let mut settings = world.settings.clone();
    settings.policy.slices = Some(8);
    let mut consumer = world.start(&settings);
    until("one is at the gate", async || world.at_gate().await == 1).await;
    until("others are done", async || world.invoices().await.0 >= 40).await;
    assert_eq!(world.positions().await, 0, "nothing above it counts as done");
    gate.rollback().await.unwrap();
    world.until_invoiced(64).await;
    world.until_drained().await;
    assert!(consumer.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn serializable_transactions_that_meet_are_repeated_and_kept_once() {
    let world = World::new("serializable", 4, BIN).await;
    // The same orders in all partitions: four transactions want the same keys.
    let orders = world.orders(0, 400);
    for partition in 0..4 {
        world.kafka.produce(&world.topic, orders.iter().map(|it| (Some(partition), it)));
    }
    let mut settings = world.settings.clone();
    settings.max_batch = 20;
    settings.policy.serializable = true;
    // Only rows are met by others.
    settings.markers = "rows".into();
    let app = settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_drained().await;
    let counts = handle.counts();
    handle.shutdown();
    run.await.unwrap().unwrap();
    assert_eq!(world.invoices().await, (400, 400));
    println!("{} transactions repeated", counts.repeated);
    assert_eq!((counts.processed, counts.dead_lettered), (400, 0));
}
