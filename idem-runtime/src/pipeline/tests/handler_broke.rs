use super::handlers::Do;
use super::harness::{World, ids, until};

/// The handler misbehaves at `e3` of eight, whenever it is given it.
async fn misbehaves(how: Do) {
    let world = World::new();
    world.script.always("bill", "e3", how.clone());
    world.broker.produce(0, ids(8));
    let lane = world.start(0);
    world.worked(0, 3).await;
    until(|| world.counts().retried > 2).await;
    let kept = (world.bills(), world.marked());
    assert_eq!(kept, (ids(3), ids(3)), "{how:?}: neither markers without effects nor the reverse");
    assert_eq!(world.position(0), 3);
    let attempts = world.script.attempts("e3");
    assert!(attempts.last() > Some(&1), "{how:?}: it is the event's attempt: {attempts:?}");
    world.script.mend();
    world.worked(0, 8).await;
    assert_eq!((world.bills(), world.marked()), (ids(8), ids(8)), "{how:?}");
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_commits_behind_our_back_is_found_and_its_neighbours_are_done() {
    misbehaves(Do::Commit).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_rolls_back_behind_our_back_is_found_and_its_neighbours_are_done() {
    misbehaves(Do::Rollback).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_swallows_an_error_is_found_and_its_neighbours_are_done() {
    misbehaves(Do::Swallow).await;
}

#[tokio::test(start_paused = true)]
async fn several_misbehaving_events_are_found_one_after_the_other() {
    let world = World::new();
    world.script.on("e1", [Do::Swallow, Do::Swallow, Do::Swallow, Do::Commit]);
    world.script.on("e2", [Do::Rollback, Do::Rollback, Do::Fail]);
    world.script.on("e6", [Do::Commit, Do::Swallow]);
    world.broker.produce(0, ids(8));
    world.drain(0).await;
    assert_eq!((world.bills(), world.marked()), (ids(8), ids(8)));
}
