//! `kill -9` of the consumer.

use std::time::{Duration, Instant};

use idem_e2e_tests::World;

use crate::BIN;

/// A number that differs from run to run; the test prints it.
fn seed() -> u64 {
    u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_killed_thirty_times_loses_and_doubles_nothing() {
    const ORDERS: i64 = 20_000;
    const KILLS: u32 = 30;
    let mut random = seed();
    println!("seed {random}");
    let world = World::new("kills", 4, BIN).await;
    let orders = world.orders(0, ORDERS);
    let mut settings = world.settings.instance("one");
    // Small transactions, so that a kill meets one in every state.
    settings.max_batch = 25;
    let producing = {
        let (kafka, topic) = (world.kafka.clone(), world.topic.clone());
        tokio::task::spawn_blocking(move || {
            for chunk in orders.chunks(1_000) {
                let again = chunk.iter().take(100);
                kafka.produce(&topic, chunk.iter().chain(again).map(|order| (None, order)));
            }
        })
    };
    for kill in 1..=KILLS {
        let before = world.positions().await;
        let mut consumer = world.start(&settings);
        // Let it get somewhere, a different way each time; then kill it in the middle.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let some = i64::try_from(random >> 33).unwrap() % 700;
        let deadline = Instant::now() + Duration::from_secs(20);
        while world.positions().await < before + some && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        consumer.kill();
        println!("kill {kill} after {} more", world.positions().await - before);
    }
    producing.await.unwrap();
    let mut consumer = world.start_working(&settings).await;
    world.until_drained().await;
    assert!(consumer.terminate().success());
    assert_eq!(world.invoices().await, (ORDERS, ORDERS));
}
