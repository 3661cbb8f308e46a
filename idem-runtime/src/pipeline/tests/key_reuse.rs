use super::handlers::{Audit, Bill, Do};
use super::harness::{World, in_rows, until};
use crate::dead_letter::{FailureClass, LetterFilter};
use crate::group::Registered;
use crate::policy::{OnFailure, PayloadCheck, Policy, Retry};

fn world(check: PayloadCheck) -> World {
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().retry(Retry::never()).payload_check(check);
    // One that compares payloads has rows, and the other keeps up with it over partitions.
    World::of(vec![bill, in_rows(Registered::of::<Audit>())], 2)
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
    // To be worked it needs a key of its own.
    let report = world.replay().run(&LetterFilter::new()).await.unwrap();
    assert_eq!((report.processed, report.superseded), (0, 1));
    assert_eq!(world.bills(), ["e0", "e1"]);
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
    assert_eq!(world.replay().run(&correction).await.unwrap().processed, 1);
    world.broker.produce_raw(0, [event("e0", 2), event("e1", 1)]);
    world.drain(0).await;
    assert_eq!((world.bills().len(), world.counts().key_reused), (2, 0));
}
