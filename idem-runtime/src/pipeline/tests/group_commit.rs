use std::time::Duration;

use tokio::time::Instant;

use super::handlers::{Audit, Bill};
use super::harness::{World, ids, quiet};
use crate::group::Registered;
use crate::memory::Point;

#[tokio::test(start_paused = true)]
async fn events_that_wait_are_one_transaction_with_one_claim() {
    let world = World::new();
    world.broker.produce(0, ids(200));
    world.drain(0).await;
    let counts = world.store.counts();
    let claims = counts.claims + counts.packs;
    assert_eq!((counts.begins, claims, counts.seals, counts.commits), (1, 1, 1, 1));
    assert_eq!(world.bills(), ids(200));
    assert_eq!(world.counts().batches, 1);
    assert_eq!(world.counts().processed, 200);
}

#[tokio::test(start_paused = true)]
async fn a_lone_event_waits_for_nobody() {
    let world = World::new();
    let lane = world.start(0);
    quiet(Duration::from_secs(5)).await;
    let produced = Instant::now();
    world.broker.produce(0, ["e0"]);
    world.worked(0, 1).await;
    assert!(produced.elapsed() < Duration::from_millis(5));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_full_lingers_when_it_is_told_to() {
    let mut world = World::new();
    world.settings.linger = Duration::from_secs(1);
    world.settings.max_batch = 3;
    let lane = world.start(0);
    world.broker.produce(0, ["e0"]);
    quiet(Duration::from_millis(500)).await;
    world.broker.produce(0, ["e1"]);
    world.worked(0, 2).await;
    assert_eq!(world.store.counts().commits, 1);
    let full = Instant::now();
    world.broker.produce(0, ["e2", "e3", "e4"]);
    world.worked(0, 5).await;
    assert!(full.elapsed() < Duration::from_millis(5), "a full batch waits for nobody");
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_has_no_more_events_than_it_may() {
    let mut world = World::new();
    world.settings.max_batch = 10;
    world.broker.produce(0, ids(25));
    world.drain(0).await;
    assert_eq!(world.store.counts().commits, 3);
    assert_eq!(world.bills(), ids(25));
}

#[tokio::test(start_paused = true)]
async fn positions_are_contiguous_among_what_is_delivered_and_jump_over_holes() {
    let mut world = World::new();
    world.settings.max_batch = 2;
    world.broker.hole(0, 4);
    world.broker.produce(0, ["e0", "e1"]);
    world.broker.hole(0, 7);
    world.broker.produce(0, ["e2"]);
    world.broker.hole(0, 2);
    let lane = world.start(0);
    world.worked(0, 14).await;
    assert_eq!(world.bills(), ids(3));
    assert_eq!(lane.resolved(), Some(14));
    world.broker.produce(0, ["e3"]);
    world.worked(0, 17).await;
    lane.finish().await;
    assert_eq!(world.broker.commit(0).unwrap().offset, 17);
}

#[tokio::test(start_paused = true)]
async fn the_source_is_told_a_position_only_after_the_confirmed_commit() {
    let world = World::new();
    let pause = world.store.faults().pause(Point::Commit);
    let lane = world.start(0);
    world.broker.produce(0, ids(3));
    pause.reached().await;
    quiet(Duration::from_secs(1)).await;
    assert!(lane.resolved().unwrap_or(0) == 0, "{:?}", lane.resolved());
    pause.release();
    world.worked(0, 3).await;
    assert_eq!(lane.resolved(), Some(3));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_matches_two_handlers_runs_both_in_order_and_in_one_transaction() {
    let world = World::of(vec![Registered::of::<Bill>(), Registered::of::<Audit>()], 1);
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    let ran: Vec<_> = world.script.ran().into_iter().map(|it| (it.scope, it.id)).collect();
    let expected = [("bill", "e0"), ("audit", "e0"), ("bill", "e1"), ("audit", "e1")];
    assert_eq!(ran, expected.map(|(scope, id)| (scope, id.to_owned())));
    assert_eq!(world.store.counts().commits, 1);
    assert_eq!(world.store.rows("audit"), ids(2));
    assert_eq!(world.marked_in("audit"), ids(2), "each has its own scope");
    assert_eq!(world.marked(), ids(2));
}
