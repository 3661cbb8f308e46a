//! Scopes whose markers change their form from release to release.

use idem::{ErrorKind, Store as _};
use idem_e2e_tests::process::ConsumerProcess;
use idem_e2e_tests::{World, until};

use crate::BIN;

/// Reads the whole topic once more, in this process; nothing of it is new.
async fn read_again(world: &World) {
    for partition in 0..world.partitions {
        world.kafka.commit(&world.settings.group, &world.topic, partition, 0);
    }
    let all = u64::try_from(world.ends()).unwrap();
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    until("all is delivered again", async || handle.counts().delivered >= all).await;
    world.until_drained().await;
    handle.shutdown();
    assert_eq!(run.await.unwrap().unwrap().processed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_releases_side_by_side_and_kills_each_order_is_billed_once_in_whatever_form() {
    const NEW: i64 = 1_000;
    let mut world = World::new("switched", 4, BIN).await;
    let orders = world.orders(0, 4 * NEW);
    let mut former: Option<ConsumerProcess> = None;
    for (round, form) in (1..).zip(["rows", "packed", "rows", "packed"]) {
        world.settings.markers = form.into();
        // The next release joins the one that is there, and has some of its partitions.
        let mut consumer = world.start_working(&world.settings).await;
        world.produce(&orders[..usize::try_from(round * NEW).unwrap()]);
        until("half of what is new is billed", async || {
            world.invoices().await.0 >= round * NEW - NEW / 2
        })
        .await;
        if let Some(mut former) = former.take() {
            former.kill();
        }
        world.until_drained().await;
        assert_eq!(world.invoices().await, (round * NEW, round * NEW), "{form}");
        if round == 4 {
            assert!(consumer.terminate().success());
        } else {
            former = Some(consumer);
        }
    }
    for form in ["packed", "rows", "packed"] {
        world.settings.markers = form.into();
        read_again(&world).await;
        assert_eq!(world.invoices().await, (4 * NEW, 4 * NEW), "{form}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_kafka_is_let_through_when_nothing_is_packed() {
    let mut world = World::new("switched_calls", 1, BIN).await;
    world.settings.markers = "packed".into();
    let orders = world.orders(0, 10);
    world.produce(&orders);
    read_once(&world).await;
    world.settings.markers = "rows".into();
    read_once(&world).await;
    let store = world.settings.store().await.unwrap();
    let known = orders[3].event_id.as_str();
    assert!(store.is_processed("bill", known).await.unwrap());
    let refused = store.mark_processed("bill", known, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Scope, "{refused}");
    for order in &orders {
        let key = idem::Key::new(order.event_id.as_str()).unwrap();
        assert!(store.forget_marker("bill", &key).await.unwrap());
    }
    assert!(store.mark_processed("bill", known, None).await.unwrap().is_processed());
}

/// Works what is there.
async fn read_once(world: &World) {
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_drained().await;
    handle.shutdown();
    run.await.unwrap().unwrap();
}
