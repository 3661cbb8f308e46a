use std::time::Duration;

use super::handlers::Do;
use super::harness::{World, claim, ids, quiet, until};
use crate::error::{Error, ErrorKind};
use crate::memory::Point;

#[tokio::test(start_paused = true)]
async fn what_passes_by_itself_is_tried_again_and_is_nobodys_attempt() {
    for point in [Point::Take, Point::Begin, claim(), Point::Seal, Point::Commit] {
        let world = World::new();
        for _ in 0..3 {
            world.store.faults().fail(point, ErrorKind::Transient);
        }
        world.broker.produce(0, ids(4));
        world.drain(0).await;
        assert_eq!((world.bills(), world.marked()), (ids(4), ids(4)), "{point:?}");
        assert!(world.script.ran().iter().all(|it| it.attempt == 1), "{point:?}");
        assert_eq!(world.counts().retried, 0, "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_in_the_handler_is_nobodys_attempt() {
    let world = World::new();
    world.script.on("e2", [Do::Transient, Do::Transient]);
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    assert_eq!((world.bills(), world.marked()), (ids(4), ids(4)));
    assert_eq!(world.script.attempts("e2"), [1, 1, 1]);
    assert_eq!(world.counts().retried, 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_at_which_the_database_keeps_failing_does_not_hold_up_those_before_it() {
    let world = World::new();
    world.script.always("bill", "e4", Do::Transient);
    world.broker.produce(0, ids(8));
    let lane = world.start(0);
    world.worked(0, 4).await;
    quiet(Duration::from_secs(60)).await;
    assert_eq!((world.bills(), world.marked()), (ids(4), ids(4)));
    assert!(world.script.attempts("e4").iter().all(|it| *it == 1));
    world.script.mend();
    world.worked(0, 8).await;
    assert_eq!(world.bills(), ids(8));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_too_big_to_commit_gets_smaller() {
    let world = World::new();
    // As a serialization failure that gets likelier with every row.
    world.store.faults().reject_commits(|rows| {
        let big = rows.len() > 3;
        big.then(|| Error::new(ErrorKind::Transient, "could not serialize"))
    });
    world.broker.produce(0, ids(20));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(20));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_for_a_minute_is_waited_for() {
    let world = World::new();
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    world.store.faults().disconnect();
    world.broker.produce(0, ["e2", "e3"]);
    quiet(Duration::from_secs(60)).await;
    assert!(!lane.is_finished());
    world.store.faults().reconnect();
    let back = tokio::time::Instant::now();
    world.worked(0, 4).await;
    assert!(back.elapsed() < Duration::from_secs(3));
    assert_eq!(world.bills(), ids(4));
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_in_the_middle_is_tried_again() {
    let world = World::new();
    for point in [claim(), Point::Seal] {
        let pause = world.store.faults().pause(point);
        let end = world.broker.produce(0, [format!("{point:?}")]);
        let lane = world.start(0);
        pause.reached().await;
        world.store.faults().disconnect();
        world.store.faults().reconnect();
        pause.release();
        world.worked(0, end).await;
        lane.finish().await;
    }
    assert_eq!(world.bills(), [format!("{:?}", claim()), "Seal".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_asked_again_and_nothing_is_skipped() {
    let world = World::new();
    for _ in 0..5 {
        world.store.faults().fail(claim(), ErrorKind::Migration);
    }
    world.broker.produce(0, ids(2));
    let lane = world.start(0);
    until(|| world.bills().len() == 2).await;
    lane.finish().await;
}
