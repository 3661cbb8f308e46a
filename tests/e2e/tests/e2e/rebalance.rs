//! Members that come and go.

use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{Settings, World, until};

use crate::BIN;

/// Restarts two processes in turn, again and again, while a producer writes.
async fn rolling_restarts(name: &str, assignor: &str) {
    let world = World::new(name, 4, BIN).await;
    let settings = Settings { max_batch: 50, ..world.settings.clone() }
        .property("partition.assignment.strategy", assignor);
    let mut members = [world.start(&settings), world.start(&settings)];
    let mut produced = 0;
    for round in 0..6 {
        let orders = world.orders(produced, 1_000);
        let before = world.positions().await;
        world.produce(&orders);
        world.produce(&orders[..100]);
        produced += 1_000;
        until("some more is done", async || world.positions().await > before).await;
        let member = &mut members[round % 2];
        assert!(member.terminate().success(), "{}", member.log());
        *member = world.start(&settings);
    }
    world.until_invoiced(produced).await;
    world.until_drained().await;
    for member in &mut members {
        assert!(member.terminate().success(), "{}", member.log());
    }
    assert_eq!(world.invoices().await, (produced, produced));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_with_cooperative_assignment_loses_and_doubles_nothing() {
    rolling_restarts("rolling_coop", "cooperative-sticky").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_with_eager_assignment_loses_and_doubles_nothing() {
    rolling_restarts("rolling_eager", "range").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_the_middle_of_a_rebalance_is_finished_or_undone() {
    let world = World::new("mid_batch", 4, BIN).await;
    let settings = Settings { max_batch: 50, ..world.settings.clone() };
    let mut orders = world.orders(0, 400);
    // The 26th event of each partition holds its batch open.
    for order in &mut orders[100..104] {
        order.act = Act::Gate;
    }
    let gate = world.close_gate().await;
    let spread = orders.iter().enumerate().map(|(index, it)| (Some((index % 4) as i32), it));
    world.kafka.produce(&world.topic, spread);

    let mut first = world.start(&settings);
    until("four batches are open", async || world.at_gate().await == 4).await;
    let mut second = world.start(&settings);
    // The revocation finds open batches, which do not end within its bound and are dropped.
    until("the second has lanes", async || second.log().contains("lane taken")).await;
    gate.commit().await.unwrap();
    world.until_invoiced(400).await;
    world.until_drained().await;
    assert!(first.log().contains("takes too long for its revocation"), "{}", first.log());
    assert!(first.terminate().success());
    assert!(second.terminate().success());
    assert_eq!(world.invoices().await, (400, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_slower_than_the_poll_interval_keeps_its_partitions() {
    let world = World::new("slow", 1, BIN).await;
    let settings = world
        .settings
        .clone()
        .property("session.timeout.ms", "3000")
        .property("heartbeat.interval.ms", "500")
        .property("max.poll.interval.ms", "3000");
    let mut orders = world.orders(0, 10);
    orders[5].act = Act::Gate;
    let gate = world.close_gate().await;
    world.produce(&orders);
    let mut consumer = world.start(&settings);
    until("the handler is at the gate", async || world.at_gate().await == 1).await;
    let since = heartbeat(&world).await;
    until("three poll intervals have passed", async || heartbeat(&world).await > since + 9.0).await;
    gate.commit().await.unwrap();
    world.until_invoiced(10).await;
    assert!(!consumer.log().contains("revoked"), "{}", consumer.log());
    assert!(consumer.terminate().success());
}

/// When the consumer's last heartbeat in the database was, in seconds.
async fn heartbeat(world: &World) -> f64 {
    let sql = format!(
        "select coalesce(max(extract(epoch from heartbeat_at)), 0)::float8 from {}.owners",
        world.settings.schema
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&world.db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_one_instance_name_the_older_ends_and_says_why() {
    let world = World::new("same_name", 2, BIN).await;
    let settings = world.settings.instance("twin");
    let older = settings.build().await.unwrap();
    let run = tokio::spawn(older.run());
    let orders = world.orders(0, 100);
    world.produce(&orders);
    world.until_invoiced(100).await;

    let mut newer = world.start(&settings);
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), idem::ErrorKind::Kafka);
    assert!(error.to_string().contains("same instance name"), "{error}");
    let more = world.orders(100, 100);
    world.produce(&more);
    world.until_invoiced(200).await;
    assert!(newer.terminate().success(), "{}", newer.log());
}
