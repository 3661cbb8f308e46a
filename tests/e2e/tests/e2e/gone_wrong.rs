//! Events and handlers that go wrong: what stops, what goes on, and that nothing is half kept.

use idem::{ErrorKind, Store as _};
use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{Said, World, until};

use crate::BIN;

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_stops_at_what_cannot_be_decoded_and_skips_nothing() {
    let world = World::new("undecodable", 2, BIN).await;
    let orders = world.orders(0, 6);
    world.kafka.produce(&world.topic, orders[..3].iter().map(|it| (Some(0), it)));
    world.kafka.produce_raw(&world.topic, 0, "k", b"{\"event_id\": \"hunter2\"}");
    world.kafka.produce(&world.topic, orders[3..4].iter().map(|it| (Some(0), it)));
    world.kafka.produce(&world.topic, orders[4..].iter().map(|it| (Some(1), it)));
    // And in the other partition a key that no database can keep, at its end.
    let mut bad = world.orders(6, 1).remove(0);
    bad.event_id = "xxx\0".into();
    world.kafka.produce(&world.topic, [(Some(1), &bad)]);

    for _ in 0..2 {
        let on_failure = Some("stop".to_owned());
        let settings = world.settings.policy(Said { on_failure, ..Said::default() });
        let app = settings.build().await.unwrap();
        let handle = app.handle();
        let run = tokio::spawn(app.run());
        until("both lanes stopped", async || handle.stopped_lanes().len() == 2).await;
        let lines = handle.stopped_lanes().join("\n");
        let place = |partition| format!("topic {}, partition {partition}, offset", world.topic);
        assert!(lines.contains(&format!("{} 3", place(0))), "{lines}");
        assert!(lines.contains("no field `order_id`"), "{lines}");
        assert!(lines.contains(&format!("{} 2", place(1))) && lines.contains("NUL"), "{lines}");
        assert!(!lines.contains("hunter2") && !lines.contains("xxx"), "{lines}");
        assert_eq!(world.invoices().await, (5, 5));
        handle.shutdown();
        let error = run.await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Decode | ErrorKind::Key), "{error:?}");
    }
    assert_eq!(world.positions().await, 3 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_fails_holds_its_lane_and_no_other_until_it_is_mended() {
    let world = World::new("failing", 2, BIN).await;
    let mut orders = world.orders(0, 40);
    orders[10].act = Act::Fail;
    orders[12].act = Act::PanicOnce;
    let spread = orders.iter().enumerate().map(|(index, it)| (Some((index % 2) as i32), it));
    world.kafka.produce(&world.topic, spread);
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    // Partition 1 is done; partition 0 stands at its sixth event, with the five before it done.
    until("the others are done", async || world.invoices().await == (25, 25)).await;
    until("it was tried again", async || handle.counts().retried >= 3).await;
    assert_eq!(world.invoices().await, (25, 25));
    sqlx::query("insert into mended values ('event-10')").execute(&world.db).await.unwrap();
    world.until_invoiced(40).await;
    handle.shutdown();
    run.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_breaks_its_transaction_leaves_neither_marker_nor_effect() {
    for act in [Act::Commit, Act::Rollback, Act::Swallow] {
        let world = World::new("broken", 2, BIN).await;
        let mut orders = world.orders(0, 20);
        orders[10].act = act;
        let spread = orders.iter().enumerate().map(|(index, it)| (Some((index % 2) as i32), it));
        world.kafka.produce(&world.topic, spread);
        let app = world.settings.build().await.unwrap();
        let handle = app.handle();
        let run = tokio::spawn(app.run());
        until("it was found", async || handle.counts().retried >= 2).await;
        until("the others are done", async || world.invoices().await == (15, 15)).await;
        let store = world.settings.store().await.unwrap();
        assert!(!store.is_processed("bill", "event-10").await.unwrap(), "{act:?}");
        assert!(!store.is_processed("bill", "event-12").await.unwrap(), "{act:?}");
        assert!(store.is_processed("bill", "event-8").await.unwrap(), "{act:?}");
        handle.shutdown();
        run.await.unwrap().unwrap();
        assert_eq!(world.invoices().await, (15, 15), "{act:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_from_headers_and_offsets_work_beside_each_other_in_one_group() {
    let mut world = World::new("keys", 2, BIN).await;
    world.settings = world.settings.handlers(&["bill", "bill_by_header", "bill_by_offset"]);
    let orders = world.orders(0, 50);
    world.produce(&orders);
    world.produce(&orders[..10]);
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_drained().await;
    handle.shutdown();
    run.await.unwrap().unwrap();
    let counts: Vec<(String, i64)> =
        sqlx::query_as("select scope, count(*) from invoices group by scope order by scope")
            .fetch_all(&world.db)
            .await
            .unwrap();
    // By its place, a repeated message is another event: that is what offset mode means.
    let expected = [("bill", 50), ("bill_by_header", 50), ("bill_by_offset", 60)];
    assert_eq!(counts, expected.map(|(scope, count)| (scope.to_owned(), count)));
}
