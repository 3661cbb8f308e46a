use std::time::Duration;

use tokio::time::Instant;

use super::broker::Call;
use super::client::Client;
use super::handlers::{Do, Gate};
use super::harness::{World, claim, ids, quiet, until};
use crate::error::ErrorKind;
use crate::memory::Point;
use crate::pipeline::stop::Stop;

#[tokio::test(start_paused = true)]
async fn finish_ends_the_running_transaction_and_begins_no_other() {
    let mut world = World::new();
    world.settings.max_batch = 2;
    let gate = Gate::new();
    world.script.on("e1", [Do::Wait(gate.clone())]);
    world.broker.produce(0, ids(6));
    let lane = world.start(0);
    gate.reached().await;
    lane.ask(Stop::Finish);
    quiet(Duration::from_secs(1)).await;
    assert!(!lane.is_finished());
    gate.open();
    lane.finish().await;
    assert_eq!((world.bills(), world.position(0)), (ids(2), 2));
    assert_eq!(world.store.counts().begins, 1);
    assert_eq!(world.broker.commit(0).unwrap().offset, 2);
    assert!(world.store.look(|view| view.owner(&world.id(0)).is_none()), "a clean release");
}

#[tokio::test(start_paused = true)]
async fn finish_begins_no_transaction_for_the_rest_of_a_batch_that_failed() {
    let world = World::new();
    let gate = Gate::new();
    world.script.on("e2", [Do::WaitThenFail(gate.clone())]);
    world.broker.produce(0, ids(5));
    let lane = world.start(0);
    gate.reached().await;
    lane.ask(Stop::Finish);
    gate.open();
    lane.finish().await;
    assert_eq!((world.bills().len(), world.store.counts().begins), (0, 1));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(5));
}

#[tokio::test(start_paused = true)]
async fn abandon_drops_the_running_transaction_and_nothing_is_kept() {
    let world = World::new();
    let gate = Gate::new();
    world.script.on("e1", [Do::Wait(gate.clone())]);
    world.broker.produce(0, ids(3));
    let lane = world.start(0);
    gate.reached().await;
    lane.ask(Stop::Abandon);
    lane.finish().await;
    assert_eq!((world.bills().len(), world.marked().len(), world.position(0)), (0, 0, 0));
    assert_eq!(world.store.look(|view| view.open()), 0);
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_interrupted() {
    let world = World::new();
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce(0, ids(1));
    let lane = world.start(0);
    quiet(Duration::from_secs(100)).await;
    let asked = Instant::now();
    lane.finish().await;
    assert!(asked.elapsed() < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_lane_leaves_at_once_while_its_database_is_away() {
    // While it takes the lane, while it begins, while it asks how a commit ended.
    for step in 0..3 {
        let world = World::new();
        world.broker.produce(0, ids(2));
        let faults = world.store.faults();
        let lane = match step {
            0 => {
                faults.disconnect();
                world.start(0)
            }
            1 => {
                let begin = faults.pause(Point::Begin);
                let lane = world.start(0);
                begin.reached().await;
                faults.disconnect();
                begin.release();
                lane
            }
            _ => {
                faults.fail(Point::Commit, ErrorKind::UnknownCommit);
                let read = faults.pause(Point::Read);
                let lane = world.start(0);
                read.reached().await;
                faults.disconnect();
                read.release();
                lane
            }
        };
        quiet(Duration::from_secs(60)).await;
        let asked = Instant::now();
        lane.finish().await;
        assert!(asked.elapsed() < Duration::from_millis(5), "step {step}");
        faults.reconnect();
        world.drain(0).await;
        assert_eq!(world.bills(), ids(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_hangs_does_not_hold_up_the_leave_for_long() {
    let world = World::new();
    let release = world.store.faults().pause(Point::Release);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    let asked = Instant::now();
    lane.finish().await;
    assert!(asked.elapsed() <= Duration::from_secs(3));
    release.release();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_anywhere_leaves_all_or_nothing() {
    for point in [Point::Take, Point::Begin, claim(), Point::Seal, Point::Commit] {
        let world = World::new();
        world.broker.produce(0, ids(4));
        world.drain(0).await;
        world.broker.produce(0, ["e4", "e5"]);
        let pause = world.store.faults().pause(point);
        let lane = world.start(0);
        pause.reached().await;
        lane.kill().await;
        pause.release();
        assert_eq!((world.bills(), world.marked()), (ids(4), ids(4)), "{point:?}");
        world.drain(0).await;
        assert_eq!((world.bills(), world.marked()), (ids(6), ids(6)), "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_lost_its_other_end_leaves() {
    let world = World::new();
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    drop(lane.stopper);
    lane.task.await.unwrap();
    assert!(lane.seat.held().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panic_outside_of_a_handler_stops_the_lane_with_an_error() {
    let world = World::new();
    world.broker.fail(Call::Panic);
    let error = world.start(0).stopped().await;
    assert!(error.report().contains("the test made it panic"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_being_started_leaves_at_once() {
    let world = World::new();
    let client = Client::new(&world.broker);
    client.hang_at_start();
    let lane = world.start_on("a", 0, &client);
    until(|| lane.seat.held().is_some()).await;
    let asked = Instant::now();
    lane.finish().await;
    assert!(asked.elapsed() < Duration::from_millis(5));
}
