use std::time::Duration;

use super::handlers::{Do, Gate};
use super::harness::{World, ids, quiet, until};
use super::parking::{PARK, discard, even, of_a, parked, produce, replay, world};
use crate::dead_letter::LetterState;
use crate::memory::Point;
use crate::policy::Retry;

#[tokio::test(start_paused = true)]
async fn a_parked_event_that_is_replayed_lets_the_others_go_in_order() {
    let world = world();
    world.script.always("bill", "e2", Do::Fail);
    produce(&world, 0, 10);
    let lane = world.start(0);
    world.worked(0, 10).await;
    produce(&world, 10, 14);
    world.worked(0, 14).await;
    assert_eq!(world.letters_in(LetterState::Waiting).len(), 5);
    world.script.mend();
    replay(&world, "e2").await;
    until(|| world.bills().len() == 14).await;
    assert_eq!(of_a(&world), even(14));
    world.assert_sums(ids(14));
    assert!(parked(&world).is_empty());
    assert_eq!(world.counts().released, 5);
    produce(&world, 14, 16);
    world.worked(0, 16).await;
    assert_eq!(of_a(&world), even(16), "nothing waits any more");
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_that_is_dropped_lets_the_others_go() {
    let world = world();
    world.script.always("bill", "e2", Do::Fail);
    produce(&world, 0, 10);
    let lane = world.start(0);
    world.worked(0, 10).await;
    discard(&world, "e2").await;
    until(|| world.bills().len() == 9).await;
    assert_eq!(of_a(&world), ["e0", "e4", "e6", "e8"]);
    world.assert_sums(ids(10));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_waited_can_fail_too_and_holds_up_those_behind_it() {
    let world = world();
    for id in ["e0", "e4"] {
        world.script.always("bill", id, Do::Fail);
    }
    produce(&world, 0, 10);
    let lane = world.start(0);
    world.worked(0, 10).await;
    discard(&world, "e0").await;
    until(|| world.letters_in(LetterState::Parked) == ["e4"]).await;
    assert_eq!(world.letters_in(LetterState::Waiting), ["e6", "e8"]);
    assert_eq!(of_a(&world), ["e2"]);
    let rows = parked(&world);
    assert_eq!((rows[0].waiting, rows[0].released), (2, false));
    world.assert_sums(ids(10));
    produce(&world, 10, 12);
    world.worked(0, 12).await;
    world.script.mend();
    replay(&world, "e4").await;
    until(|| world.bills().len() == 11).await;
    assert_eq!(of_a(&world), ["e2", "e4", "e6", "e8", "e10"]);
    world.assert_sums(ids(12));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_waited_and_fails_after_some_attempts_is_not_overtaken() {
    for slices in [1, 3] {
        let world = World::with(PARK.retry(Retry::new().max(3)).slices(slices));
        for id in ["e0", "e4"] {
            world.script.always("bill", id, Do::Fail);
        }
        produce(&world, 0, 10);
        let lane = world.start(0);
        world.worked(0, 10).await;
        discard(&world, "e0").await;
        until(|| world.letters_in(LetterState::Parked) == ["e4"]).await;
        quiet(Duration::from_secs(5)).await;
        assert_eq!(of_a(&world), ["e2"]);
        assert_eq!(world.letters_in(LetterState::Waiting), ["e6", "e8"]);
        world.script.mend();
        replay(&world, "e4").await;
        until(|| world.bills().len() == 9).await;
        assert_eq!(of_a(&world), ["e2", "e4", "e6", "e8"]);
        world.assert_sums(ids(10));
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_during_a_release_go_behind_it() {
    let mut world = world();
    world.settings.max_batch = 2;
    world.script.always("bill", "e0", Do::Fail);
    produce(&world, 0, 12);
    let lane = world.start(0);
    world.worked(0, 12).await;
    let gate = Gate::new();
    world.script.mend();
    world.script.on("e2", [Do::Wait(gate.clone())]);
    replay(&world, "e0").await;
    gate.reached().await;
    produce(&world, 12, 18);
    gate.open();
    until(|| world.bills().len() == 18).await;
    assert_eq!(of_a(&world), even(18));
    world.assert_sums(ids(18));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_event_that_is_dropped_while_it_is_released_is_not_worked() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    produce(&world, 0, 8);
    let lane = world.start(0);
    world.worked(0, 8).await;
    world.script.mend();
    replay(&world, "e0").await;
    let begin = world.store.faults().pause(Point::Begin);
    begin.reached().await;
    // The lane has read what it is going to work.
    let parked = world.store.faults().pause(Point::Parked);
    begin.release();
    parked.reached().await;
    discard(&world, "e4").await;
    parked.release();
    until(|| world.bills().len() == 7).await;
    quiet(Duration::from_secs(5)).await;
    assert_eq!(of_a(&world), ["e0", "e2", "e6"]);
    assert_eq!(world.letters_in(LetterState::Dropped), ["e4"]);
    assert!(super::parking::parked(&world).is_empty());
    world.assert_sums(ids(8));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_while_keys_are_parked_and_released_each_event_is_one_thing() {
    let points = [
        Point::Begin,
        Point::Parked,
        Point::Claim,
        Point::Pack,
        Point::GiveUp,
        Point::Released,
        Point::Unpark,
        Point::ForgetAttempts,
        Point::Seal,
        Point::Commit,
        Point::Rollback,
        Point::LockLetter,
        Point::SettleLetter,
    ];
    for point in points {
        for fault in 0..3 {
            for when in 0..2 {
                let world = world();
                for id in ["e0", "e4"] {
                    world.script.always("bill", id, Do::Fail);
                }
                let faults = world.store.faults();
                let fail = || match (fault, point) {
                    (0, _) => faults.fail(point, crate::ErrorKind::Transient),
                    (1, Point::Commit) => faults.fail(point, crate::ErrorKind::UnknownCommit),
                    (2, Point::Commit) => faults.lose_the_answer_of_a_commit(),
                    _ => {
                        faults.fail(point, crate::ErrorKind::Connection);
                        faults.fail(Point::Rollback, crate::ErrorKind::Connection);
                    }
                };
                if when == 0 {
                    fail();
                }
                produce(&world, 0, 8);
                let lane = world.start(0);
                world.worked(0, 8).await;
                world.assert_sums(ids(8));
                if when == 1 {
                    fail();
                }
                discard(&world, "e0").await;
                until(|| world.letters_in(LetterState::Parked) == ["e4"]).await;
                world.assert_sums(ids(8));
                world.script.mend();
                if when == 1 {
                    fail();
                }
                replay(&world, "e4").await;
                until(|| world.bills().len() == 7).await;
                quiet(Duration::from_secs(5)).await;
                assert_eq!(of_a(&world), ["e2", "e4", "e6"], "{point:?} {fault} {when}");
                assert!(parked(&world).is_empty(), "{point:?} {fault} {when}");
                world.assert_sums(ids(8));
                lane.finish().await;
            }
        }
    }
}
