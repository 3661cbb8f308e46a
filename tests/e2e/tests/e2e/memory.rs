//! A backlog does not become memory.

use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::kafka::send;
use idem_e2e_tests::{World, until};
use rdkafka::producer::Producer as _;

use crate::BIN;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_a_million_waiting_events_keeps_memory_flat() {
    const EVENTS: i64 = 1_000_000;
    const MIB: u64 = 1 << 20;
    let world = World::new("memory", 4, BIN).await;
    let gate = world.close_gate().await;
    let mut firsts = world.orders(0, 4);
    firsts.iter_mut().for_each(|order| order.act = Act::Gate);
    let spread = firsts.iter().enumerate().map(|(index, it)| (Some(index as i32), it));
    world.kafka.produce(&world.topic, spread);
    // The rest of the backlog, about 300 MB of it.
    let (kafka, topic) = (world.kafka.clone(), world.topic.clone());
    tokio::task::spawn_blocking(move || {
        let producer = kafka.producer();
        let padding = "x".repeat(200);
        for number in 4..EVENTS {
            let payload = format!(
                r#"{{"event_id":"event-{number}","order_id":{number},"cents":1,"padding":"{padding}"}}"#
            );
            send(&producer, &topic, Some((number % 4) as i32), "k", payload.as_bytes());
        }
        producer.flush(std::time::Duration::from_secs(120)).unwrap();
    })
    .await
    .unwrap();

    let mut consumer = world.start(&world.settings);
    until("all lanes are at the gate", async || world.at_gate().await == 4).await;
    // It reads ahead until its queues are full; then memory must stand still.
    let (mut last, mut same) = (0, 0);
    until("memory stands still", async || {
        let now = consumer.rss();
        same = if now.abs_diff(last) < MIB { same + 1 } else { 0 };
        last = now;
        same >= 100
    })
    .await;
    println!("{EVENTS} events wait, the consumer has {} MiB", last / MIB);
    assert!(last < 150 * MIB, "{} MiB", last / MIB);
    gate.commit().await.unwrap();
    // And it goes on, through pauses and resumes of the partitions.
    until("some of it is worked", async || world.positions().await > 60_000).await;
    let worked = consumer.rss();
    println!("at work it has {} MiB", worked / MIB);
    assert!(worked < 200 * MIB, "{} MiB", worked / MIB);
    assert!(consumer.terminate().success());
    let (invoices, different) = world.invoices().await;
    assert_eq!((invoices, invoices), (different, world.positions().await));
}
