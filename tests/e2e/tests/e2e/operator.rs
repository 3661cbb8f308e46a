//! An operator at work: offsets reset with Kafka's own tools, a group renamed.

use idem_e2e_tests::World;
use idem_test_services::{Endpoints, Kafka, Scratch};

use crate::BIN;

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// Works everything that is there and answers (processed, duplicates, rewinds).
async fn drain(world: &World) -> (u64, u64, u64) {
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_drained().await;
    handle.shutdown();
    let counts = run.await.unwrap().unwrap();
    (counts.processed, counts.duplicates, counts.rewinds)
}

fn reset(kafka: &Kafka, world: &World, how: &[&str]) {
    let mut args = vec!["--bootstrap-server", kafka.bootstrap(), "--group", &world.settings.group];
    args.extend(["--topic", &world.topic, "--reset-offsets", "--execute"]);
    args.extend(how);
    let answer = kafka.tool(GROUPS, &args).unwrap();
    assert!(answer.contains("NEW-OFFSET"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_reset_with_kafkas_tools_are_followed_back_and_never_forward() {
    let scratch = Scratch::new("operator").unwrap();
    let kafka = Kafka::start(scratch.path()).unwrap();
    let shared = Endpoints::discover().unwrap();
    let here = Endpoints { kafka_bootstrap: kafka.bootstrap().to_owned(), ..shared };
    for handler in ["bill", "bill_by_offset"] {
        let mut world = World::on(&here, "operator", 2, BIN).await;
        world.settings = world.settings.handlers(&[handler]);
        let orders = world.orders(0, 300);
        world.produce(&orders);
        assert_eq!(drain(&world).await, (300, 0, 0), "{handler}");
        let committed = world.kafka.committed(&world.settings.group, &world.topic, 2);
        assert!(committed.iter().all(|(_, mark)| mark.contains(handler)), "{committed:?}");

        // Back: everything is read again, and found to be known.
        reset(&kafka, &world, &["--to-earliest"]);
        assert_eq!(drain_again(&world, 300).await, (0, 300, 2), "{handler}");
        // Once: the next start goes on where the database is.
        assert_eq!(drain(&world).await, (0, 0, 0), "{handler}");

        // Forward: what was not worked is not skipped.
        let more = world.orders(300, 100);
        world.produce(&more);
        reset(&kafka, &world, &["--to-latest"]);
        assert_eq!(drain(&world).await, (100, 0, 0), "{handler}");
        assert_eq!(world.invoices().await, (400, 400), "{handler}");
    }
}

/// As [`drain`], when the lanes already stand at the end and must first go back.
async fn drain_again(world: &World, deliveries: u64) -> (u64, u64, u64) {
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    idem_e2e_tests::until("everything is delivered again", async || {
        handle.counts().delivered >= deliveries
    })
    .await;
    world.until_drained().await;
    handle.shutdown();
    let counts = run.await.unwrap().unwrap();
    (counts.processed, counts.duplicates, counts.rewinds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_group_is_refused_until_it_adopts_its_scope() {
    let mut world = World::new("renamed", 2, BIN).await;
    // Packed markers are in the lanes of their group, and cannot be adopted by another.
    world.settings.markers = "rows".into();
    let orders = world.orders(0, 200);
    world.produce(&orders);
    assert_eq!(drain(&world).await, (200, 0, 0));

    let old = world.settings.group.clone();
    world.settings.group = format!("{old}_new");
    let error = world.settings.build().await.unwrap().run().await.unwrap_err();
    assert_eq!(error.kind(), idem::ErrorKind::Scope);
    let text = error.to_string();
    assert!(text.contains(&old) && text.contains("adopt_scope(\"bill\")"), "{text}");

    // The new group has no position and reads everything; the markers came with the scope.
    world.settings.adopt = vec!["bill".into()];
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    idem_e2e_tests::until("everything is read again", async || handle.counts().delivered == 200)
        .await;
    handle.shutdown();
    let counts = run.await.unwrap().unwrap();
    assert_eq!((counts.processed, counts.duplicates), (0, 200));

    world.settings.group = old;
    world.settings.adopt.clear();
    let error = world.settings.build().await.unwrap().run().await.unwrap_err();
    assert_eq!(error.kind(), idem::ErrorKind::Scope, "the old group is out");
}
