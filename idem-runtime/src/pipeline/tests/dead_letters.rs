use super::client::Client;
use super::handlers::{Audit, Bill, Count, Do};
use super::harness::{World, ids, until};
use crate::dead_letter::{FailureClass, LetterState};
use crate::error::{Error, ErrorKind};
use crate::group::Registered;
use crate::marker::MarkerState;
use crate::memory::Point;
use crate::policy::{Markers, OnFailure, Policy, Retry};

/// Three attempts, and a dead letter.
fn three() -> World {
    World::with(Policy::new().retry(Retry::new().max(3)))
}

#[tokio::test(start_paused = true)]
async fn an_event_that_failed_for_good_is_a_dead_letter_and_its_neighbours_are_done() {
    let world = three();
    world.script.always("bill", "e4", Do::Fail);
    world.broker.produce(0, ids(10));
    world.drain(0).await;
    assert_eq!(world.script.attempts("e4"), [1, 2, 3]);
    let letters = world.store.look(|view| view.letters());
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    let cause = letter.cause.as_ref().unwrap();
    assert_eq!((letter.state, letter.event.offset), (LetterState::Dead, 4));
    assert_eq!((cause.class, cause.attempts, cause.permanent), (FailureClass::Handler, 3, false));
    assert_eq!(cause.error, "the test made it fail");
    assert_eq!(letter.key.as_ref().unwrap().as_str(), "e4");
    assert_eq!((world.bills().len(), world.position(0)), (9, 10));
    world.assert_sums(ids(10));
    let counts = world.counts();
    assert_eq!((counts.processed, counts.dead_lettered, counts.retried), (9, 1, 2));
    assert_eq!(counts.delivered, 10);
    assert!(world.row(0).attempts.is_empty(), "what was known of its attempts is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_costs_two_more_transactions() {
    for act in [Do::FailForGood, Do::FailStatementForGood] {
        let world = three();
        world.script.always("bill", "e4", act);
        world.broker.produce(0, ids(10));
        world.drain(0).await;
        let counts = world.store.counts();
        assert_eq!((counts.begins, counts.commits), (3, 2));
        assert_eq!(world.script.attempts("e4"), [1], "never again");
        assert_eq!(world.script.ids().len(), 4 + 1 + 4 + 5, "and what is before it once more");
        assert!(world.store.look(|view| view.letters())[0].cause.as_ref().unwrap().permanent);
        world.assert_sums(ids(10));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_at_the_head_of_its_batch_costs_one_more_transaction() {
    let world = three();
    world.script.always("bill", "e0", Do::FailForGood);
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    assert_eq!(world.store.counts().begins, 2);
    world.assert_sums(ids(5));
}

#[tokio::test(start_paused = true)]
async fn panics_and_failures_at_the_commit_are_dead_letters_of_their_kind() {
    let world = three();
    world.script.always("bill", "e1", Do::Panic);
    world.script.always("bill", "e2", Do::Swallow);
    world.store.faults().reject_commits(|rows| {
        let bad = rows.iter().any(|(_, value)| *value == "e3");
        bad.then(|| Error::new(ErrorKind::Store, "a deferred constraint"))
    });
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    let classes: Vec<_> = world.letters().into_iter().map(|it| (it.1, it.3.unwrap())).collect();
    let expected = [
        ("e1".to_owned(), FailureClass::Panic),
        ("e2".to_owned(), FailureClass::Transaction),
        ("e3".to_owned(), FailureClass::Transaction),
    ];
    assert_eq!(classes, expected);
    world.assert_sums(ids(5));
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_while_a_dead_letter_is_written_each_event_is_one_thing() {
    let points = [
        Point::Begin,
        Point::Claim,
        Point::Pack,
        Point::GivenUp,
        Point::GiveUp,
        Point::ForgetAttempts,
        Point::NoteAttempt,
        Point::Seal,
        Point::Commit,
        Point::Rollback,
        Point::Read,
    ];
    for point in points {
        for kind in [ErrorKind::Transient, ErrorKind::Connection] {
            for skip in 0..4 {
                let world = three();
                world.script.always("bill", "e2", Do::Fail);
                world.script.always("bill", "e3", Do::FailForGood);
                world.broker.produce(0, ids(5));
                let lane = world.start(0);
                // The fault meets another transaction each time.
                until(|| world.script.attempts("e2").len() >= skip).await;
                world.store.faults().fail(point, kind);
                world.worked(0, 5).await;
                lane.finish().await;
                world.assert_sums(ids(5));
                let dead = world.letters_in(LetterState::Dead);
                assert_eq!(dead, ["e2", "e3"], "{point:?}, {skip}");
                let counts = world.counts();
                assert_eq!((counts.processed, counts.dead_lettered), (3, 2), "{point:?}, {skip}");
                assert_eq!((counts.duplicates, counts.delivered), (0, 5), "{point:?}, {skip}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_any_commit_leaves_each_event_one_thing() {
    for which in 0..3 {
        for commit in 0..4 {
            let world = three();
            world.script.always("bill", "e2", Do::Fail);
            world.broker.produce(0, ids(5));
            let lane = world.start(0);
            until(|| world.store.counts().commits >= commit).await;
            let faults = world.store.faults();
            let slow = match which {
                0 => {
                    faults.lose_the_answer_of_a_commit();
                    None
                }
                1 => {
                    faults.fail(Point::Commit, ErrorKind::UnknownCommit);
                    None
                }
                _ => Some(faults.lose_the_answer_of_a_slow_commit()),
            };
            world.broker.produce(0, ["e5", "e6"]);
            if let Some(slow) = slow {
                slow.reached().await;
                world.store.wait_for(|view| view.waiting() > 0).await;
                slow.release();
            }
            let end = world.end(0);
            until(|| lane.resolved() == Some(end)).await;
            lane.finish().await;
            let made = ids(usize::try_from(end).unwrap());
            world.assert_sums(&made);
            assert_eq!(world.letters_in(LetterState::Dead), ["e2"], "{which}, {commit}");
            let counts = world.counts();
            assert_eq!(counts.delivered, made.len() as u64, "{which}, {commit}: {counts:?}");
            assert_eq!((counts.dead_lettered, counts.duplicates), (1, 0), "{which}, {commit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_or_has_no_key_is_a_dead_letter_without_a_key() {
    let world = three();
    let payloads = ["hunter2", "{}", r#"{"id": ""}"#, r#"{"id": "panic"}"#];
    world.broker.produce(0, ["e0"]);
    world.broker.produce_raw(0, payloads.map(str::to_owned));
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ids(2));
    assert_eq!(world.store.counts().begins, 1, "nothing failed in the transaction");
    let letters = world.store.look(|view| view.letters());
    let classes: Vec<_> = letters.iter().map(|it| it.cause.as_ref().unwrap().class).collect();
    use FailureClass::{Decode, Key};
    assert_eq!(classes, [Decode, Decode, Key, Key]);
    assert!(letters.iter().all(|it| it.key.is_none() && it.state == LetterState::Dead));
    assert!(!format!("{:?}", letters[0].cause).contains("hunter2"), "the payload is not repeated");
    assert_eq!(world.counts().dead_lettered, 4);
    // Read again, nothing is written twice.
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(world.store.look(|view| view.letters().len()), 4);
    assert_eq!(world.bills(), ids(2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_event_that_is_read_again_is_a_duplicate() {
    let world = three();
    world.script.always("bill", "e1", Do::FailForGood);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.reset(0, 0);
    world.script.mend();
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e1"]);
    assert_eq!((world.counts().duplicates, world.counts().dead_lettered), (3, 1));
    assert_eq!(world.script.attempts("e1"), [1], "it is not tried again behind its letter");
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_dead_event_of_another_partition_is_a_duplicate() {
    let mut bill = Registered::of::<Bill>();
    // Only rows are known to all partitions.
    bill.policy = Policy::new().retry(Retry::never()).markers(Markers::Rows);
    let world = World::of(vec![bill], 2);
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.produce(1, ids(3));
    world.drain(1).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e1"]);
    assert_eq!(world.counts().duplicates, 3);
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_up_does_not_take_the_event_from_the_other() {
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().retry(Retry::never());
    let world = World::of(vec![bill, Registered::of::<Audit>()], 1);
    world.script.always("bill", "e1", Do::Fail);
    // The other one fails at the same event, and works the third time.
    world.script.on_in("audit", "e1", [Do::Fail, Do::Fail]);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.store.rows("audit"), ids(3));
    assert_eq!(world.bills(), ["e0", "e2"]);
    world.assert_sums(ids(3));
    assert_eq!(world.letters().len(), 1);
    assert_eq!(world.script.attempts("e1"), [1], "while the other one was tried again");
    let counts = world.counts();
    assert_eq!((counts.processed, counts.dead_lettered, counts.retried), (5, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn both_handlers_can_give_up_on_an_event() {
    let mut handlers = vec![Registered::of::<Bill>(), Registered::of::<Audit>()];
    for handler in &mut handlers {
        handler.policy = Policy::new().retry(Retry::never());
    }
    let world = World::of(handlers, 1);
    world.script.always("bill", "e1", Do::Fail);
    world.script.always("audit", "e1", Do::FailForGood);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.letters().len(), 2);
    assert_eq!(world.store.look(|view| view.marker("audit", "e1")), Some(MarkerState::Dead));
    assert_eq!((world.counts().processed, world.counts().dead_lettered), (4, 2));
    world.assert_sums(ids(3));
}

#[tokio::test(start_paused = true)]
async fn in_offset_mode_a_dead_event_is_a_letter_and_the_position_its_marker() {
    let mut count = Registered::of::<Count>();
    count.policy = Policy::new().retry(Retry::never());
    let world = World::of(vec![count], 1);
    world.script.always("count", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.broker.produce_raw(0, ["hunter2".to_owned()]);
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), ["0/0", "0/2"]);
    world.broker.reset(0, 0);
    world.script.mend();
    world.drain(0).await;
    assert_eq!(world.store.rows("count"), ["0/0", "0/2"]);
    let letters = world.store.look(|view| view.letters());
    assert_eq!(letters.iter().map(|it| it.event.offset).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((world.counts().duplicates, world.counts().dead_lettered), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_fenced_writes_no_dead_letter() {
    let world = three();
    world.script.always("bill", "e1", Do::FailForGood);
    let pause = world.store.faults().pause(Point::GiveUp);
    world.broker.produce(0, ids(3));
    let old = world.start(0);
    pause.reached().await;
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    until(|| new.seat.held().is_some()).await;
    pause.release();
    world.worked(0, 3).await;
    assert_eq!(world.counts().fenced, 1);
    assert_eq!(world.letters_in(LetterState::Dead), ["e1"]);
    world.assert_sums(ids(3));
    old.finish().await;
    new.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_worked_before_is_not_blamed_for_a_commit_that_another_one_spoils() {
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().on_failure(OnFailure::Stop).retry(Retry::never());
    let world = World::of(vec![bill.clone()], 1);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    // A second handler joins, and reads what the first one has done.
    let mut audit = Registered::of::<Audit>();
    audit.policy = Policy::new().retry(Retry::never());
    let mut world = world;
    world.set_handlers(vec![bill, audit]);
    world.store.faults().reject_commits(|rows| {
        let bad = rows.iter().any(|(table, value)| (*table, *value) == ("audit", "e1"));
        bad.then(|| Error::new(ErrorKind::Store, "a deferred constraint"))
    });
    world.broker.reset(0, 0);
    let lane = world.start(0);
    until(|| world.counts().delivered == 6).await;
    assert_eq!(world.store.rows("audit"), ["e0", "e2"]);
    assert_eq!(world.letters().len(), 1);
    world.assert_sums(ids(3));
    lane.finish().await;
}
