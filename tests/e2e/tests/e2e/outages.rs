//! `kill -9` of the database and of the broker, in the middle of the work.
//!
//! An outage is measured by what the consumer says of it, or, for the long ones, by the clock: they
//! stand for a minute and are 15 s, which is past every timeout and pause on the way (a session of
//! 6 s, requests of 5 s, pauses of up to 2 s), so that a longer one would show nothing more.

use std::time::{Duration, Instant};

use idem_e2e_tests::{ConsumerProcess, Order, World, until};
use idem_test_services::{Endpoints, Kafka, Postgres, Scratch};
use tokio::task::JoinHandle;

use crate::BIN;

const LONG: Duration = Duration::from_secs(15);

/// Writes orders in the background, in portions.
fn produce(world: &World, orders: Vec<Order>) -> JoinHandle<()> {
    let (kafka, topic) = (world.kafka.clone(), world.topic.clone());
    tokio::task::spawn_blocking(move || {
        for chunk in orders.chunks(2_000) {
            kafka.produce(&topic, chunk.iter().map(|order| (None, order)));
        }
    })
}

/// Waits until the consumer got some way further, and checks that it has not reached the end.
async fn in_mid_run(world: &World, consumer: &mut ConsumerProcess, some: i64, all: i64) -> i64 {
    let before = world.positions().await;
    until("the consumer gets somewhere", async || {
        assert!(consumer.ended().is_none(), "the consumer ended");
        world.positions().await >= before + some
    })
    .await;
    let now = world.positions().await;
    assert!(now < all, "the work is done before the outage");
    now
}

/// The clock's outage: until it is over, the consumer must not end.
async fn a_long_while(consumer: &mut ConsumerProcess) {
    let over = Instant::now() + LONG;
    until("the outage is over", async || {
        assert!(consumer.ended().is_none(), "the consumer ended");
        Instant::now() >= over
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_again_and_again_is_caught_up_with() {
    const ORDERS: i64 = 20_000;
    let scratch = Scratch::new("pg-outage").unwrap();
    let mut postgres = Postgres::start(scratch.path()).unwrap();
    let shared = Endpoints::discover().unwrap();
    let here = Endpoints { database_url: postgres.url(), ..shared };
    let world = World::on(&here, "pg_outage", 4, BIN).await;
    let mut settings = world.settings.clone();
    // Small transactions, so that the kills meet some in every state.
    settings.max_batch = 20;
    let mut consumer = world.start(&settings);
    let producing = produce(&world, world.orders(0, ORDERS));
    for kill in 1..=5 {
        let at = in_mid_run(&world, &mut consumer, 2_000, ORDERS).await;
        let said = |consumer: &ConsumerProcess| consumer.log().matches("trying again").count();
        let before = said(&consumer);
        postgres.kill().unwrap();
        if kill == 3 {
            a_long_while(&mut consumer).await;
        }
        until("the consumer tried in vain", async || said(&consumer) > before).await;
        println!("kill {kill} at {at}, {} tries in vain", said(&consumer) - before);
        postgres.restart().unwrap();
    }
    producing.await.unwrap();
    world.until_drained().await;
    assert!(consumer.terminate().success());
    assert_eq!(world.invoices().await, (ORDERS, ORDERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_again_and_again_is_caught_up_with() {
    const ORDERS: i64 = 24_000;
    let scratch = Scratch::new("kafka-outage").unwrap();
    let mut kafka = Kafka::start(scratch.path()).unwrap();
    let shared = Endpoints::discover().unwrap();
    let here = Endpoints { kafka_bootstrap: kafka.bootstrap().to_owned(), ..shared };
    let world = World::on(&here, "kafka_outage", 4, BIN).await;
    // Little is read ahead, so that there is something left to read after each kill.
    let mut settings = world
        .settings
        .clone()
        .property("queued.max.messages.kbytes", "64")
        .property("fetch.message.max.bytes", "20000");
    settings.queue_bytes = 1;
    settings.max_batch = 20;
    let mut consumer = world.start(&settings);
    let producing = produce(&world, world.orders(0, ORDERS));
    for kill in 1..=2 {
        let at = in_mid_run(&world, &mut consumer, 2_000, ORDERS).await;
        kafka.kill().unwrap();
        if kill == 2 {
            a_long_while(&mut consumer).await;
        }
        let back = world.positions().await;
        assert!(back < ORDERS, "what was read ahead is worked, but there is more to come");
        println!("kill {kill} at {at}, {back} when it comes back");
        kafka.restart().unwrap();
    }
    // Everybody waits for the broker: the producer, too.
    producing.await.unwrap();
    world.until_drained().await;
    assert!(consumer.terminate().success());
    assert_eq!(world.invoices().await, (ORDERS, ORDERS));
}
