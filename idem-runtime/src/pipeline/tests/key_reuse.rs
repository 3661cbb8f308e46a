use super::broker::TOPIC;
use super::handlers::{Audit, Bill, Do};
use super::harness::{World, in_rows, until};
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::event::Event;
use crate::group::Registered;
use crate::memory::Memory;
use crate::policy::{OnFailure, PayloadCheck, Policy, Retry};
use crate::replay::Replay;

fn world(check: PayloadCheck) -> World {
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().retry(Retry::never()).payload_check(check);
    // One that compares payloads has rows, and the other keeps up with it over partitions.
    World::of(vec![bill, in_rows(Registered::of::<Audit>())], 2)
}

/// With handlers that compare payloads, as those of the lanes.
fn replay(world: &World, check: PayloadCheck) -> Replay<Memory> {
    let mut replay = world.replay();
    let bill = replay.handlers_mut().iter_mut().find(|it| it.scope == "bill").unwrap();
    bill.policy = Policy::new().payload_check(check);
    replay
}

/// An event with this id; `cents` makes its payload another one.
fn event(id: &str, cents: u32) -> String {
    serde_json::json!({ "id": id, "cents": cents }).to_string()
}

fn classes(world: &World) -> Vec<(String, String, FailureClass)> {
    world.letters().into_iter().map(|it| (it.0, it.1, it.3.unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn another_payload_under_a_known_key_is_counted_and_stays_a_duplicate() {
    let world = world(PayloadCheck::Warn);
    world.broker.produce_raw(0, [event("e0", 1), event("e1", 1)]);
    world.drain(0).await;
    // The same content in another form is the same.
    let same = r#"  { "cents": 1.0, "id": "e1" } "#.to_owned();
    world.broker.produce_raw(0, [event("e0", 2), same]);
    world.broker.produce_raw(1, [event("e0", 1)]);
    world.drain(0).await;
    world.drain(1).await;
    assert_eq!(world.bills(), ["e0", "e1"]);
    let counts = world.counts();
    assert_eq!((counts.key_reused, counts.dead_lettered), (1, 0));
    assert_eq!((counts.processed, counts.duplicates), (4, 6));
    assert!(world.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_payload_in_the_same_batch_is_found_too() {
    let world = world(PayloadCheck::DeadLetter);
    world.broker.produce_raw(0, [event("e0", 1), event("e0", 2), event("e0", 1), event("e0", 3)]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0"]);
    let counts = world.counts();
    assert_eq!((counts.key_reused, counts.dead_lettered), (2, 2));
    let letter = ("bill".to_owned(), "e0".to_owned(), FailureClass::KeyReuse);
    assert_eq!(classes(&world), [letter.clone(), letter]);
}

#[tokio::test(start_paused = true)]
async fn another_payload_becomes_one_dead_letter_however_often_it_is_read() {
    let world = world(PayloadCheck::DeadLetter);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.produce_raw(0, [event("e0", 2), event("e1", 2)]);
    world.drain(0).await;
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "e1"]);
    let letters = world.store.look(|view| view.letters());
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let cause = letter.cause.as_ref().unwrap();
    assert_eq!((cause.class, cause.permanent), (FailureClass::KeyReuse, true));
    assert!(cause.error.contains("partition 0, offset 0"), "{}", cause.error);
    // To be worked it needs a key of its own, and until then it is not settled.
    for tries in 1..3 {
        let report = world.replay().run(&LetterFilter::new()).await.unwrap();
        assert_eq!((report.processed, report.superseded, report.failed.len()), (0, 0, 1));
        let (id, error) = &report.failed[0];
        assert!(*id == letter.id && error.contains("of another event"), "{error}");
        assert_eq!(world.letters_in(LetterState::Dead), ["e0"]);
        let notes = world.dead_letters().history(letter.id).await.unwrap();
        assert_eq!(notes.len(), tries, "{notes:?}");
    }
    assert_eq!(world.bills(), ["e0", "e1"]);
    let another = event("e2", 2);
    world.dead_letters().edit(letter.id, Some(another.as_bytes()), "e0 twice").await.unwrap();
    let report = world.replay().run(&LetterFilter::new()).await.unwrap();
    assert_eq!((report.processed, report.failed.len()), (1, 0));
    assert_eq!(world.bills(), ["e0", "e1", "e2"]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_can_stop_before_another_payload_and_what_is_before_it_is_done() {
    let world = world(PayloadCheck::Stop);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.produce_raw(0, [event("e1", 1), event("e0", 2), event("e2", 1)]);
    let lane = world.start(0);
    let error = lane.stopped().await.to_string();
    assert!(error.contains("one key was given to two events"), "{error}");
    assert!(error.contains("offset 2") && error.contains("offset 0"), "{error}");
    assert_eq!((world.bills(), world.position(0)), (vec!["e0".into(), "e1".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_key_has_corrections_and_is_not_reused() {
    let world = world(PayloadCheck::DeadLetter);
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.produce_raw(0, [event("e0", 2)]);
    world.drain(0).await;
    let classes: Vec<_> = classes(&world).into_iter().map(|it| it.2).collect();
    assert_eq!(classes, [FailureClass::Handler, FailureClass::Correction]);
    assert_eq!(world.counts().key_reused, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_processed_before_payloads_were_compared_is_not_suspected() {
    let mut world = World::of(vec![Registered::of::<Bill>()], 1);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().payload_check(PayloadCheck::Stop).on_failure(OnFailure::Stop);
    world.set_handlers(vec![bill]);
    world.broker.produce_raw(0, [event("e0", 2), event("e1", 1)]);
    let lane = world.start(0);
    until(|| world.bills().len() == 2).await;
    lane.finish().await;
    assert_eq!(world.counts().key_reused, 0);
}

#[tokio::test(start_paused = true)]
async fn the_payload_that_was_processed_in_the_end_is_the_one_that_is_compared() {
    let world = world(PayloadCheck::Stop);
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.produce_raw(0, [event("e0", 2)]);
    world.drain(0).await;
    world.script.mend();
    let correction = LetterFilter::new().class(FailureClass::Correction);
    let replay = replay(&world, PayloadCheck::Stop);
    assert_eq!(replay.run(&correction).await.unwrap().processed, 1);
    world.broker.produce_raw(0, [event("e0", 2), event("e1", 1)]);
    world.drain(0).await;
    assert_eq!((world.bills().len(), world.counts().key_reused), (2, 0));
    // Neither the one that was given up on, nor a third.
    for (partition, cents) in [(0, 1), (1, 3)] {
        world.broker.produce_raw(partition, [event("e0", cents)]);
        let error = world.start(partition).stopped().await.to_string();
        assert!(error.contains("one key was given to two events"), "{error}");
    }
    assert_eq!(world.bills().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_letter_without_a_key_is_compared_with_once_it_was_replayed_with_one() {
    let world = world(PayloadCheck::DeadLetter);
    world.broker.produce_raw(0, [event("", 1)]);
    world.drain(0).await;
    let mended = event("e0", 1);
    world.dead_letters().edit(1, Some(mended.as_bytes()), "its id was missing").await.unwrap();
    let bill = LetterFilter::new().scope("bill");
    let replay = replay(&world, PayloadCheck::DeadLetter);
    assert_eq!(replay.run(&bill).await.unwrap().processed, 1);
    world.broker.produce_raw(0, [mended, event("e0", 2)]);
    world.drain(0).await;
    let letters = world.store.look(|view| view.letters());
    let cause = letters.last().unwrap().cause.as_ref().unwrap();
    assert_eq!(cause.class, FailureClass::KeyReuse);
    assert!(cause.error.contains("a dead letter that was replayed"), "{}", cause.error);
    assert_eq!(world.counts().key_reused, 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_single_content_is_compared_by_its_bytes_and_not_by_its_message_key() {
    let world = world(PayloadCheck::DeadLetter);
    let twice = |cents: u32| format!(r#"{{"id":"e0","cents":{cents},"note":1,"note":2}}"#);
    let with_key = |payload: String, key: &'static str| {
        let mut event = Event::new(TOPIC.into(), 0, 0, payload);
        event.message_key = Some(key.into());
        event
    };
    world.broker.append_events(0, [with_key(twice(1), "a")]);
    world.drain(0).await;
    world.broker.append_events(0, [with_key(twice(1), "b"), with_key(twice(1), "a")]);
    world.drain(0).await;
    assert_eq!((world.counts().key_reused, world.letters().len()), (0, 0));
    world.broker.append_events(0, [with_key(twice(2), "a")]);
    world.drain(0).await;
    assert_eq!(world.counts().key_reused, 1);
    assert_eq!(world.bills(), ["e0"]);
}
