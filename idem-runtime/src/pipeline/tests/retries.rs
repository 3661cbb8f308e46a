use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::client::Client;
use super::handlers::{Bill, Do};
use super::harness::{World, ids, quiet, until};
use crate::dead_letter::{FailureClass, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::lane::AttemptRow;
use crate::memory::Point;
use crate::policy::{OnFailure, Policy, Retry};

const SECOND: Duration = Duration::from_secs(1);

fn retrying(retry: Retry) -> World {
    World::with(Policy::new().retry(retry))
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_attempts_as_the_policy_says() {
    for max in 1..5 {
        let world = retrying(Retry::new().max(max));
        world.script.always("bill", "e1", Do::Fail);
        world.broker.produce(0, ids(3));
        world.drain(0).await;
        assert_eq!(world.script.attempts("e1"), (1..=max).collect::<Vec<_>>());
        assert_eq!(world.counts().retried, u64::from(max) - 1);
        world.assert_sums(ids(3));
    }
}

#[tokio::test(start_paused = true)]
async fn the_pauses_between_attempts_double_to_the_longest() {
    let world = retrying(Retry::new().max(5).backoff(SECOND, SECOND * 3).jitter(false));
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce(0, ids(1));
    let began = Instant::now();
    world.drain(0).await;
    let took = began.elapsed();
    assert!((9.0..9.1).contains(&took.as_secs_f64()), "1 + 2 + 3 + 3: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_total_time() {
    let world = retrying(Retry::forever().backoff(SECOND, SECOND * 60).total(SECOND * 10));
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    let lane = world.start(0);
    let noted = |row: crate::lane::LaneRow| row.attempts.len() == 1;
    until(|| world.store.lane(&world.id(0)).is_some_and(noted)).await;
    lane.kill().await;
    let mut first = world.row(0).attempts[0].clone();
    // Another process finds that the first failure was nine seconds ago.
    first.first_failed_at = SystemTime::now() - SECOND * 9;
    let held = world.row(0).held();
    assert!(crate::Store::note_attempt(&world.store, &held, &first).await.unwrap());
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e1"]);
    assert_eq!(world.script.attempts("e1"), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_on_by_the_next_owner() {
    let world = retrying(Retry::new().max(4));
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    let lane = world.start(0);
    until(|| world.script.attempts("e1").len() == 2).await;
    until(|| world.row(0).attempts.iter().any(|it| it.failures == 2)).await;
    lane.kill().await;
    let lane = world.start_on("b", 0, &Client::new(&world.broker));
    world.worked(0, 3).await;
    assert_eq!(world.script.attempts("e1"), [1, 2, 3, 4]);
    let letter = &world.store.look(|view| view.letters())[0];
    assert_eq!(letter.cause.as_ref().unwrap().attempts, 4);
    assert!(world.row(0).attempts.is_empty());
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_succeeds_at_last_is_no_longer_known_for_its_failures() {
    let world = retrying(Retry::new().max(4));
    world.script.on("e1", [Do::Fail, Do::Fail, Do::Fail]);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
    assert!(world.row(0).attempts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_of_many_failing_events_has_its_own_attempts() {
    let world = retrying(Retry::new().max(3));
    for id in ["e1", "e2", "e7"] {
        world.script.always("bill", id, Do::Fail);
    }
    world.script.on("e4", [Do::Fail, Do::Fail]);
    world.broker.produce(0, ids(10));
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e1", "e2", "e7"]);
    assert_eq!(world.script.attempts("e4"), [1, 2, 3]);
    world.assert_sums(ids(10));
}

#[tokio::test(start_paused = true)]
async fn attempts_that_cannot_be_noted_are_noted_later() {
    let world = retrying(Retry::new().max(3));
    world.script.always("bill", "e1", Do::Fail);
    for _ in 0..5 {
        world.store.faults().fail(Point::NoteAttempt, ErrorKind::Connection);
    }
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.script.attempts("e1"), [1, 2, 3]);
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_lane_stops_at_an_event_when_its_attempts_are_used_up() {
    let world = World::with(Policy::new().retry(Retry::new().max(2)).on_failure(OnFailure::Stop));
    world.script.always("bill", "e2", Do::Fail);
    world.broker.produce(0, ids(5));
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Stopped);
    for part in ["offset 2", "bill", "the test made it fail"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!((world.bills(), world.position(0)), (ids(2), 2));
    assert!(world.letters().is_empty());
    world.script.mend();
    world.drain(0).await;
    assert_eq!(world.bills(), ids(5), "it starts again at the event");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_stops_a_lane_at_once() {
    let world = World::with(Policy::new().on_failure(OnFailure::Stop));
    world.script.always("bill", "e2", Do::FailForGood);
    world.broker.produce(0, ids(5));
    assert_eq!(world.start(0).stopped().await.kind(), ErrorKind::Stopped);
    assert_eq!((world.bills(), world.position(0)), (ids(2), 2));
    assert_eq!(world.script.attempts("e2"), [1]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_takes_too_long_is_dropped_with_its_transaction_and_counts() {
    let policy = Policy::new().timeout(SECOND * 5).retry(Retry::new().max(2));
    let world = World::with(policy);
    world.script.always("bill", "e1", Do::Hang);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.script.attempts("e1"), [1, 2]);
    let letter = &world.store.look(|view| view.letters())[0];
    let cause = letter.cause.as_ref().unwrap();
    assert_eq!((cause.class, cause.attempts), (FailureClass::Timeout, 2));
    assert!(cause.error.contains("5s"), "{}", cause.error);
    assert_eq!(world.store.look(|view| view.open()), 0);
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_breaks_its_connection_each_time_is_to_blame_after_three() {
    let world = retrying(Retry::new().max(2));
    world.script.always("bill", "e2", Do::LoseConnection);
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    let letter = &world.store.look(|view| view.letters())[0];
    let cause = letter.cause.as_ref().unwrap();
    assert_eq!((cause.class, cause.attempts), (FailureClass::Connection, 2));
    world.assert_sums(ids(5));
    let attempts = world.script.attempts("e2");
    assert!(attempts.iter().filter(|it| **it == 2).count() == 3, "{attempts:?}");
    assert!(world.script.attempts("e1").iter().all(|it| *it == 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_now_and_then_is_nobodys_failure() {
    let world = retrying(Retry::never());
    world.script.on("e2", [Do::LoseConnection, Do::LoseConnection]);
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(5));
    assert_eq!(world.counts().retried, 0);
}

#[tokio::test(start_paused = true)]
async fn connections_lost_over_a_batch_are_not_counted_for_one_event_that_meets_deadlocks() {
    let world = retrying(Retry::never());
    let lost = std::iter::repeat_n(Do::LoseConnection, 3);
    world.script.on("e0", lost.chain(std::iter::repeat_n(Do::Transient, 12)));
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
    assert!(world.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn transient_faults_are_never_attempts_however_many() {
    let world = retrying(Retry::never());
    world.script.on("e2", std::iter::repeat_n(Do::Transient, 40));
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(5));
    assert!(world.script.attempts("e2").iter().all(|it| *it == 1));
    assert!(world.counts().repeated >= 40);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_a_lost_connection_can_have_caused_is_none() {
    let world = retrying(Retry::never());
    world.script.on("e1", [Do::Fail]);
    world.store.faults().fail(Point::Rollback, ErrorKind::Connection);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
    assert_eq!(world.script.attempts("e1"), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_uses_up_no_attempts() {
    let world = retrying(Retry::never());
    world.broker.produce(0, ids(3));
    let pause = world.store.faults().pause(Point::Seal);
    let lane = world.start(0);
    pause.reached().await;
    world.store.faults().disconnect();
    pause.release();
    quiet(SECOND * 60).await;
    world.store.faults().reconnect();
    world.worked(0, 3).await;
    assert_eq!(world.bills(), ids(3));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_notes_an_attempt_when_it_is_fenced_stops_there() {
    let world = World::of(vec![Registered::of::<Bill>()], 1);
    world.script.always("bill", "e0", Do::Fail);
    let note = world.store.faults().pause(Point::NoteAttempt);
    world.broker.produce(0, ids(2));
    let old = world.start(0);
    note.reached().await;
    world.script.mend();
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    world.worked(0, 2).await;
    note.release();
    until(|| world.counts().fenced == 1).await;
    let attempts: Vec<AttemptRow> = world.row(0).attempts;
    assert!(attempts.is_empty(), "{attempts:?}");
    world.assert_sums(ids(2));
    old.finish().await;
    new.finish().await;
}
