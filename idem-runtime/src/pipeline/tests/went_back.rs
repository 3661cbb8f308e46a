use std::time::Duration;

use super::client::Client;
use super::handlers::{Do, Gate};
use super::harness::{World, ids, quiet, until};
use crate::error::ErrorKind;
use crate::pipeline::policy::{DatabaseLost, Start};
use crate::policy::{Markers, Policy};

#[tokio::test(start_paused = true)]
async fn a_database_that_went_back_under_an_idle_lane_is_noticed_by_the_watch() {
    let world = World::new();
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    world.broker.produce(0, &ids(10)[..5]);
    world.worked(0, 5).await;
    let earlier = world.store.snapshot();
    world.broker.produce(0, &ids(10)[5..]);
    world.worked(0, 10).await;
    world.broker.commit_resolved(&lane.seat);

    world.store.restore(&earlier);
    assert_eq!(world.bills(), ids(5));
    world.worked(0, 10).await;
    assert_eq!((world.bills(), world.marked()), (ids(10), ids(10)));
    assert_eq!((world.counts().went_back, world.counts().fenced), (1, 0));
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_went_back_under_a_working_lane_is_noticed_by_the_seal() {
    let world = World::new();
    let lane = world.start(0);
    world.broker.produce(0, &ids(6)[..2]);
    world.worked(0, 2).await;
    let earlier = world.store.snapshot();
    world.broker.produce(0, &ids(6)[2..5]);
    world.worked(0, 5).await;
    world.store.restore(&earlier);
    world.broker.produce(0, &ids(6)[5..]);
    world.worked(0, 6).await;
    assert_eq!((world.bills(), world.marked()), (ids(6), ids(6)));
    assert_eq!(world.counts().went_back, 1);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_goes_back_within_a_transaction_is_noticed() {
    let world = World::new();
    let lane = world.start(0);
    world.broker.produce(0, &ids(6)[..2]);
    world.worked(0, 2).await;
    let earlier = world.store.snapshot();
    world.broker.produce(0, &ids(6)[2..4]);
    world.worked(0, 4).await;
    let gate = Gate::new();
    world.script.on("e5", [Do::Wait(gate.clone())]);
    world.broker.produce(0, &ids(6)[4..]);
    gate.reached().await;
    world.store.restore(&earlier);
    gate.open();
    world.worked(0, 6).await;
    assert_eq!((world.bills(), world.marked()), (ids(6), ids(6)));
    assert_eq!(world.counts().went_back, 1);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_went_back_while_nobody_ran_is_read_again_from_its_row() {
    let world = World::new();
    world.broker.produce(0, &ids(10)[..5]);
    world.drain(0).await;
    let earlier = world.store.snapshot();
    world.broker.produce(0, &ids(10)[5..]);
    world.drain(0).await;
    assert_eq!(world.broker.commit(0).unwrap().offset, 10);
    world.store.restore(&earlier);
    world.drain(0).await;
    assert_eq!((world.bills(), world.marked()), (ids(10), ids(10)));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_went_back_to_another_owner_s_time_ends_right_too() {
    let world = World::new();
    world.broker.produce(0, &ids(10)[..5]);
    world.drain(0).await;
    let earlier = world.store.snapshot();
    let lane = world.start_on("b", 0, &Client::new(&world.broker));
    let watch = world.watch(&[&lane]);
    world.broker.produce(0, &ids(10)[5..]);
    world.worked(0, 10).await;
    world.store.restore(&earlier);
    world.worked(0, 10).await;
    assert_eq!(world.bills(), ids(10));
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_source_is_told_goes_back_with_the_database() {
    let world = World::new();
    let lane = world.start(0);
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    let earlier = world.store.snapshot();
    world.script.always("bill", "e2", Do::Fail);
    world.broker.produce(0, ["x", "e2"]);
    world.worked(0, 3).await;
    world.script.always("bill", "x", Do::Fail);
    world.store.restore(&earlier);
    lane.seat.look();
    until(|| world.counts().went_back == 1).await;
    until(|| world.script.attempts("x").len() > 2).await;
    assert_eq!((world.position(0), lane.resolved()), (2, Some(2)));
    lane.finish().await;
    assert_eq!(world.broker.commit(0).unwrap().offset, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_row_is_gone_stops_and_skips_nothing() {
    let world = World::new();
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    assert!(world.store.drop_lane(&world.id(0)));
    let error = lane.stopped().await;
    assert_eq!(error.kind(), ErrorKind::DatabaseLost);
    assert!(error.to_string().contains("topic orders, partition 0"), "{error}");
    assert_eq!(world.bills(), ids(2));
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_row_is_gone_starts_where_the_policy_says() {
    // Packed markers are the lane's, and gone with it.
    let mut world = World::with(Policy::new().markers(Markers::Rows));
    world.settings.policies.database_lost = DatabaseLost::StartAt(Start::Earliest);
    let lane = world.start(0);
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    world.broker.commit_resolved(&lane.seat);
    assert!(world.store.drop_lane(&world.id(0)));
    world.broker.produce(0, ["e2"]);
    world.worked(0, 3).await;
    assert_eq!(world.bills(), ids(3));
    assert_eq!(world.counts().duplicates, 2);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_watch_raises_no_false_alarm() {
    let mut world = World::new();
    world.settings.max_batch = 1;
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    until(|| lane.seat.held().is_some()).await;
    let token = world.row(0).token;
    for n in 0..200 {
        world.broker.produce(0, [format!("e{n}")]);
        quiet(Duration::from_millis(500)).await;
    }
    assert_eq!(world.bills(), ids(200));
    assert_eq!(world.row(0).token, token, "the lane was taken once");
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_does_not_answer_the_watch_is_no_alarm() {
    let world = World::new();
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    until(|| lane.seat.held().is_some()).await;
    let token = world.row(0).token;
    world.store.faults().disconnect();
    quiet(Duration::from_secs(60)).await;
    world.store.faults().reconnect();
    quiet(Duration::from_secs(60)).await;
    assert_eq!(world.row(0).token, token);
    watch.abort();
    lane.finish().await;
}
