//! The dead-letter topic follows the table.

use idem::ErrorKind;
use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{World, until};

use crate::BIN;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_on_is_in_the_topic_with_its_origin_even_after_kills() {
    let world = World::new("dlt", 2, BIN).await;
    let topic = format!("{}_dead", world.topic);
    world.kafka.create_topic(&topic, 1, &[]).await;
    let mut orders = world.orders(0, 400);
    for order in orders.iter_mut().step_by(10) {
        order.act = Act::Refuse;
    }
    world.produce(&orders);
    let mut settings = world.settings.instance("one");
    settings.max_batch = 20;
    settings.dead_letter_topic = Some(topic.clone());
    let mut first = world.start(&settings);
    until("some are dead", async || world.letters().await.len() > 10).await;
    first.kill();
    let mut second = world.start(&settings);
    world.until_drained().await;
    let letters = world.letters().await;
    assert_eq!(letters.len(), 40);
    // At least once: a repetition has the same number.
    until("all are in the topic", async || {
        let mut ids = world.kafka.header(&topic, 0, "idem-dead-letter-id");
        ids.sort_unstable();
        ids.dedup();
        ids.len() == 40
    })
    .await;
    let origins = world.kafka.header(&topic, 0, "idem-offset");
    assert!(letters.iter().all(|it| origins.contains(&it.event.offset.to_string())));
    let topics = world.kafka.header(&topic, 0, "idem-topic");
    assert!(topics.iter().all(|it| *it == world.topic));
    assert!(!world.kafka.header(&topic, 0, "idempotency-key").is_empty(), "its own headers");
    assert!(second.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_does_not_exist_is_said_at_start() {
    let world = World::new("no_dlt", 1, BIN).await;
    let mut settings = world.settings.clone();
    settings.dead_letter_topic = Some(format!("{}_missing", world.topic));
    let error = settings.build().await.unwrap().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kafka);
    assert!(error.to_string().contains("does not exist"), "{error}");
}
