use std::time::Duration;

use tokio::time::Instant;

use super::handlers::{Bill, Bulk, Count, Do, Gate, Order};
use super::harness::{World, ids, is_packed, until};
use crate::dead_letter::{LetterAction, LetterFilter, LetterState};
use crate::error::{Error, ErrorKind};
use crate::group::Registered;
use crate::memory::Point;
use crate::policy::{Markers, OnFailure, Policy, Retry};
use crate::replay::Replay;
use crate::{Processor, Store as _};

/// A world in which `e1` of three is a dead letter, and its handler works now.
async fn dead() -> World {
    dead_with(Policy::new()).await
}

async fn dead_with(policy: Policy) -> World {
    let world = World::with(policy.retry(Retry::never()));
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.script.mend();
    world
}

fn all() -> LetterFilter {
    LetterFilter::new()
}

async fn actions(world: &World, id: i64) -> Vec<LetterAction> {
    let notes = world.dead_letters().history(id).await.unwrap();
    assert!(notes.iter().all(|note| note.by == "ana"));
    notes.into_iter().map(|note| note.action).collect()
}

#[tokio::test(start_paused = true)]
async fn a_letter_has_its_effects_once_however_often_it_is_replayed() {
    let world = dead().await;
    let report = world.replay().run(&all()).await.unwrap();
    assert_eq!((report.matched, report.processed), (1, 1));
    for _ in 0..3 {
        let report = world.replay().run(&all()).await.unwrap();
        assert_eq!((report.matched, report.processed), (0, 0));
    }
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
    assert_eq!(world.script.attempts("e1"), [1, 2], "the handler is told which attempt it is");
    world.assert_sums(ids(3));
    assert_eq!(actions(&world, 1).await, [LetterAction::Replayed]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_replays_have_one_effect() {
    let world = dead().await;
    world.script.always("bill", "e1", Do::Nap);
    let replays: Vec<_> = (0..5).map(|_| (world.replay(), all())).collect();
    let runs = replays.iter().map(|(replay, filter)| replay.run(filter));
    let reports = futures_util::future::join_all(runs).await;
    let sum = |of: fn(&crate::ReplayReport) -> u64| -> u64 {
        reports.iter().map(|report| of(report.as_ref().unwrap())).sum()
    };
    assert_eq!((sum(|it| it.processed), sum(|it| it.settled)), (1, 4));
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_while_the_event_is_delivered_again_has_one_effect() {
    let world = dead().await;
    let gate = Gate::new();
    world.script.on("e1", [Do::Wait(gate.clone())]);
    let (replay, filter) = (world.replay(), all());
    let running = tokio::spawn(async move { replay.run(&filter).await });
    gate.reached().await;
    world.broker.reset(0, 0);
    let lane = world.start(0);
    match is_packed() {
        // The lane knows by itself that it has seen the key, whatever becomes of the replay.
        true => world.worked(0, 3).await,
        // The lane waits at the claim for the replay.
        false => world.store.wait_for(|view| view.waiting() == 1).await,
    }
    gate.open();
    assert_eq!(running.await.unwrap().unwrap().processed, 1);
    until(|| lane.resolved() == Some(3)).await;
    lane.finish().await;
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
    assert_eq!(world.letters().len(), 1);
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_fails_again_stays_with_a_note() {
    let world = dead().await;
    world.script.on("e1", [Do::Fail, Do::Panic, Do::FailForGood]);
    for _ in 0..3 {
        let report = world.replay().run(&all()).await.unwrap();
        assert_eq!((report.matched, report.failed.len()), (1, 1));
        assert!(report.failed[0].1.contains("the test made it"), "{report:?}");
        world.assert_sums(ids(3));
    }
    assert_eq!(actions(&world, 1).await, [LetterAction::ReplayFailed; 3]);
    assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1);
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_breaks_its_transaction_fails_the_letter_and_not_the_replay() {
    for act in [Do::Commit, Do::Rollback, Do::Swallow] {
        let world = World::with(Policy::new().retry(Retry::never()));
        for id in ["e1", "e2"] {
            world.script.always("bill", id, Do::Fail);
        }
        world.broker.produce(0, ids(3));
        world.drain(0).await;
        world.script.mend();
        world.script.always("bill", "e1", act.clone());
        let report = world.replay().run(&all()).await.unwrap();
        assert_eq!((report.processed, report.failed.len()), (1, 1), "{act:?}");
        assert_eq!(world.bills(), ["e0", "e2"]);
        world.assert_sums(ids(3));
    }
}

#[tokio::test(start_paused = true)]
async fn effects_that_the_commit_refuses_fail_the_letter_and_not_the_replay() {
    let world = World::with(Policy::new().retry(Retry::never()));
    world.store.faults().reject_commits(|rows| {
        let bad = rows.iter().any(|(_, value)| *value == "e1");
        bad.then(|| Error::new(ErrorKind::Store, "a deferred constraint"))
    });
    world.script.always("bill", "e2", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.script.mend();
    let report = world.replay().run(&all()).await.unwrap();
    assert_eq!((report.processed, report.failed.len()), (1, 1));
    assert!(report.failed[0].1.contains("a deferred constraint"), "{report:?}");
    assert_eq!(actions(&world, 1).await, [LetterAction::ReplayFailed]);
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up_after_its_timeout() {
    let world = dead().await;
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().timeout(Duration::from_secs(5));
    world.script.on("e1", [Do::Hang]);
    let mut replay = world.replay();
    replay.handlers_mut()[0] = bill;
    let report = replay.run(&all()).await.unwrap();
    assert!(report.failed[0].1.contains("5s"), "{report:?}");
    assert_eq!(world.store.look(|view| view.open()), 0);
    assert_eq!(replay.run(&all()).await.unwrap().processed, 1);
}

#[tokio::test(start_paused = true)]
async fn passing_failures_are_tried_again_and_lost_answers_resolved() {
    let points = [Point::Begin, Point::LockLetter, Point::Claim, Point::SettleLetter, Point::Seal];
    for point in points {
        let world = dead().await;
        for _ in 0..3 {
            world.store.faults().fail(point, ErrorKind::Transient);
        }
        assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1, "{point:?}");
        world.assert_sums(ids(3));
    }
    for landed in [true, false] {
        let world = dead().await;
        match landed {
            true => world.store.faults().lose_the_answer_of_a_commit(),
            false => world.store.faults().fail(Point::Commit, ErrorKind::UnknownCommit),
        }
        let report = world.replay().run(&all()).await.unwrap();
        assert_eq!((report.processed, report.settled), (1, 0), "{landed}");
        world.assert_sums(ids(3));
        assert_eq!(actions(&world, 1).await, [LetterAction::Replayed]);
    }
    let world = dead().await;
    world.script.on("e1", [Do::Transient, Do::LoseConnection]);
    assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1);
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_letter_whose_key_was_processed_by_another_event_is_superseded() {
    // Somebody deletes the row of the marker by hand; whoever asks idem to forget a key that has an
    // open letter is refused.
    let world = dead_with(Policy::new().markers(Markers::Rows)).await;
    assert!(world.store.forget("bill", "e1"));
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    let report = world.replay().run(&all()).await.unwrap();
    assert_eq!((report.processed, report.superseded), (0, 1));
    assert_eq!(world.bills().len(), 3);
    assert_eq!(actions(&world, 1).await, [LetterAction::Superseded]);
    assert_eq!(world.letters_in(LetterState::Replayed), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn an_edited_letter_is_replayed_as_it_was_edited() {
    let world = dead().await;
    let payload = br#"{"id":"e1","corrected":true}"#;
    world.dead_letters().edit(1, Some(payload), "a typo").await.unwrap();
    assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1);
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
    assert_eq!(actions(&world, 1).await, [LetterAction::Edited, LetterAction::Replayed]);
    let settled = world.dead_letters().edit(1, None, "too late").await.unwrap_err();
    assert_eq!(settled.kind(), ErrorKind::Config);
    assert_eq!(world.dead_letters().discard(&all(), "too late").await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_replayed_and_does_nothing() {
    let world = dead().await;
    world.broker.produce_raw(0, ["hunter2".to_owned()]);
    world.drain(0).await;
    let commits = world.store.counts().commits;
    let report = world.replay().dry_run().run(&all()).await.unwrap();
    assert_eq!((report.matched, report.processed, report.failed.len()), (2, 0, 1));
    assert_eq!(world.store.counts().commits, commits);
    assert_eq!(world.script.attempts("e1"), [1]);
}

#[tokio::test(start_paused = true)]
async fn letters_are_replayed_at_the_rate_that_was_asked_for() {
    let world = World::with(Policy::new().retry(Retry::never()));
    for id in ids(450) {
        world.script.always("bill", &id, Do::FailForGood);
    }
    world.broker.produce(0, ids(450));
    world.drain(0).await;
    world.script.mend();
    let began = Instant::now();
    let filter = all().limit(420);
    let report = world.replay().per_second(10.0).run(&filter).await.unwrap();
    assert_eq!((report.matched, report.processed), (420, 420), "over several pages");
    assert!((41.0..43.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    assert_eq!(world.bills(), ids(420), "in the order of their numbers");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_not_replayed_and_what_is_not_registered_left_alone() {
    let world = World::with(Policy::new().retry(Retry::never()).on_failure(OnFailure::PARK_KEY));
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_keyed(0, ids(3).into_iter().map(|id| ("a", id)));
    world.drain(0).await;
    world.script.mend();
    let foreign = Replay::new(world.store.clone(), "ana").handler::<Bulk>();
    let report = foreign.state(world.script.clone()).run(&all()).await.unwrap();
    assert_eq!((report.matched, &report.unknown_scopes[..]), (0, &["bill".to_owned()][..]));
    let waiting = all().state(LetterState::Waiting);
    let report = world.replay().run(&waiting).await.unwrap();
    assert_eq!((report.waiting, report.processed), (2, 0));
    assert!(world.bills().is_empty());
    let missing = Replay::new(world.store.clone(), "ana").handler::<Bill>();
    assert_eq!(missing.run(&all()).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn in_offset_mode_the_letter_is_the_marker() {
    let mut count = Registered::of::<Count>();
    count.policy = Policy::new().retry(Retry::never());
    let world = World::of(vec![count], 1);
    world.script.always("count", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.script.mend();
    for processed in [1, 0] {
        assert_eq!(world.replay().run(&all()).await.unwrap().processed, processed);
    }
    assert_eq!(world.store.rows("count"), ["0/0", "0/2", "0/1"]);
}

#[tokio::test(start_paused = true)]
async fn one_letter_is_replayed_by_a_batch_handler_too() {
    let mut bulk = Registered::of::<Bulk>();
    bulk.policy = Policy::new().retry(Retry::never());
    let world = World::of(vec![bulk], 1);
    world.script.always("bulk", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.script.mend();
    let report = world.replay().handler::<Bulk>().run(&all()).await.unwrap();
    assert_eq!(report.processed, 1);
    assert_eq!(world.store.rows("bulk"), ["e0", "e2", "e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_kafka_says_that_the_key_was_given_up() {
    // Calls without Kafka see rows alone.
    let world = dead_with(Policy::new().markers(Markers::Rows)).await;
    let processor = Processor::new(world.store.clone()).state(world.script.clone());
    let call = async |id: &str| processor.process::<Bill>(Order::new(id)).await;
    let error = call("e1").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::GivenUp, false));
    assert!(error.to_string().contains("e1"), "{error}");
    assert!(call("e0").await.unwrap().is_duplicate());
    assert!(!world.store.is_processed("bill", "e1").await.unwrap());
    world.replay().run(&all()).await.unwrap();
    assert!(call("e1").await.unwrap().is_duplicate());
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
}
