use std::time::Duration;

use super::client::Client;
use super::handlers::{Bill, Count, Do, Gate};
use super::harness::{World, ids, is_packed, quiet, until};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::memory::Point;
use crate::policy::{Policy, Retry};

/// Everything is there once, and everybody knows it.
fn assert_done(world: &World, events: usize) {
    assert_eq!((world.bills(), world.marked()), (ids(events), ids(events)));
    assert_eq!((world.counts().processed, world.counts().duplicates), (events as u64, 0));
    assert_eq!(world.counts().delivered, events as u64);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_landed_is_recognized_and_not_done_again() {
    let world = World::new();
    world.store.faults().lose_the_answer_of_a_commit();
    world.broker.produce(0, ids(5));
    let lane = world.start(0);
    until(|| lane.resolved() == Some(5)).await;
    assert_eq!(world.script.ran().len(), 5);
    assert_done(&world, 5);
    world.broker.produce(0, ["e5"]);
    world.worked(0, 6).await;
    assert_done(&world, 6);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_and_a_commit_without_an_answer_meet_and_nothing_is_lost_or_twice() {
    for landed in [true, false] {
        let mut bill = Registered::of::<Bill>();
        bill.policy = Policy::new().timeout(Duration::from_secs(5)).retry(Retry::new().max(3));
        let world = World::of(vec![bill], 1);
        // Its second attempt succeeds, and then nobody hears of it.
        world.script.on("e2", [Do::Hang]);
        world.broker.produce(0, ids(5));
        let faults = world.store.faults();
        let lane = world.start(0);
        until(|| world.counts().retried == 1).await;
        match landed {
            true => faults.lose_the_answer_of_a_commit(),
            false => faults.fail(Point::Commit, ErrorKind::UnknownCommit),
        }
        until(|| lane.resolved() == Some(5)).await;
        assert_done(&world, 5);
        assert!(world.letters().is_empty());
        assert_eq!(world.counts().retried, 1, "a lost answer is nobody's failure");
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_lost_is_done_again() {
    let world = World::new();
    world.store.faults().fail(Point::Commit, ErrorKind::UnknownCommit);
    world.broker.produce(0, ids(5));
    let lane = world.start(0);
    until(|| lane.resolved() == Some(5)).await;
    assert_eq!(world.script.ran().len(), 10);
    assert_eq!(world.script.attempts("e0"), [1, 1], "it is nobody's failure");
    assert_done(&world, 5);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_lands_while_the_retry_waits_for_it_is_recognized() {
    let world = World::new();
    let slow = world.store.faults().lose_the_answer_of_a_slow_commit();
    world.broker.produce(0, ids(5));
    let lane = world.start(0);
    slow.reached().await;
    world.store.wait_for(|view| view.waiting() == 1).await;
    assert_ne!(lane.resolved(), Some(5));
    slow.release();
    until(|| lane.resolved() == Some(5)).await;
    // Packed, nothing is known of the keys before the seal, which waited, and kept nothing then.
    let ran = if is_packed() { 10 } else { 5 };
    assert_eq!(world.script.ran().len(), ran, "the retry of rows met duplicates only");
    assert_done(&world, 5);
    world.broker.produce(0, ["e5"]);
    world.worked(0, 6).await;
    assert_done(&world, 6);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_the_server_gives_up_late_is_done_again() {
    let world = World::new();
    let slow = world.store.faults().lose_the_answer_of_a_slow_commit();
    world.broker.produce(0, ids(5));
    let lane = world.start(0);
    slow.reached().await;
    world.store.wait_for(|view| view.waiting() == 1).await;
    world.store.faults().disconnect();
    quiet(Duration::from_secs(30)).await;
    world.store.faults().reconnect();
    slow.release();
    until(|| lane.resolved() == Some(5)).await;
    assert_done(&world, 5);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_row_is_asked_until_it_answers() {
    let world = World::new();
    world.store.faults().lose_the_answer_of_a_commit();
    for _ in 0..5 {
        world.store.faults().fail(Point::Read, ErrorKind::Connection);
    }
    world.broker.produce(0, ids(5));
    let lane = world.start(0);
    until(|| lane.resolved() == Some(5)).await;
    assert_eq!(world.script.ran().len(), 5);
    assert_done(&world, 5);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_unknown_commit_after_the_other_ends_well() {
    let world = World::new();
    for _ in 0..6 {
        world.store.faults().fail(Point::Commit, ErrorKind::UnknownCommit);
    }
    world.store.faults().lose_the_answer_of_a_commit();
    world.broker.produce(0, ids(3));
    let lane = world.start(0);
    until(|| lane.resolved() == Some(3)).await;
    assert_done(&world, 3);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_an_unknown_commit_that_landed_can_be_taken_over() {
    let world = World::new();
    world.store.faults().lose_the_answer_of_a_commit();
    let read = world.store.faults().pause(Point::Read);
    world.broker.produce(0, ids(3));
    let old = world.start(0);
    read.reached().await;
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    until(|| new.seat.held().is_some()).await;
    read.release();
    until(|| world.counts().fenced == 1).await;
    old.finish().await;
    assert_eq!(world.bills(), ids(3));
    assert_eq!(new.seat.held().unwrap().0.position.offset, 3);
    new.finish().await;
}

#[tokio::test(start_paused = true)]
async fn in_offset_mode_a_commit_that_lands_late_is_not_taken_for_a_failure_of_its_own_effect() {
    let world = World::of(vec![Registered::of::<Count>()], 1);
    let gate = Gate::new();
    world.script.on_in("count", "e0", [Do::Unique, Do::WaitUnique(gate.clone())]);
    let slow = world.store.faults().lose_the_answer_of_a_slow_commit();
    world.broker.produce(0, ids(2));
    let lane = world.start(0);
    slow.reached().await;
    // No key makes the retry wait: its handler runs, and meets the row of the first run.
    gate.reached().await;
    slow.release();
    gate.open();
    until(|| lane.resolved() == Some(2)).await;
    assert_eq!(world.store.rows("count"), ["0/0", "0/1"]);
    assert_eq!((world.counts().processed, world.counts().retried), (2, 0));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn in_offset_mode_a_commit_that_lands_at_the_retry_s_seal_is_recognized() {
    let world = World::of(vec![Registered::of::<Count>()], 1);
    let slow = world.store.faults().lose_the_answer_of_a_slow_commit();
    world.broker.produce(0, ids(2));
    let lane = world.start(0);
    slow.reached().await;
    world.store.wait_for(|view| view.waiting() == 1).await;
    slow.release();
    until(|| lane.resolved() == Some(2)).await;
    assert_eq!(world.store.rows("count"), ["0/0", "0/1"]);
    assert_eq!(world.counts().processed, 2);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_of_a_part_of_a_batch_is_resolved_for_that_part() {
    let world = World::new();
    world.script.on("e2", [Do::Fail, Do::Fail]);
    world.broker.produce(0, ids(5));
    world.store.faults().lose_the_answer_of_a_commit();
    let lane = world.start(0);
    until(|| lane.resolved() == Some(5)).await;
    assert_eq!(world.bills(), ids(5));
    assert_eq!(world.counts().processed, 5);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_beside_a_failing_retry_ends_well_whether_it_landed_or_not() {
    for lands in [true, false] {
        let world = World::of(vec![Registered::of::<Count>()], 1);
        let gate = Gate::new();
        // The first run commits with an unknown end, the second fails for a reason of its own.
        world.script.on_in("count", "e1", [Do::Unique, Do::WaitThenFail(gate.clone())]);
        world.script.always("count", "e1", Do::Unique);
        let slow = world.store.faults().lose_the_answer_of_a_slow_commit();
        world.broker.produce(0, ids(3));
        let lane = world.start(0);
        slow.reached().await;
        gate.reached().await;
        if !lands {
            world.store.faults().disconnect();
            world.store.faults().reconnect();
        }
        gate.open();
        // The parts of the retry meet the lane's row, which the slow commit still locks.
        quiet(Duration::from_secs(1)).await;
        slow.release();
        world.worked(0, 3).await;
        assert_eq!(world.store.rows("count"), ["0/0", "0/1", "0/2"], "lands: {lands}");
        lane.finish().await;
    }
}
