//! Attempts with effects outside of the database that are, or were, somebody else's.

use std::time::Duration;

use tokio::time::Instant;

use super::handlers::{Do, Gate};
use super::harness::{DEADLINE, Running, World, ids, quiet, until};
use super::outside::{Remote, charge, charges, killed_in, state, world};
use super::parking::{discard, parked};
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::effects::{UnknownEnd, can_take};
use crate::error::ErrorKind;
use crate::lane::Owner;
use crate::marker::MarkerState;
use crate::memory::{Pause, Point};
use crate::packed::Budget;
use crate::pipeline::policy::Stale;
use crate::pipeline::slices::slice_of_key;
use crate::policy::{Markers, OnFailure, Policy, Window};
use crate::store::Store as _;

const EACH: [UnknownEnd; 4] = [
    UnknownEnd::Retry,
    UnknownEnd::RetryAfter(Duration::from_secs(1)),
    UnknownEnd::Never,
    UnknownEnd::Probe,
];

fn two_lanes(unknown: UnknownEnd) -> (World, Remote) {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(unknown);
    (World::with_state(vec![charge(policy)], 2, remote.clone()), remote)
}

/// Starts the lane of partition 0, and stops it when its first attempt is written down and not run.
async fn between(world: &World) -> (Running, Pause) {
    let first = world.store.faults().pause(Point::Begin);
    let lane = world.start(0);
    first.reached().await;
    let second = world.store.faults().pause(Point::Begin);
    first.release();
    second.reached().await;
    assert_eq!(state(world, "e0").await, Some(MarkerState::Begun));
    (lane, second)
}

fn letters(world: &World) -> Vec<(String, LetterState, Option<FailureClass>)> {
    let letters = world.letters().into_iter();
    letters.map(|(_, id, state, class)| (id, state, class)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_goes_on_in_another_lane_is_given_its_time() {
    for unknown in EACH {
        let (world, remote) = two_lanes(unknown);
        world.broker.produce(0, ["e0"]);
        world.broker.produce(1, ["e0", "e1"]);
        let (first, begun) = between(&world).await;
        let second = world.start(1);
        quiet(Duration::from_secs(30)).await;
        assert_eq!((world.position(1), remote.effects()), (0, 0), "{unknown:?}");
        begun.release();
        world.worked(0, 1).await;
        world.worked(1, 2).await;
        assert_eq!((remote.effects(), charges(&world)), (2, ids(2)), "{unknown:?}");
        assert_eq!((world.counts().duplicates, world.letters().len()), (1, 0), "{unknown:?}");
        first.finish().await;
        second.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_attempt_that_failed_is_run_itself() {
    let (world, remote) = two_lanes(UnknownEnd::Never);
    world.broker.produce(0, ["e0"]);
    world.broker.produce(1, ["e0"]);
    let (first, begun) = between(&world).await;
    let second = world.start(1);
    quiet(Duration::from_secs(5)).await;
    world.script.on_in("charge", "e0", [Do::Fail]);
    begun.release();
    world.worked(0, 1).await;
    world.worked(1, 1).await;
    assert_eq!((remote.effects(), charges(&world)), (1, ids(1)));
    assert_eq!((world.counts().duplicates, world.letters().len()), (1, 0));
    first.finish().await;
    second.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_outlived_its_time_is_one_whose_end_is_not_known() {
    let (world, remote) = two_lanes(UnknownEnd::Never);
    world.broker.produce(0, ["e0"]);
    world.broker.produce(1, ["e0", "e1"]);
    killed_in(&world, "e0").await;
    let began = Instant::now();
    world.drain(1).await;
    assert!(began.elapsed() >= can_take(None), "{:?}", began.elapsed());
    assert_eq!(letters(&world), [("e0".into(), LetterState::Dead, Some(FailureClass::UnknownEnd))]);
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_how_long_an_attempt_is_waited_for() {
    let remote = Remote::default();
    let timeout = Duration::from_secs(2);
    let policy = Policy::new().unknown_end(UnknownEnd::Retry).timeout(timeout);
    let world = World::with_state(vec![charge(policy)], 2, remote.clone());
    world.broker.produce(0, ["e0"]);
    world.broker.produce(1, ["e0"]);
    killed_in(&world, "e0").await;
    let began = Instant::now();
    world.drain(1).await;
    let waited = can_take(Some(timeout))..can_take(None);
    assert!(waited.contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!((remote.effects(), charges(&world)), (2, ids(1)));
}

#[tokio::test(start_paused = true)]
async fn a_former_owner_of_the_lane_is_not_waited_for() {
    for unknown in [UnknownEnd::Retry, UnknownEnd::Never, UnknownEnd::Probe] {
        for process in ["a", "b"] {
            let (world, _) = two_lanes(unknown);
            world.broker.produce(0, ids(2));
            killed_in(&world, "e0").await;
            let began = Instant::now();
            let client = super::client::Client::new(&world.broker);
            let lane = world.start_on(process, 0, &client);
            world.worked(0, 2).await;
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            lane.finish().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whose_an_attempt_is_is_told_by_its_number_and_not_by_where_its_event_came_from() {
    let (world, remote) = two_lanes(UnknownEnd::Retry);
    world.broker.produce(0, ["e0"]);
    world.broker.produce(1, ["e0"]);
    killed_in(&world, "e0").await;
    // The other lane takes it over, and is stopped when it has begun.
    let second = world.start(1);
    quiet(can_take(None) - Duration::from_secs(1)).await;
    let first = world.store.faults().pause(Point::Commit);
    first.reached().await;
    let begun = world.store.faults().pause(Point::Begin);
    first.release();
    begun.reached().await;
    let marker = crate::Key::new("e0").unwrap();
    let marker = world.store.marker("charge", &marker).await.unwrap().unwrap();
    assert_eq!(marker.origin.unwrap().partition, 0);
    let lane = world.start(0);
    quiet(Duration::from_secs(30)).await;
    assert_eq!((world.position(0), remote.effects()), (0, 1));
    begun.release();
    world.worked(0, 1).await;
    world.worked(1, 1).await;
    assert_eq!((remote.effects(), charges(&world)), (2, ids(1)));
    lane.finish().await;
    second.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_taken_over_is_not_taken_back_by_running_it() {
    let (world, remote) = two_lanes(UnknownEnd::Probe);
    world.broker.produce(0, ["e0"]);
    world.broker.produce(1, ["e0"]);
    let (late, begun) = between(&world).await;
    let gate = Gate::new();
    world.script.on_in("charge", "e0", [Do::Wait(gate.clone())]);
    let second = world.start(1);
    gate.reached().await;
    second.kill().await;
    // Had it run what it had begun, nobody would have asked what became of the other.
    begun.release();
    world.worked(0, 1).await;
    assert_eq!((remote.effects(), world.letters().len()), (1, 0));
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Processed));
    late.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_somebody_else_gave_up_on_is_not_run() {
    let (world, remote) = two_lanes(UnknownEnd::Never);
    world.broker.produce(0, ["e0", "e1"]);
    world.broker.produce(1, ["e0"]);
    let (late, begun) = between(&world).await;
    let second = world.start(1);
    world.worked(1, 1).await;
    assert_eq!(letters(&world), [("e0".into(), LetterState::Dead, Some(FailureClass::UnknownEnd))]);
    begun.release();
    world.worked(0, 2).await;
    assert_eq!((remote.effects(), charges(&world)), (1, vec!["e1".to_owned()]));
    assert_eq!((state(&world, "e0").await, letters(&world).len()), (Some(MarkerState::Dead), 1));
    late.finish().await;
    second.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_marker_is_gone_is_written_down_anew() {
    let (world, _) = two_lanes(UnknownEnd::Retry);
    world.broker.produce(0, ["e0"]);
    world.broker.produce(1, ["e0"]);
    let (late, begun) = between(&world).await;
    let gate = Gate::new();
    world.script.on_in("charge", "e0", [Do::Fail, Do::Wait(gate.clone())]);
    let second = world.start(1);
    // It took the attempt over, failed, and took its own back.
    until(|| world.counts().retried == 1).await;
    second.kill().await;
    assert_eq!(state(&world, "e0").await, None);
    begun.release();
    gate.reached().await;
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Begun));
    gate.open();
    world.worked(0, 1).await;
    assert_eq!(charges(&world), ids(1));
    late.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_person_settled_is_not_run() {
    let (world, remote) = two_lanes(UnknownEnd::Never);
    world.broker.produce(0, ids(2));
    let (lane, begun) = between(&world).await;
    let outcome = world.store.mark_processed("charge", "e0", None).await.unwrap();
    assert_eq!(outcome, crate::Outcome::Settled);
    begun.release();
    world.worked(0, 2).await;
    assert_eq!((remote.effects(), charges(&world)), (1, vec!["e1".to_owned()]));
    assert_eq!((world.counts().duplicates, world.letters().len()), (1, 0));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_another_slice_is_waited_for() {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(UnknownEnd::Never).slices(2);
    let world = World::with_state(vec![charge(policy)], 1, remote.clone());
    let key = |slice| {
        let mut keys = (0..).map(|n: u32| format!("c{n}"));
        keys.find(|key| slice_of_key(key.as_bytes(), 2) == slice).unwrap()
    };
    world.broker.produce_keyed(0, [(key(0), "e0")]);
    let (lane, begun) = between(&world).await;
    world.broker.produce_keyed(0, [(key(1), "e0")]);
    quiet(Duration::from_secs(30)).await;
    assert_eq!((remote.effects(), world.letters().len()), (0, 0));
    begun.release();
    until(|| world.counts().duplicates == 1).await;
    assert_eq!((remote.effects(), charges(&world), world.letters().len()), (1, ids(1), 0));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_was_dropped_with_its_lane_has_an_unknown_end() {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(UnknownEnd::Never).slices(2);
    let world = World::with_state(vec![charge(policy)], 1, remote.clone());
    let keys: Vec<_> = (0..2)
        .map(|slice| {
            let mut keys = (0..).map(|n: u32| format!("c{n}"));
            keys.find(|key| slice_of_key(key.as_bytes(), 2) == slice).unwrap()
        })
        .collect();
    let gate = Gate::new();
    world.script.on_in("charge", "e0", [Do::Wait(gate.clone())]);
    world.broker.produce_keyed(0, [(keys[0].as_str(), "e0")]);
    let lane = world.start(0);
    gate.reached().await;
    // Another owner takes the lane, which the other slice notices, and goes away again.
    let owner = Owner {
        id: uuid::Uuid::new_v4(),
        name: "b".to_owned(),
        dead_after: Duration::from_secs(1),
    };
    world.store.take(&world.id(0), &owner).await.unwrap().unwrap();
    world.broker.produce_keyed(0, [(keys[1].as_str(), "e1")]);
    world.worked(0, 2).await;
    assert_eq!(letters(&world), [("e0".into(), LetterState::Dead, Some(FailureClass::UnknownEnd))]);
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e1".to_owned()]));
    lane.finish().await;
}

/// A handler that parked an event with others behind it, and has its effects outside now.
async fn released(unknown: UnknownEnd) -> (World, Remote) {
    let remote = Remote::default();
    let before = Policy::new().on_failure(OnFailure::PARK_KEY);
    let mut world = World::with_state(vec![charge(before)], 1, remote.clone());
    world.script.always("charge", "e0", Do::FailForGood);
    world.broker.produce_keyed(0, ids(3).into_iter().map(|id| ("a", id)));
    world.drain(0).await;
    assert_eq!(parked(&world)[0].waiting, 2);
    world.set_handlers(vec![charge(Policy::new().unknown_end(unknown))]);
    (world, remote)
}

#[tokio::test(start_paused = true)]
async fn a_released_event_is_written_down_before_it_is_run() {
    let (world, remote) = released(UnknownEnd::Never).await;
    let gate = Gate::new();
    world.script.on_in("charge", "e1", [Do::Wait(gate.clone())]);
    let lane = world.start(0);
    discard(&world, "e0").await;
    gate.reached().await;
    assert_eq!(state(&world, "e1").await, Some(MarkerState::Begun));
    assert_eq!(state(&world, "e2").await, Some(MarkerState::Parked));
    lane.kill().await;
    let lane = world.start(0);
    until(|| charges(&world).len() == 1).await;
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e2".to_owned()]));
    let class = Some(FailureClass::UnknownEnd);
    assert!(letters(&world).contains(&("e1".into(), LetterState::Dead, class)));
    assert_eq!(state(&world, "e1").await, Some(MarkerState::Dead));
    assert!(parked(&world).is_empty());
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_released_event_that_failed_waits_again_until_it_is_tried() {
    let (world, remote) = released(UnknownEnd::Never).await;
    world.script.on_in("charge", "e1", [Do::Fail]);
    let lane = world.start(0);
    discard(&world, "e0").await;
    until(|| world.counts().retried == 1).await;
    assert_eq!(state(&world, "e1").await, Some(MarkerState::Parked));
    lane.kill().await;
    let lane = world.start(0);
    until(|| charges(&world).len() == 2).await;
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e1".into(), "e2".into()]));
    assert_eq!(state(&world, "e1").await, Some(MarkerState::Processed));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_released_event_that_fails_for_good_is_a_dead_letter() {
    for fault in [false, true] {
        let (world, remote) = released(UnknownEnd::Never).await;
        world.script.on_in("charge", "e1", [Do::FailForGood]);
        if fault {
            // Taking it back takes more than one try.
            world.store.faults().fail(Point::TakeBack, ErrorKind::Transient);
        }
        let lane = world.start(0);
        discard(&world, "e0").await;
        until(|| charges(&world).len() == 1).await;
        assert_eq!((remote.effects(), charges(&world)), (1, vec!["e2".to_owned()]));
        let class = Some(FailureClass::Handler);
        assert!(letters(&world).contains(&("e1".into(), LetterState::Dead, class)));
        assert_eq!(state(&world, "e1").await, Some(MarkerState::Dead));
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_for_good_is_a_dead_letter_also_if_it_cannot_be_taken_back() {
    for kind in [ErrorKind::Transient, ErrorKind::UnknownCommit] {
        let (world, _) = world(UnknownEnd::Never);
        world.script.on_in("charge", "e0", [Do::FailForGood]);
        world.store.faults().fail(Point::TakeBack, kind);
        world.broker.produce(0, ids(2));
        world.drain(0).await;
        assert_eq!(
            letters(&world),
            [("e0".into(), LetterState::Dead, Some(FailureClass::Handler))]
        );
        assert_eq!(state(&world, "e0").await, Some(MarkerState::Dead));
        assert_eq!(charges(&world), ["e1"]);
    }
}

/// A lane that died in `e0`, whose handler has no word for that in its next release.
async fn without_the_word(policy: Policy) -> (World, Remote) {
    let (mut world, remote) = world(UnknownEnd::Retry);
    world.broker.produce(0, ["e0"]);
    killed_in(&world, "e0").await;
    world.broker.produce(0, ["e1", "e0", "e2"]);
    world.set_handlers(vec![charge(policy)]);
    (world, remote)
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_lost_its_word_for_unknown_ends_says_so_in_a_dead_letter() {
    let (world, remote) = without_the_word(Policy::new()).await;
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (3, vec!["e1".into(), "e2".into()]));
    assert_eq!(letters(&world), [("e0".into(), LetterState::Dead, Some(FailureClass::UnknownEnd))]);
    let letter = world.store.look(|view| view.letters()).remove(0);
    let cause = letter.cause.unwrap();
    assert!(cause.error.contains("was begun, and its end is not known"), "{cause:?}");
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Dead));
    let report = world
        .replay()
        .state(remote.clone())
        .handler::<super::outside::Charge>()
        .run(&LetterFilter::new())
        .await
        .unwrap();
    assert_eq!((report.processed, charges(&world).len()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_lost_its_word_stops_or_parks_if_it_says_so() {
    let (world, remote) = without_the_word(Policy::new().on_failure(OnFailure::Stop)).await;
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(error.to_string().contains("its end is not known"), "{error}");
    assert_eq!((remote.effects(), world.position(0)), (1, 0));

    let (mut world, _) = super::outside::world(UnknownEnd::Retry);
    world.broker.produce_keyed(0, [("a", "e0"), ("a", "e1"), ("b", "e2")]);
    killed_in(&world, "e0").await;
    world.set_handlers(vec![charge(Policy::new().on_failure(OnFailure::PARK_KEY))]);
    world.drain(0).await;
    let parked = ("e0".into(), LetterState::Parked, Some(FailureClass::UnknownEnd));
    assert_eq!(letters(&world), [parked, ("e1".into(), LetterState::Waiting, None)]);
    assert_eq!(charges(&world), ["e2"]);
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Parked));
}

#[tokio::test(start_paused = true)]
async fn a_released_event_whose_attempt_has_no_end_is_no_duplicate_of_a_handler_without_the_word() {
    let (mut world, _) = released(UnknownEnd::Never).await;
    let gate = Gate::new();
    world.script.on_in("charge", "e1", [Do::Wait(gate.clone())]);
    let lane = world.start(0);
    discard(&world, "e0").await;
    gate.reached().await;
    lane.kill().await;
    world.set_handlers(vec![charge(Policy::new())]);
    let lane = world.start(0);
    until(|| charges(&world).len() == 1).await;
    let class = Some(FailureClass::UnknownEnd);
    assert!(letters(&world).contains(&("e1".into(), LetterState::Dead, class)));
    assert_eq!(charges(&world), ["e2"]);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn while_a_lane_waits_for_another_attempt_it_can_be_left() {
    let (world, remote) = two_lanes(UnknownEnd::Never);
    world.broker.produce(0, ["e0"]);
    world.broker.produce(1, ["e0"]);
    killed_in(&world, "e0").await;
    let waiting = world.start(1);
    quiet(Duration::from_secs(10)).await;
    let began = Instant::now();
    waiting.finish().await;
    assert!(began.elapsed() < Duration::from_secs(1) && DEADLINE > can_take(None));
    assert_eq!((world.position(1), remote.effects()), (0, 1));
}

/// Two events that were packed, the first of which is forgotten, before their handler has effects outside.
async fn packed_before(budget: usize) -> (World, Remote) {
    let (packed, remote) = (Policy::new().markers(Markers::Packed), Remote::default());
    let packed = packed.window(Window::DEFAULT.events(1));
    let mut world = World::with_state(vec![charge(packed)], 1, remote.clone());
    world.settings.policies.stale = Some(Stale::Skip);
    world.settings.max_batch = 1;
    world.settings.tend_interval = Duration::from_millis(100);
    world.budget = Budget::new(budget);
    world.register().await;
    world.broker.produce(0, ids(2));
    let lane = world.start(0);
    world.worked(0, 2).await;
    until(|| world.packs("charge").len() == 1).await;
    quiet(Duration::from_secs(1)).await;
    lane.finish().await;
    world.set_handlers(vec![charge(Policy::new().unknown_end(UnknownEnd::Never))]);
    world.register().await;
    (world, remote)
}

#[tokio::test(start_paused = true)]
async fn what_was_packed_before_is_not_begun() {
    for budget in [0, 1 << 20] {
        let (world, remote) = packed_before(budget).await;
        world.broker.produce(0, ["e2"]);
        world.again_from(0, 0).await;
        assert_eq!((remote.effects(), charges(&world)), (3, ids(3)));
        assert_eq!((world.counts().stale, world.letters().len()), (1, 0));
        assert_eq!(state(&world, "e0").await, None);
        assert_eq!(state(&world, "e1").await, Some(MarkerState::Processed));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_begun_is_no_duplicate_for_who_packed_before() {
    for unknown in [UnknownEnd::Retry, UnknownEnd::Never] {
        let (mut world, remote) = packed_before(1 << 20).await;
        world.set_handlers(vec![charge(Policy::new().unknown_end(unknown))]);
        world.broker.produce(0, ["e2"]);
        let first = world.store.faults().pause(Point::Begin);
        let lane = world.start(0);
        first.reached().await;
        let second = world.store.faults().pause(Point::Begin);
        first.release();
        second.reached().await;
        assert_eq!(state(&world, "e2").await, Some(MarkerState::Begun));
        lane.kill().await;
        second.release();
        world.drain(0).await;
        let again = unknown == UnknownEnd::Retry;
        assert_eq!(remote.effects(), if again { 3 } else { 2 }, "{unknown:?}");
        let expected = if again { MarkerState::Processed } else { MarkerState::Dead };
        assert_eq!(state(&world, "e2").await, Some(expected), "{unknown:?}");
        assert_eq!(letters(&world).len(), usize::from(!again));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_its_own_that_it_finds_begun_goes_on_for_who_packed_before() {
    let (world, remote) = packed_before(1 << 20).await;
    world.store.faults().lose_the_answer_of_a_commit();
    world.broker.produce(0, ["e2"]);
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (3, ids(3)));
    assert_eq!(state(&world, "e2").await, Some(MarkerState::Processed));
}
