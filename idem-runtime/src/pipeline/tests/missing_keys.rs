//! What becomes of events without a key. An empty id is a missing key here; its effect is an empty row.

use super::handlers::{Audit, Bill, Bulk, Do, Gate};
use super::harness::{World, ids, until};
use super::parking;
use crate::Store as _;
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::key::{Content, Key};
use crate::memory::Point;
use crate::policy::{MissingKey, OnFailure, Policy, Retry};
use crate::replay::{Replay, ReplayReport};

const UNMARKED: Policy =
    Policy::new().retry(Retry::never()).missing_key(MissingKey::ProcessWithoutGuarantee);
const HASHED: Policy = Policy::new().retry(Retry::never()).missing_key(MissingKey::ContentHash);

/// The ids, of which the empty ones have no key.
const SOME: [&str; 6] = ["e0", "", "e1", "e0", "", "e2"];

/// How often something without a key had its effect.
fn empty(rows: &[String]) -> usize {
    rows.iter().filter(|row| row.is_empty()).count()
}

fn keyed(rows: &[String]) -> Vec<&str> {
    rows.iter().map(String::as_str).filter(|row| !row.is_empty()).collect()
}

/// A replay whose handler has this policy.
async fn replay(world: &World, policy: Policy) -> ReplayReport {
    let mut replay: Replay<_> = world.replay();
    replay.handlers_mut()[0].policy = policy;
    replay.run(&LetterFilter::new().scope("bill")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_a_dead_letter_even_where_failures_stop_the_lane() {
    let stop = Policy::new().on_failure(OnFailure::Stop).missing_key(MissingKey::DeadLetter);
    let world = World::with(stop);
    world.broker.produce(0, SOME);
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
    let dead = (String::new(), LetterState::Dead, Some(FailureClass::Key));
    let letters: Vec<_> = world.letters().into_iter().map(|it| (it.1, it.2, it.3)).collect();
    assert_eq!(letters, [dead.clone(), dead]);
    // Read again, nothing is written twice.
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!((world.bills(), world.letters().len()), (ids(3), 2));
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_stops_the_lane_and_says_where() {
    let world = World::with(Policy::new().missing_key(MissingKey::Stop));
    world.broker.produce(0, ["e0", "e1", "", "e2"]);
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Key);
    let text = error.to_string();
    for part in ["topic orders", "partition 0", "offset 2", "scope bill", "empty"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!((world.bills(), world.position(0)), (ids(2), 2), "what is before it is done");
    assert!(world.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_key_is_not_a_missing_one() {
    for missing in [MissingKey::Stop, MissingKey::ProcessWithoutGuarantee, MissingKey::ContentHash]
    {
        let world = World::with(Policy::new().missing_key(missing));
        world.broker.produce(0, ["e0", "a\0b", "e1"]);
        world.drain(0).await;
        assert_eq!(world.bills(), ids(2), "{missing:?}");
        let classes: Vec<_> = world.letters().into_iter().map(|it| it.3.unwrap()).collect();
        assert_eq!(classes, [FailureClass::Key], "{missing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_guarantee_an_event_is_worked_each_time_it_is_read() {
    let world = World::with(UNMARKED);
    world.broker.produce(0, SOME);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "", "e1", "", "e2"], "in their order");
    assert_eq!(world.marked(), ids(3));
    let counts = world.counts();
    assert_eq!((counts.processed, counts.unmarked, counts.duplicates), (5, 2, 1));
    assert_eq!(world.store.counts().commits, 1, "in the transaction of the others");
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!((keyed(&world.bills()), empty(&world.bills())), (vec!["e0", "e1", "e2"], 4));
    assert_eq!(world.counts().unmarked, 4);
    assert!(world.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_work_an_event_without_a_guarantee_again() {
    let world = World::with(UNMARKED);
    world.broker.produce(0, SOME);
    world.drain(0).await;
    world.broker.produce(0, ["e3", ""]);
    world.drain(0).await;
    assert_eq!((world.bills().len(), empty(&world.bills())), (7, 3));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_does_not_work_an_event_without_a_guarantee_twice() {
    let mut world = World::with(UNMARKED);
    world.settings.max_batch = 2;
    let gate = Gate::new();
    world.script.on("e1", [Do::Wait(gate.clone())]);
    world.script.on("", [Do::Nap, Do::Wait(gate.clone())]);
    world.broker.produce(0, SOME);
    for _ in 0..2 {
        let lane = world.start(0);
        gate.reached().await;
        lane.kill().await;
    }
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "", "e1", "", "e2"]);
    assert!(world.script.ids().len() > 5, "it was run again, and had its effect once");
}

#[tokio::test(start_paused = true)]
async fn a_failure_beside_it_does_not_work_an_event_without_a_guarantee_twice() {
    let world = World::with(UNMARKED.retry(Retry::new().max(2)));
    world.script.on("e1", [Do::Fail]);
    world.script.on("e2", [Do::Panic]);
    world.script.on("", [Do::Transient, Do::Fail]);
    world.broker.produce(0, SOME);
    world.drain(0).await;
    assert_eq!((keyed(&world.bills()), empty(&world.bills())), (vec!["e0", "e1", "e2"], 2));
    assert!(world.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_does_not_work_it_twice() {
    for landed in [true, false] {
        let world = World::with(UNMARKED);
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        let faults = world.store.faults();
        match landed {
            true => faults.lose_the_answer_of_a_commit(),
            false => faults.fail(Point::Commit, ErrorKind::UnknownCommit),
        }
        world.broker.produce(0, SOME);
        until(|| lane.resolved() == Some(6)).await;
        lane.finish().await;
        assert_eq!((world.bills().len(), empty(&world.bills())), (5, 2), "{landed}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_for_good_is_a_dead_letter_and_is_replayed_once() {
    let world = World::with(UNMARKED);
    world.script.always("bill", "", Do::Fail);
    world.broker.produce(0, ["e0", "", "e1"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ids(2));
    let letters = world.store.look(|view| view.letters());
    let classes: Vec<_> = letters.iter().map(|it| it.cause.as_ref().unwrap().class).collect();
    assert_eq!(classes, [FailureClass::Handler]);
    assert!(letters[0].key.is_none());
    world.script.mend();
    let strict = replay(&world, Policy::new()).await;
    assert!(strict.failed[0].1.contains("no usable key"), "{strict:?}");
    assert_eq!(replay(&world, UNMARKED).await.processed, 1);
    assert_eq!(replay(&world, UNMARKED).await.processed, 0);
    assert_eq!((world.bills().len(), empty(&world.bills())), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replay_without_a_key_that_ends_its_transaction_keeps_nothing() {
    for act in [Do::Commit, Do::Rollback] {
        let world = World::with(UNMARKED);
        world.script.on("", [Do::FailForGood, act]);
        world.broker.produce(0, [""]);
        world.drain(0).await;
        let report = replay(&world, UNMARKED).await;
        assert!(report.failed[0].1.contains("ended the transaction"), "{report:?}");
        assert_eq!(
            (world.bills(), world.letters_in(LetterState::Dead)),
            (ids(0), vec![String::new()])
        );
        assert_eq!(replay(&world, UNMARKED).await.processed, 1);
        assert_eq!(world.bills(), [""]);
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_behind_a_parked_event_of_its_message_key_and_is_worked_once() {
    let world = World::with(UNMARKED.on_failure(OnFailure::PARK_KEY));
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_keyed(0, [("a", "e0"), ("a", ""), ("b", ""), ("a", "e1"), ("a", "")]);
    world.drain(0).await;
    assert_eq!(world.bills(), [""]);
    assert_eq!(world.letters_in(LetterState::Waiting), ["", "e1", ""]);
    world.script.mend();
    parking::replay(&world, "e0").await;
    let lane = world.start(0);
    until(|| world.bills().len() == 5).await;
    lane.finish().await;
    assert_eq!(world.bills(), ["", "e0", "", "e1", ""], "in their order");
    assert_eq!(world.letters_in(LetterState::Waiting), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_parked_itself_holds_up_its_message_key() {
    let world = World::with(UNMARKED.on_failure(OnFailure::PARK_KEY));
    world.script.always("bill", "", Do::Fail);
    world.broker.produce_keyed(0, [("a", "e0"), ("a", ""), ("b", "e1"), ("a", "e2")]);
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Parked), [""]);
    assert_eq!(world.letters_in(LetterState::Waiting), ["e2"]);
    world.script.mend();
    assert_eq!(replay(&world, UNMARKED.on_failure(OnFailure::PARK_KEY)).await.processed, 1);
    let lane = world.start(0);
    until(|| world.bills().len() == 4).await;
    lane.finish().await;
    assert_eq!(world.bills(), ["e0", "e1", "", "e2"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_handler_gets_events_with_and_without_a_key_in_one_call() {
    let mut bulk = Registered::of::<Bulk>();
    bulk.policy = UNMARKED;
    let mut audit = Registered::of::<Audit>();
    audit.policy = Policy::new().missing_key(MissingKey::DeadLetter);
    let world = World::of(vec![bulk, audit], 1);
    world.broker.produce(0, SOME);
    world.drain(0).await;
    assert_eq!(world.script.calls(), [["e0", "", "e1", "", "e2"]]);
    assert_eq!(world.store.rows("bulk"), ["e0", "", "e1", "", "e2"]);
    assert_eq!(world.store.rows("audit"), ids(3), "each handler has an answer of its own");
    assert_eq!((world.letters().len(), world.counts().unmarked), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn in_slices_each_event_is_one_thing_with_or_without_a_key() {
    for missing in [MissingKey::ProcessWithoutGuarantee, MissingKey::DeadLetter] {
        let world = World::with(Policy::new().slices(3).missing_key(missing));
        let some =
            |n: usize| if n.is_multiple_of(5) { String::new() } else { format!("e{}", n / 2) };
        let events = (0..40).map(|n| (format!("c{}", (n / 2) % 7), some(n)));
        world.broker.produce_keyed(0, events);
        world.drain(0).await;
        let bills = world.bills();
        let mut keyed = keyed(&bills);
        keyed.sort_unstable();
        keyed.dedup();
        assert_eq!(keyed.len(), bills.len() - empty(&bills), "each key once");
        assert_eq!(keyed.len(), 20);
        let expected = match missing {
            MissingKey::ProcessWithoutGuarantee => (8, 0),
            _ => (0, 8),
        };
        assert_eq!((empty(&bills), world.letters().len()), expected, "{missing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_it_says_is_the_key_of_an_event_without_one() {
    let world = World::with(HASHED);
    let payloads = [
        r#"{"id":"","cents":5,"at":{"x":1,"y":[1,2]}}"#,
        r#"{"id":"e0","cents":5}"#,
        // The same in other words, in this batch and in a later one.
        r#"{ "at" : {"y":[1.0,2], "x":1}, "cents":5e0, "\u0069d":"" }"#,
        r#"{"id":"","cents":6,"at":{"x":1,"y":[1,2]}}"#,
    ];
    world.broker.produce_raw(0, payloads.map(str::to_owned));
    world.drain(0).await;
    world.broker.produce_raw(0, [payloads[0].to_owned(), payloads[3].to_owned()]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["", "e0", ""]);
    let event = &world.broker.events(0)[0];
    let hash = Key::content(event, Content::ALL).unwrap();
    let marked = world.store.find_marker("bill", &hash).await.unwrap();
    assert!(marked.is_some());
    assert_eq!((world.markers(), world.counts().unmarked), (3, 0));
    // One whose id is written like that hash is another event.
    world.broker.produce(0, [hash.as_str()]);
    world.drain(0).await;
    assert_eq!((world.bills().len(), world.markers()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_content_without_a_single_meaning_is_no_key() {
    let world = World::with(HASHED);
    world.broker.produce_raw(0, [r#"{"id":"","a":1,"a":2}"#.to_owned()]);
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    let letters = world.store.look(|view| view.letters());
    let cause = letters[0].cause.as_ref().unwrap();
    assert_eq!((letters.len(), cause.class), (1, FailureClass::Key));
    assert!(cause.error.contains("twice"), "{}", cause.error);
    assert_eq!(world.bills(), ["e0"]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_the_word_does_what_it_does_with_any_failure() {
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().on_failure(OnFailure::Stop);
    let world = World::of(vec![bill], 1);
    world.broker.produce(0, ["e0", ""]);
    assert_eq!(world.start(0).stopped().await.kind(), ErrorKind::Key);
    assert_eq!(world.bills(), ids(1));
}
