use std::time::Duration;

use super::client::Client;
use super::handlers::{Count, Do, Gate};
use super::harness::{World, ids, quiet, until};
use crate::group::Registered;
use crate::memory::Point;
use crate::pipeline::stop::Stop;

#[tokio::test(start_paused = true)]
async fn a_late_owner_is_fenced_at_the_claim_and_its_handler_does_not_run() {
    let world = World::new();
    let old = world.start(0);
    until(|| old.seat.held().is_some()).await;
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    until(|| new.seat.held().is_some()).await;
    world.broker.produce(0, ids(1));
    world.worked(0, 1).await;
    until(|| world.counts().fenced == 1).await;
    assert_eq!(world.script.ran().len(), 1);
    assert_ne!(old.resolved(), Some(1), "what it did not commit it does not resolve");
    old.finish().await;
    assert_eq!(world.bills(), ids(1));
    new.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_late_owner_with_an_open_transaction_is_fenced_at_the_seal() {
    let world = World::new();
    let gate = Gate::new();
    world.script.on("e1", [Do::Wait(gate.clone())]);
    world.broker.produce(0, ids(3));
    let old = world.start(0);
    gate.reached().await;
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    // It takes the lane while the old owner's transaction is open; only a claim of rows has to wait.
    world.held_up(&new).await;
    gate.open();
    world.worked(0, 3).await;
    until(|| world.counts().fenced == 1).await;
    assert_eq!((world.bills(), world.marked()), (ids(3), ids(3)));
    assert_ne!(old.resolved(), Some(3));
    old.finish().await;
    new.finish().await;
    assert_eq!(world.bills(), ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_late_owner_is_fenced_even_where_no_key_makes_anybody_wait() {
    let world = World::of(vec![Registered::of::<Count>()], 1);
    let gate = Gate::new();
    world.script.on_in("count", "e0", [Do::Wait(gate.clone())]);
    world.broker.produce(0, ids(2));
    let old = world.start(0);
    gate.reached().await;
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    world.worked(0, 2).await;
    gate.open();
    until(|| world.counts().fenced == 1).await;
    old.finish().await;
    new.finish().await;
    assert_eq!(world.store.rows("count"), ["0/0", "0/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_takeover_between_seal_and_commit_waits_and_goes_on_behind_that_batch() {
    let world = World::new();
    let pause = world.store.faults().pause(Point::Commit);
    world.broker.produce(0, ids(3));
    let old = world.start(0);
    pause.reached().await;
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    quiet(Duration::from_secs(1)).await;
    assert!(new.seat.held().is_none());
    pause.release();
    until(|| new.seat.held().is_some()).await;
    assert_eq!(new.seat.held().unwrap().0.position.offset, 3);
    assert_eq!(world.script.ran().len(), 3);
    assert_eq!(world.bills(), ids(3));
    old.finish().await;
    new.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_gives_up_its_transaction_lets_the_new_one_go_on() {
    let world = World::new();
    let gate = Gate::new();
    world.script.on("e0", [Do::Wait(gate.clone())]);
    world.broker.produce(0, ids(2));
    let old = world.start(0);
    gate.reached().await;
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    world.held_up(&new).await;
    old.ask(Stop::Abandon);
    old.ended().await;
    world.worked(0, 2).await;
    assert_eq!(world.bills(), ids(2));
    new.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_that_is_still_assigned_takes_the_lane_again() {
    let world = World::new();
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    // Somebody took the lane and died.
    let other = world.start_on("b", 0, &Client::new(&world.broker));
    until(|| other.seat.held().is_some()).await;
    other.kill().await;
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    assert_eq!((world.bills(), world.counts().fenced), (ids(2), 1));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_reach_the_broker_does_not_take_the_lane_from_one_who_can() {
    let world = World::new();
    let client = Client::new(&world.broker);
    let zombie = world.start_on("a", 0, &client);
    until(|| zombie.seat.held().is_some()).await;
    client.cut_off(true);
    let owner = world.start_on("b", 0, &Client::new(&world.broker));
    until(|| owner.seat.held().is_some()).await;
    let token = world.row(0).token;
    zombie.seat.look();
    until(|| world.counts().fenced == 1).await;
    quiet(Duration::from_secs(60)).await;
    assert_eq!(world.row(0).token, token);
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    assert_eq!(world.counts().fenced, 1);
    zombie.finish().await;
    owner.finish().await;
}
