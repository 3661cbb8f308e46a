//! To whom an event goes: types by pattern, topics by pattern.

use std::collections::BTreeMap;

use idem::FailureClass;
use idem_e2e_tests::{World, until};

use crate::BIN;

const TYPES: [&str; 6] = [
    "order.placed.us-west",
    "order.placed.eu",
    "order.cancelled.us-west",
    "return.placed.us-west",
    "return.cancelled.eu",
    "Order.placed.eu",
];

/// How many invoices each handler wrote, and for how many different orders.
async fn by_scope(world: &World) -> BTreeMap<String, (i64, i64)> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select scope, count(*), count(distinct event_id) from invoices group by scope",
    )
    .fetch_all(&world.db)
    .await
    .unwrap();
    rows.into_iter().map(|(scope, all, different)| (scope, (all, different))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_patterns_run_each_handler_once_with_duplicates_and_kills() {
    let world = World::new("patterns", 4, BIN).await;
    let orders = world.orders(0, 6_000);
    let typed = || orders.iter().enumerate().map(|(n, order)| (TYPES[n % TYPES.len()], order));
    world.kafka.produce_typed(&world.topic, typed());
    // And again, as a producer that retries without idempotence.
    world.kafka.produce_typed(&world.topic, typed().step_by(7));
    let mut settings =
        world.settings.instance("one").handlers(&["bill_orders", "bill_west", "bill_enum"]);
    settings.keep_unmatched = true;
    settings.max_batch = 50;
    for after in [1_000, 4_000] {
        let mut consumer = world.start(&settings);
        until("some are done", async || world.invoices().await.0 >= after).await;
        consumer.kill();
    }
    let mut consumer = world.start_working(&settings).await;
    world.until_drained().await;
    assert!(consumer.terminate().success());
    let each = |of: usize| (i64::try_from(of * 1_000).unwrap(), i64::try_from(of * 1_000).unwrap());
    let expected = [("bill_enum", each(3)), ("bill_orders", each(4 + 1)), ("bill_west", each(3))];
    // `Order.placed.eu` fits `*.placed.#` and no other.
    let expected = expected.map(|(scope, counts)| (scope.to_owned(), counts));
    assert_eq!(by_scope(&world).await, BTreeMap::from(expected));

    let letters = world.letters().await;
    let scope = format!("{}.unmatched", settings.group);
    assert!(letters.iter().all(|letter| {
        letter.scope == scope
            && letter.cause.as_ref().is_some_and(|it| it.class == FailureClass::Unmatched)
    }));
    // One for each event in the log that nobody wants: a duplicate is an event at another place.
    let duplicates = (0..6_000).step_by(7).filter(|n| n % TYPES.len() == 4).count();
    assert_eq!(letters.len(), 1_000 + duplicates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_appears_later_is_read_from_its_first_event() {
    let world = World::new("regions", 1, BIN).await;
    let region = |name: &str| format!("{}.{name}", world.topic);
    let produce = |topic: &str, first: i64| {
        let orders = world.orders(first, 50);
        world.kafka.produce(topic, orders.iter().map(|order| (None, order)));
    };
    world.kafka.create_topic(&region("eu"), 2, &[]).await;
    produce(&region("eu"), 0);
    let mut settings = world
        .settings
        .handlers(&["bill_regions"])
        .property("topic.metadata.refresh.interval.ms", "500");
    settings.start = Some("latest".into());
    let mut consumer = world.start(&settings);
    let taken = |count: usize| {
        let consumer = &consumer;
        async move {
            until(&format!("{count} lanes are taken"), async || {
                consumer.log().matches("lane taken").count() >= count
            })
            .await;
        }
    };
    taken(3).await;
    produce(&region("eu"), 100);
    produce(&world.topic, 200);
    world.until_invoiced(100).await;

    // Events that are there before anybody knows of the topic.
    world.kafka.create_topic(&region("us"), 2, &[]).await;
    produce(&region("us"), 300);
    world.until_invoiced(150).await;
    taken(5).await;

    // One that goes does not stop the others, nor new ones.
    world.kafka.delete_topic(&region("eu")).await;
    produce(&region("us"), 400);
    world.kafka.create_topic(&region("asia"), 1, &[]).await;
    produce(&region("asia"), 500);
    produce(&world.topic, 600);
    world.until_invoiced(300).await;
    let status = consumer.terminate();
    assert!(status.success(), "{status}");

    // What was there at the next start is gone on with, also of what had appeared later; and what
    // appeared while nobody ran is new.
    produce(&region("us"), 700);
    world.kafka.create_topic(&region("africa"), 2, &[]).await;
    produce(&region("africa"), 800);
    let mut consumer = world.start(&settings);
    world.until_invoiced(400).await;
    assert!(consumer.terminate().success());
}
