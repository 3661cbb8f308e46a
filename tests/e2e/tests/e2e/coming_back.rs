//! How long nothing flows after `kill -9`. The times are printed; they are no assertion, because
//! the machine may be busy.

use std::time::Instant;

use idem_e2e_tests::{World, until};

use crate::BIN;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_instance_that_is_started_again_has_its_partitions_at_once() {
    let world = World::new("back", 4, BIN).await;
    let settings = world.settings.instance("one");
    let mut produced = 0;
    for round in 1..=3 {
        let mut consumer = world.start(&settings);
        let orders = world.orders(produced, 200);
        world.produce(&orders);
        produced += 200;
        world.until_invoiced(produced).await;
        consumer.kill();
        let orders = world.orders(produced, 200);
        world.produce(&orders);
        let since = Instant::now();
        let mut again = world.start(&settings);
        until("effects flow", async || world.invoices().await.0 > produced).await;
        println!(
            "round {round}: killed and started again, effects flow after {:?}",
            since.elapsed()
        );
        produced += 200;
        world.until_invoiced(produced).await;
        // Nobody had to wait for the dead one's session.
        assert!(!again.log().contains("revoked"), "{}", again.log());
        again.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_member_takes_a_dead_ones_partitions_over() {
    let world = World::new("takeover", 4, BIN).await;
    let mut first = world.start(&world.settings);
    until("the first has all", async || first.log().matches("lane taken").count() >= 4).await;
    let mut second = world.start(&world.settings);
    until("the second has some", async || second.log().matches("lane taken").count() >= 2).await;
    let orders = world.orders(0, 400);
    world.produce(&orders);
    world.until_invoiced(400).await;
    first.kill();
    let since = Instant::now();
    let more = world.orders(400, 400);
    world.produce(&more);
    world.until_invoiced(800).await;
    println!("a dead member's partitions flow again after {:?}", since.elapsed());
    assert!(second.terminate().success());
}
