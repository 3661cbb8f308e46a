use super::handlers::{Bill, Do};
use super::harness::World;
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::group::Registered;
use crate::policy::{OnFailure, Policy, Retry};

fn world() -> World {
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().retry(Retry::never());
    World::of(vec![bill], 2)
}

/// An event with this id; `cents` makes its payload another one.
fn event(id: &str, cents: u32) -> String {
    serde_json::json!({ "id": id, "cents": cents }).to_string()
}

/// Offset, class and cents of all letters.
fn letters(world: &World) -> Vec<(i64, FailureClass, u64)> {
    let letters = world.store.look(|view| view.letters());
    let letters = letters.into_iter().map(|letter| {
        assert_eq!(letter.state, LetterState::Dead);
        let json = letter.event.payload.as_deref().unwrap();
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let cents = json["cents"].as_u64().unwrap();
        (letter.event.offset, letter.cause.unwrap().class, cents)
    });
    letters.collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_with_another_payload_under_a_dead_key_is_kept_beside_it() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.produce_raw(0, [event("e0", 2)]);
    world.drain(0).await;
    use FailureClass::{Correction, Handler};
    assert_eq!(letters(&world), [(0, Handler, 1), (1, Correction, 2)]);
    let counts = world.counts();
    assert_eq!((counts.dead_lettered, counts.duplicates, counts.delivered), (2, 0, 2));
    // Either can be replayed, and then the other one is settled without effects.
    world.script.mend();
    let report = world.replay().run(&LetterFilter::new().class(Correction)).await.unwrap();
    assert_eq!((report.processed, report.superseded), (1, 0));
    let report = world.replay().run(&LetterFilter::new()).await.unwrap();
    assert_eq!((report.processed, report.superseded), (0, 1));
    assert_eq!(world.bills(), ["e0"]);
}

#[tokio::test(start_paused = true)]
async fn an_identical_copy_of_a_dead_event_is_a_duplicate() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.produce_raw(1, [event("e0", 1)]);
    world.drain(1).await;
    assert_eq!(letters(&world).len(), 1);
    assert_eq!(world.counts().duplicates, 2);
}

#[tokio::test(start_paused = true)]
async fn a_correction_that_comes_again_is_a_duplicate() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    for _ in 0..2 {
        world.broker.produce_raw(0, [event("e0", 2)]);
        world.drain(0).await;
    }
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(letters(&world).len(), 2);
    assert_eq!(world.counts().duplicates, 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn corrections_are_found_in_one_batch_with_the_event() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    let payloads = [event("e0", 1), event("e0", 1), event("e0", 2), event("e0", 3), event("e0", 2)];
    world.broker.produce_raw(0, payloads);
    world.drain(0).await;
    use FailureClass::{Correction, Handler};
    assert_eq!(letters(&world), [(0, Handler, 1), (2, Correction, 2), (3, Correction, 3)]);
    assert_eq!((world.counts().dead_lettered, world.counts().duplicates), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_correction_behind_a_copy_of_the_dead_event_is_not_swallowed() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    // In one batch: the producer sends it again, and then two corrections, one of them twice.
    let payloads = [event("e0", 1), event("e0", 2), event("e0", 3), event("e0", 2)];
    world.broker.produce_raw(0, payloads);
    world.drain(0).await;
    use FailureClass::{Correction, Handler};
    assert_eq!(letters(&world), [(0, Handler, 1), (2, Correction, 2), (3, Correction, 3)]);
    assert_eq!(world.counts().duplicates, 2);
}

#[tokio::test(start_paused = true)]
async fn another_payload_under_a_processed_key_is_a_duplicate() {
    let world = world();
    let payloads = [event("e0", 1), event("e0", 2)];
    world.broker.produce_raw(0, payloads.clone());
    world.drain(0).await;
    world.broker.produce_raw(0, payloads);
    world.drain(0).await;
    assert!(letters(&world).is_empty());
    assert_eq!(world.counts().duplicates, 3);
}

#[tokio::test(start_paused = true)]
async fn a_correction_of_a_parked_event_does_not_wait_behind_it() {
    let policy = Policy::new().retry(Retry::never()).on_failure(OnFailure::PARK_KEY);
    let world = World::with(policy);
    world.script.always("bill", "e0", Do::Fail);
    let keyed = |payload| (Some("c".to_owned()), payload);
    world.broker.append(0, [event("e0", 1)].map(keyed));
    world.drain(0).await;
    world.broker.append(0, [event("e0", 2)].map(keyed));
    world.drain(0).await;
    let states: Vec<_> = world.letters().into_iter().map(|it| (it.2, it.3.unwrap())).collect();
    let parked = (LetterState::Parked, FailureClass::Handler);
    assert_eq!(states, [parked, (LetterState::Dead, FailureClass::Correction)]);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_new_log_at_the_place_of_a_dead_one_is_a_correction() {
    let mut world = world();
    world.settings.policies.log_changed = crate::pipeline::policy::LogChanged::Earliest;
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_raw(0, [event("e0", 1)]);
    world.drain(0).await;
    world.broker.recreate();
    world.broker.produce_raw(0, [event("e0", 2)]);
    let lane = world.start(0);
    super::harness::until(|| world.counts().delivered == 2).await;
    use FailureClass::{Correction, Handler};
    assert_eq!(letters(&world), [(0, Handler, 1), (0, Correction, 2)]);
    lane.finish().await;
}
