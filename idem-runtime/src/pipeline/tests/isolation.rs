use crate::policy::{Policy, Retry};
use std::time::Duration;

use super::handlers::{Audit, Bill, Do};
use super::harness::{World, ids, quiet, until};
use crate::error::{Error, ErrorKind};
use crate::group::Registered;

#[tokio::test(start_paused = true)]
async fn a_failed_event_does_not_mark_or_lose_its_neighbours() {
    let world = World::new();
    world.script.always("bill", "e4", Do::Fail);
    world.broker.produce(0, ids(10));
    let lane = world.start(0);
    until(|| world.script.attempts("e4").len() > 3).await;
    assert_eq!(world.position(0), 4);
    assert_eq!(lane.resolved(), Some(4));
    assert_eq!(world.bills(), ids(4));
    assert_eq!(world.marked(), ids(4), "neither the failed event nor one behind it is marked");
    world.script.mend();
    world.worked(0, 10).await;
    assert_eq!(world.bills(), ids(10), "in order");
    assert_eq!(world.marked(), ids(10));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_failure_costs_three_more_transactions() {
    let world = World::new();
    world.script.on("e4", [Do::Fail]);
    world.broker.produce(0, ids(10));
    world.drain(0).await;
    let counts = world.store.counts();
    assert_eq!((counts.begins, counts.commits), (4, 3));
    assert_eq!(world.bills(), ids(10));
}

#[tokio::test(start_paused = true)]
async fn a_failed_statement_is_the_event_s_failure() {
    let world = World::new();
    world.script.on("e2", [Do::FailStatement, Do::FailStatement]);
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(4), "what it wrote before it failed is not kept");
    assert_eq!(world.script.attempts("e2"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_commit_that_names_no_event_is_found_by_halving() {
    let world = World::new();
    world.store.faults().reject_commits(|rows| {
        let bad = rows.iter().any(|(_, value)| *value == "e5");
        bad.then(|| Error::new(ErrorKind::Store, "a deferred constraint"))
    });
    world.broker.produce(0, ids(8));
    let lane = world.start(0);
    world.worked(0, 5).await;
    quiet(Duration::from_secs(10)).await;
    assert_eq!((world.bills(), world.marked()), (ids(5), ids(5)));
    assert_eq!(world.position(0), 5);
    world.store.faults().accept_commits();
    world.worked(0, 8).await;
    assert_eq!(world.bills(), ids(8));
    let attempts = world.script.attempts("e5");
    assert!(attempts.last() > Some(&2), "failures at the commit count too: {attempts:?}");
    assert!(world.script.attempts("e4").iter().all(|it| *it == 1), "not its neighbours'");
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_tried_again_in_place_and_knows_its_attempt() {
    let world = World::new();
    world.script.on("e1", [Do::Fail, Do::Fail, Do::Fail]);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.script.attempts("e1"), [1, 2, 3, 4]);
    assert!(world.script.attempts("e0").iter().all(|attempt| *attempt == 1));
    assert_eq!(world.script.attempts("e2"), [1]);
    assert_eq!(world.bills(), ids(3));
    assert_eq!(world.counts().retried, 3, "each attempt that failed");
}

#[tokio::test(start_paused = true)]
async fn other_lanes_go_on_while_one_waits_for_its_event() {
    let world = World::of(vec![Registered::of::<Bill>()], 2);
    world.script.always("bill", "bad", Do::Fail);
    world.broker.produce(0, ["bad", "behind"]);
    let lanes = [world.start(0), world.start(1)];
    until(|| world.script.attempts("bad").len() > 2).await;
    world.broker.produce(1, ids(3));
    world.worked(1, 3).await;
    assert_eq!(world.bills(), ids(3));
    assert_eq!(world.position(0), 0);
    for lane in lanes {
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error() {
    let world = World::new();
    world.script.on("e1", [Do::Panic, Do::Panic]);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
    assert_eq!(world.script.attempts("e1"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn when_one_of_two_handlers_fails_neither_keeps_anything_of_the_event() {
    let world = World::of(vec![Registered::of::<Bill>(), Registered::of::<Audit>()], 1);
    world.script.always("audit", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    let lane = world.start(0);
    until(|| world.counts().retried > 2).await;
    assert_eq!(world.position(0), 1);
    for scope in ["bill", "audit"] {
        assert_eq!(world.store.rows(scope), ids(1));
        assert_eq!(world.marked_in(scope), ids(1));
    }
    world.script.mend();
    world.worked(0, 3).await;
    assert_eq!((world.bills(), world.store.rows("audit")), (ids(3), ids(3)));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_pauses_of_a_failing_event_grow_and_stay_below_their_bound() {
    let world = World::with(Policy::new().retry(Retry::forever()));
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce(0, ids(1));
    let lane = world.start(0);
    let failures = async |seconds| {
        let before = world.script.attempts("e0").len();
        quiet(Duration::from_secs(seconds)).await;
        world.script.attempts("e0").len() - before
    };
    assert!(failures(2).await >= 3);
    quiet(Duration::from_secs(120)).await;
    let late = failures(120).await;
    assert!((4..=9).contains(&late), "{late} in two minutes");
    lane.finish().await;
}
