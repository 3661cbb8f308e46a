//! Logs that are not what they were, and logs with holes.

use idem::{Counts, ErrorKind};
use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::kafka::send;
use idem_e2e_tests::{Order, World, until};
use idem_test_services::Endpoints;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::BIN;

/// Runs until there are invoices for this many orders.
async fn work_until(world: &World, orders: i64) -> Counts {
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_invoiced(orders).await;
    handle.shutdown();
    run.await.unwrap().unwrap()
}

/// Runs until all lanes stopped, and answers what they say.
async fn work_until_stopped(world: &World) -> String {
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    let lanes = usize::try_from(world.partitions).unwrap();
    until("all lanes stopped", async || handle.stopped_lanes().len() == lanes).await;
    let lines = handle.stopped_lanes().join("\n");
    handle.shutdown();
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Log, "{error:?}");
    lines
}

/// How many invoices there are for orders from this number on.
async fn invoices_from(world: &World, first: i64) -> i64 {
    sqlx::query_scalar("select count(*) from invoices where order_id >= $1")
        .bind(first)
        .fetch_one(&world.db)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_idem_is_stopped_is_not_read_from_the_middle() {
    let mut world = World::new("anew_stopped", 2, BIN).await;
    world.produce(&world.orders(0, 200));
    work_until(&world, 200).await;
    let position = world.positions().await;

    world.kafka.recreate_topic(&world.topic, 2).await;
    world.produce(&world.orders(200, 1_000));
    for _ in 0..2 {
        let lines = work_until_stopped(&world).await;
        assert!(lines.contains("the topic's id") && lines.contains("stands at"), "{lines}");
    }
    assert_eq!(world.invoices().await, (200, 200));
    assert_eq!(world.positions().await, position);

    world.settings.restart_on_changed_log = true;
    let counts = work_until(&world, 1_200).await;
    assert_eq!((counts.processed, counts.duplicates), (1_000, 0));
    world.settings.restart_on_changed_log = false;
    assert_eq!(work_until(&world, 1_200).await.delivered, 0, "once is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_a_running_idem_is_not_read_from_the_middle() {
    let world = World::new("anew_running", 2, BIN).await;
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.produce(&world.orders(0, 20));
    world.until_invoiced(20).await;

    world.kafka.recreate_topic(&world.topic, 2).await;
    world.produce(&world.orders(20, 2_000));
    until("both lanes stopped", async || handle.stopped_lanes().len() == 2).await;
    let lines = handle.stopped_lanes().join("\n");
    assert!(lines.contains("the topic's id"), "{lines}");
    assert_eq!(invoices_from(&world, 20).await, 0, "nothing of the new log was worked");
    handle.shutdown();
    assert_eq!(run.await.unwrap().unwrap_err().kind(), ErrorKind::Log);
}

/// The client asks for its next events without knowing that the log is another one, and that one
/// has them: nothing tells it so but the topic's id.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_behind_a_frozen_idem_is_not_read_from_the_middle() {
    for handler in ["bill", "bill_by_offset"] {
        let mut world = World::new("anew_frozen", 2, BIN).await;
        world.settings = world.settings.handlers(&[handler]);
        let mut consumer = world.start(&world.settings);
        world.produce(&world.orders(0, 20));
        world.until_invoiced(20).await;

        consumer.freeze();
        world.kafka.recreate_topic(&world.topic, 2).await;
        world.produce(&world.orders(20, 2_000));
        consumer.wake();
        until("both lanes stopped", async || {
            consumer.log().matches("the log is another one").count() >= 2
        })
        .await;
        assert_eq!(invoices_from(&world, 20).await, 0, "{handler}: nothing of the new log");
        assert!(!consumer.terminate().success());

        world.settings.restart_on_changed_log = true;
        assert_eq!(work_until(&world, 2_020).await.processed, 2_000, "{handler}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_idem_told_to_starts_again_with_the_oldest_event_of_a_new_log() {
    let mut world = World::new("anew_policy", 2, BIN).await;
    world.settings.restart_on_changed_log = true;
    let mut consumer = world.start(&world.settings);
    world.produce(&world.orders(0, 20));
    world.until_invoiced(20).await;
    for round in 0..2 {
        consumer.freeze();
        world.kafka.recreate_topic(&world.topic, 2).await;
        world.produce(&world.orders(20 + round * 500, 500));
        consumer.wake();
        world.until_invoiced(20 + (round + 1) * 500).await;
    }
    world.until_drained().await;
    assert!(consumer.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_deleted_before_they_were_read_are_named_as_a_gap() {
    let mut world = World::new("retention", 1, BIN).await;
    world.produce(&world.orders(0, 100));
    work_until(&world, 100).await;
    world.produce(&world.orders(100, 200));
    world.kafka.delete_records(&world.topic, 0, 150).await;

    let lines = work_until_stopped(&world).await;
    assert!(lines.contains("events 100 to 149 are gone"), "{lines}");
    assert_eq!(world.invoices().await, (100, 100));

    world.settings.restart_on_changed_log = true;
    assert_eq!(work_until(&world, 250).await.processed, 150);
    assert_eq!(invoices_from(&world, 150).await, 150);
}

/// Retention overtakes an owner that is at work: its queue is full, so that the client has to fetch
/// what is no longer there.
async fn retention_overtakes(name: &str, assignor: &str, restart: bool) {
    const ORDERS: i64 = 8_000;
    let mut world = World::new(name, 2, BIN).await;
    world.settings = world.settings.clone().property("partition.assignment.strategy", assignor);
    world.settings.restart_on_changed_log = restart;
    world.settings.queue_bytes = 1;
    let mut orders = world.orders(0, ORDERS);
    orders[0].act = Act::Gate;
    let gate = world.close_gate().await;
    world.kafka.produce(&world.topic, orders.iter().map(|it| (Some(0), it)));
    // The other partition's lane goes on whatever happens.
    let others = world.orders(ORDERS, 100);
    world.kafka.produce(&world.topic, others.iter().map(|it| (Some(1), it)));

    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    until("the owner is at the gate", async || world.at_gate().await == 1).await;
    until("the other lane is done", async || world.invoices().await.0 == 100).await;
    world.kafka.delete_records(&world.topic, 0, ORDERS - 100).await;
    gate.commit().await.unwrap();

    let read: i64 = if restart {
        world.until_drained().await;
        invoices_from(&world, ORDERS - 100).await
    } else {
        until("the lane stopped", async || !handle.stopped_lanes().is_empty()).await;
        let lines = handle.stopped_lanes().join("\n");
        assert!(lines.contains(&format!("to {} are gone", ORDERS - 101)), "{lines}");
        invoices_from(&world, ORDERS).await
    };
    // The last hundred, or none of them; and what the other partition has.
    assert_eq!(read, if restart { 200 } else { 100 });
    let more = world.orders(ORDERS + 100, 50);
    let before = world.invoices().await.0;
    world.kafka.produce(&world.topic, more.iter().map(|it| (Some(1), it)));
    until("the other lane goes on", async || world.invoices().await.0 == before + 50).await;
    let (invoices, different) = world.invoices().await;
    assert_eq!(invoices, different);
    handle.shutdown();
    assert_eq!(run.await.unwrap().is_ok(), restart);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_overtakes_a_running_lane_stops_it_with_the_gap_and_no_other() {
    retention_overtakes("overtaken", "cooperative-sticky", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_lane_that_retention_overtook_goes_on_where_the_log_begins_if_told_to() {
    retention_overtakes("overtaken_on", "cooperative-sticky", true).await;
    retention_overtakes("overtaken_eager", "range", true).await;
}

fn write(producer: &BaseProducer, topic: &str, orders: &[Order]) {
    for order in orders {
        let payload = serde_json::to_vec(order).unwrap();
        send(producer, topic, Some(0), &order.event_id, &payload);
    }
    producer.flush(std::time::Duration::from_secs(60)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_are_never_billed_and_their_holes_hold_nothing_up() {
    const WAIT: std::time::Duration = std::time::Duration::from_secs(60);
    let mut world = World::new("aborted", 1, BIN).await;
    world.settings.max_batch = 7;
    let producer = world.kafka.transactional_producer(&world.topic);
    let mut committed = 0;
    // Each round is read by a run of its own, which starts and ends among the holes.
    for round in 0..4 {
        for part in 0..4 {
            let first = round * 1_000 + part * 100;
            producer.begin_transaction().unwrap();
            let orders = world.orders(first, 20);
            write(&producer, &world.topic, &orders);
            // Aborted at the end of a round and in its middle, by turns.
            if (part + round) % 2 == 0 {
                producer.commit_transaction(WAIT).unwrap();
                committed += 20;
            } else {
                producer.abort_transaction(WAIT).unwrap();
            }
        }
        work_until(&world, committed).await;
        let visible = world.kafka.orders(&world.topic, 0);
        assert_eq!(visible.len(), usize::try_from(committed).unwrap());
        let last = visible.last().unwrap().0;
        assert_eq!(world.positions().await, last + 1);
        assert!(world.kafka.bounds(&world.topic, 0).1 > last + 1, "a hole is behind it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_read_over_its_holes() {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let endpoints = Endpoints::discover().unwrap();
    let world = World::with_topic(&endpoints, "compacted", 1, &settings, BIN).await;
    let producer = world.kafka.producer();
    let mut next = 0;
    for _ in 0..2 {
        let position = world.positions().await;
        let mut left = Vec::new();
        until("records behind the position are cleaned away", async || {
            // Each round closes the segment of the one before, and only closed ones are cleaned.
            for order in world.orders(next, 20) {
                let payload = serde_json::to_vec(&order).unwrap();
                send(&producer, &world.topic, Some(0), &format!("k{}", next % 2), &payload);
                next += 1;
            }
            producer.flush(std::time::Duration::from_secs(60)).unwrap();
            left = world.kafka.orders(&world.topic, 0);
            // Among them the very event that is to be read next.
            !left.iter().any(|(offset, _)| *offset == position)
        })
        .await;
        let app = world.settings.build().await.unwrap();
        let handle = app.handle();
        let run = tokio::spawn(app.run());
        world.until_drained().await;
        handle.shutdown();
        run.await.unwrap().unwrap();

        let billed: Vec<String> =
            sqlx::query_scalar("select event_id from invoices").fetch_all(&world.db).await.unwrap();
        // The cleaner goes on meanwhile, so that more may be gone by now, but nothing else.
        for (offset, order) in world.kafka.orders(&world.topic, 0) {
            assert!(billed.contains(&order.event_id), "{offset}: {}", order.event_id);
        }
        assert!(i64::try_from(billed.len()).unwrap() < next, "holes were read over");
        let (invoices, orders) = world.invoices().await;
        assert_eq!(invoices, orders);
    }
}
