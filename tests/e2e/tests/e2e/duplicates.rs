//! The same event again: from the producer, from the topic, from many consumers at once.

use idem_e2e_tests::{World, until};

use crate::BIN;

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_retries_bills_each_order_once() {
    let world = World::new("retries", 4, BIN).await;
    let orders = world.orders(0, 2_000);
    world.produce(&orders);
    world.produce(&orders[..500]);

    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_invoiced(2_000).await;
    until("all deliveries are counted", async || handle.counts().delivered == 2_500).await;
    handle.shutdown();

    let counts = run.await.unwrap().unwrap();
    assert_eq!((counts.processed, counts.duplicates), (2_000, 500));
    assert_eq!(world.invoices().await, (2_000, 2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_consumers_that_meet_one_event_bill_it_once() {
    let mut world = World::new("ten", 10, BIN).await;
    // Over partitions only rows find a duplicate.
    world.settings.markers = "rows".into();
    let order = &world.orders(7, 1)[0];
    // The same event in ten partitions, one for each of ten consumers.
    world.kafka.produce(&world.topic, (0..10).map(|partition| (Some(partition), order)));

    let mut runs = Vec::new();
    for _ in 0..10 {
        let app = world.settings.build().await.unwrap();
        runs.push((app.handle(), tokio::spawn(app.run())));
    }
    world.until_drained().await;
    let mut sum = (0, 0);
    for (handle, run) in runs {
        handle.shutdown();
        let counts = run.await.unwrap().unwrap();
        sum = (sum.0 + counts.processed, sum.1 + counts.duplicates);
    }
    assert_eq!(world.invoices().await, (1, 1));
    assert_eq!(sum, (1, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_replayed_as_a_whole_bills_nothing_twice() {
    let world = World::new("replay", 4, BIN).await;
    let orders = world.orders(0, 1_000);
    for pass in 1..=2 {
        world.produce(&orders);
        let app = world.settings.build().await.unwrap();
        let handle = app.handle();
        let run = tokio::spawn(app.run());
        world.until_drained().await;
        handle.shutdown();
        let counts = run.await.unwrap().unwrap();
        let expected = if pass == 1 { (1_000, 0) } else { (0, 1_000) };
        assert_eq!((counts.processed, counts.duplicates), expected, "pass {pass}");
    }
    assert_eq!(world.invoices().await, (1_000, 1_000));
}
