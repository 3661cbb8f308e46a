use std::time::Duration;

use super::broker::{Call, ours};
use super::client::Client;
use super::handlers::{Bill, Do, Gate};
use super::harness::{World, ids, quiet, until};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::memory::Point;
use crate::pipeline::policy::{LayoutChanged, Start};

#[tokio::test(start_paused = true)]
async fn latest_is_resolved_once_for_all_partitions() {
    let mut world = World::of(vec![Registered::of::<Bill>()], 3);
    world.settings.policies.start = Some(Start::Latest);
    for partition in world.broker.partitions() {
        world.broker.produce(partition, [format!("old{partition}")]);
    }
    let first = world.start(0);
    until(|| first.seat.held().is_some()).await;
    // Written after the group first looked, before these lanes start.
    world.broker.produce(1, ["new1"]);
    world.broker.produce(2, ["new2"]);
    world.drain(1).await;
    world.drain(2).await;
    assert_eq!(world.bills(), ["new1", "new2"]);
    // A partition that is added later starts at its beginning. Packed markers mind that there are more.
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.broker.add_partitions(1);
    world.broker.produce(3, ["new3"]);
    world.drain(3).await;
    assert_eq!(world.bills()[2], "new3");
    first.finish().await;
}

#[tokio::test(start_paused = true)]
async fn lanes_of_a_new_topic_that_start_together_do_not_stumble_over_each_other() {
    let world = World::of(vec![Registered::of::<Bill>()], 8);
    let opening = world.store.faults().pause(Point::Lanes);
    let lanes: Vec<_> = world.broker.partitions().map(|it| world.start(it)).collect();
    opening.reached().await;
    until(|| lanes[1..].iter().all(|lane| lane.seat.held().is_some())).await;
    let before = tokio::time::Instant::now();
    opening.release();
    until(|| lanes[0].seat.held().is_some()).await;
    assert!(before.elapsed() < Duration::from_millis(5), "it did not fail and try again");
    for lane in lanes {
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_s_rewind_is_followed_once_and_marked_before_anything_is_worked() {
    let world = World::new();
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    assert!(world.forget("e3").await);
    world.broker.reset(0, 2);
    let gate = Gate::new();
    world.script.on("e3", [Do::Wait(gate.clone())]);
    let lane = world.start(0);
    gate.reached().await;
    assert_eq!(world.broker.commit(0), Some(ours(2)));
    assert_eq!((world.position(0), world.counts().rewinds), (2, 1));
    // A crash now is not a second rewind.
    lane.kill().await;
    world.drain(0).await;
    assert_eq!(world.counts().rewinds, 1);
    assert_eq!(world.bills(), ["e0", "e1", "e2", "e3", "e4", "e3"]);
    world.drain(0).await;
    assert_eq!(world.counts().rewinds, 1);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_the_rewind_and_its_mark_is_made_up_for() {
    let world = World::new();
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    world.broker.reset(0, 2);
    world.broker.fail(Call::Mark);
    let lane = world.start(0);
    until(|| world.position(0) == 2).await;
    lane.kill().await;
    assert_eq!(world.broker.marks(), []);
    world.drain(0).await;
    assert_eq!((world.broker.marks(), world.counts().rewinds), (vec![(0, 2)], 1));
    assert_eq!((world.bills(), world.counts().duplicates), (ids(5), 3));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_worked_while_a_rewind_cannot_be_marked() {
    let world = World::new();
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    world.broker.reset(0, 2);
    for _ in 0..4 {
        world.broker.fail(Call::Mark);
    }
    let delivered = world.counts().delivered;
    let lane = world.start(0);
    until(|| world.position(0) == 2).await;
    assert_eq!(world.counts().delivered, delivered);
    world.worked(0, 5).await;
    assert_eq!((world.broker.marks(), world.counts().rewinds), (vec![(0, 2)], 1));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_s_skip_is_not_followed() {
    let world = World::new();
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    world.broker.produce(0, ["e2", "e3"]);
    world.broker.reset(0, 4);
    world.drain(0).await;
    assert_eq!(world.bills(), ids(4));
    assert_eq!(world.broker.marks(), [(0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_from_before_idem_is_not_a_rewind_of_the_lane_that_opened_over_it() {
    let mut world = World::new();
    world.settings.policies.start = Some(Start::Latest);
    world.broker.produce(0, ids(5));
    world.broker.reset(0, 2);
    // The commit cannot be marked at first: the lane is open and has not begun.
    world.broker.fail(Call::Mark);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ["e5"]);
    world.worked(0, 6).await;
    assert_eq!((world.bills(), world.counts().rewinds), (vec!["e5".to_owned()], 0));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_with_a_commit_of_others_asks_where_to_start() {
    let mut world = World::new();
    world.broker.produce(0, ids(5));
    world.broker.reset(0, 3);
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("Start::Committed"), "{error}");
    world.settings.policies.start = Some(Start::Committed);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e3", "e4"]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_knows_nothing_of_our_own_commit_is_refused() {
    let before = World::new();
    before.broker.produce(0, ids(2));
    before.drain(0).await;
    let mut world = World::new();
    world.broker = before.broker;
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::DatabaseLost);
    assert_eq!((world.bills(), world.broker.commit(0).unwrap().offset), (vec![], 2));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let world = World::new();
    world.broker.produce(0, ids(2));
    let client = Client::new(&world.broker);
    client.cut_off(true);
    let lane = world.start_on("a", 0, &client);
    quiet(Duration::from_secs(60)).await;
    assert!(!lane.is_finished());
    client.cut_off(false);
    world.worked(0, 2).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_another_process_opens_meanwhile_is_no_lost_database() {
    let world = World::new();
    world.broker.produce(0, ids(3));
    // It found no row, and waits for the broker.
    let client = Client::new(&world.broker);
    client.answers(false);
    let slow = world.start_on("slow", 0, &client);
    quiet(Duration::from_millis(100)).await;
    // Another process opens the topic, works it, commits with its mark and leaves.
    let fast = world.start_on("fast", 0, &Client::new(&world.broker));
    world.worked(0, 3).await;
    world.broker.commit_resolved(&fast.seat);
    fast.finish().await;
    client.answers(true);
    until(|| slow.seat.held().is_some()).await;
    slow.finish().await;
    assert_eq!(world.bills(), ids(3));
}
