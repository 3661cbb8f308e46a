use super::handlers::{Bill, Count, Do};
use super::harness::{World, ids, until};
use crate::group::Registered;
use crate::memory::Point;
use crate::pipeline::policy::LogChanged;

fn world() -> World {
    World::of(vec![Registered::of::<Count>()], 1)
}

fn places(offsets: impl IntoIterator<Item = i64>) -> Vec<String> {
    offsets.into_iter().map(|offset| format!("0/{offset}")).collect()
}

#[tokio::test(start_paused = true)]
async fn an_offset_is_handled_once_and_no_marker_is_written() {
    let world = world();
    world.broker.produce(0, ["a", "a", "b"]);
    world.drain(0).await;
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), places(0..3));
    assert!(world.store.look(|view| view.keys("count")).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_event_does_not_lose_its_neighbours() {
    let world = world();
    world.script.on_in("count", "e2", [Do::Fail, Do::Fail, Do::Panic]);
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), places(0..5));
}

#[tokio::test(start_paused = true)]
async fn a_rewind_repeats_nothing() {
    let world = world();
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), places(0..5));
    assert_eq!(world.counts().duplicates, 5);
}

#[tokio::test(start_paused = true)]
async fn a_rewind_that_is_interrupted_repeats_nothing() {
    let mut world = world();
    world.settings.max_batch = 2;
    world.broker.produce(0, ids(6));
    world.drain(0).await;
    world.broker.reset(0, 0);
    let lane = world.start(0);
    // It dies in the middle of what it had handled before, and starts again there.
    let commit = world.store.faults().pause(Point::Commit);
    commit.reached().await;
    lane.kill().await;
    commit.release();
    let lane = world.start(0);
    until(|| world.position(0) >= 2).await;
    lane.kill().await;
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), places(0..6));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_created_again_is_handled_anew() {
    let mut world = world();
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.recreate();
    world.broker.produce(0, ids(4));
    world.settings.policies.log_changed = LogChanged::Earliest;
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), [places(0..3), places(0..4)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_rewind_behind_the_log_s_start_repeats_nothing() {
    let mut world = world();
    world.broker.produce(0, ids(6));
    world.drain(0).await;
    world.broker.trim(0, 2);
    world.broker.reset(0, 0);
    world.settings.policies.log_changed = LogChanged::Earliest;
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), places(0..6), "it is the same log");
}

#[tokio::test(start_paused = true)]
async fn beside_a_handler_with_markers_each_keeps_its_own_memory() {
    let world = World::of(vec![Registered::of::<Bill>(), Registered::of::<Count>()], 1);
    world.broker.produce(0, ["a", "b", "a"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["a", "b"]);
    assert_eq!(world.store.rows("count"), places(0..3));
    assert!(world.forget("b").await);
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(world.bills(), ["a", "b", "b"]);
    assert_eq!(world.store.rows("count"), places(0..3));
}
