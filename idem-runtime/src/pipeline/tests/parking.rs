use std::time::Duration;

use super::client::Client;
use super::handlers::{Audit, Bill, Count, Do};
use super::harness::{World, ids, quiet, until};
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::group::Registered;
use crate::memory::{ParkedKey, Point};
use crate::policy::{OnFailure, Policy, Retry};

pub(super) const PARK: Policy = Policy::new().retry(Retry::never()).on_failure(OnFailure::PARK_KEY);

pub(super) fn world() -> World {
    World::with(PARK)
}

/// Events of the message keys `a` and `b`, in turn: `e0` is of `a`, `e1` of `b`.
pub(super) fn produce(world: &World, from: usize, to: usize) {
    let events = (from..to).map(|n| (if n % 2 == 0 { "a" } else { "b" }, format!("e{n}")));
    world.broker.produce_keyed(0, events);
}

pub(super) fn even(to: usize) -> Vec<String> {
    ids(to).into_iter().step_by(2).collect()
}

pub(super) fn parked(world: &World) -> Vec<ParkedKey> {
    world.store.look(|view| view.parked(&world.id(0)))
}

fn number(world: &World, id: &str) -> i64 {
    let letters = world.store.look(|view| view.letters());
    let payload = serde_json::json!({ "id": id }).to_string();
    let payload = Some(payload.as_bytes());
    letters.iter().find(|letter| letter.event.payload.as_deref() == payload).unwrap().id
}

pub(super) async fn replay(world: &World, id: &str) {
    let report = world.replay().run(&LetterFilter::id(number(world, id))).await.unwrap();
    assert_eq!(report.processed, 1, "{report:?}");
}

pub(super) async fn discard(world: &World, id: &str) {
    let filter = LetterFilter::id(number(world, id));
    assert_eq!(world.dead_letters().discard(&filter, "of no use").await.unwrap(), 1);
}

/// The effects of `a`, in order.
pub(super) fn of_a(world: &World) -> Vec<String> {
    let is_even = |id: &String| id[1..].parse::<usize>().unwrap().is_multiple_of(2);
    world.bills().into_iter().filter(is_even).collect()
}

#[tokio::test(start_paused = true)]
async fn events_behind_a_parked_one_of_their_message_key_wait_and_others_go_on() {
    let world = world();
    world.script.always("bill", "e2", Do::Fail);
    produce(&world, 0, 10);
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Parked), ["e2"]);
    assert_eq!(world.letters_in(LetterState::Waiting), ["e4", "e6", "e8"]);
    assert_eq!(world.bills(), ["e0", "e1", "e3", "e5", "e7", "e9"]);
    assert_eq!(world.script.attempts("e4").len(), 0, "never tried");
    let rows = parked(&world);
    assert_eq!((rows.len(), rows[0].waiting, rows[0].released), (1, 3, false));
    let counts = world.counts();
    assert_eq!((counts.processed, counts.parked, counts.delivered), (6, 4, 10));
    world.assert_sums(ids(10));
    assert_eq!(world.store.counts().commits, 2, "the good ones before it, and the rest");
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_the_lane_waits_and_goes_on_after_the_release() {
    let world = World::with(PARK.on_failure(OnFailure::ParkKey { limit: 2 }));
    world.script.always("bill", "e0", Do::Fail);
    produce(&world, 0, 10);
    let lane = world.start(0);
    world.worked(0, 6).await;
    quiet(Duration::from_secs(30)).await;
    assert_eq!(world.position(0), 6, "e6 finds no room, and nothing is dropped");
    assert_eq!(world.letters_in(LetterState::Waiting), ["e2", "e4"]);
    assert_eq!(world.bills(), ["e1", "e3", "e5"]);
    world.script.mend();
    replay(&world, "e0").await;
    world.worked(0, 10).await;
    until(|| world.bills().len() == 10).await;
    assert_eq!(of_a(&world), even(10));
    world.assert_sums(ids(10));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_already_needs_no_room_when_it_is_read_again() {
    let world = World::with(PARK.on_failure(OnFailure::ParkKey { limit: 2 }));
    world.script.always("bill", "e0", Do::Fail);
    produce(&world, 0, 6);
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Waiting).len(), 2);
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!((world.counts().duplicates, world.position(0)), (6, 6));
    world.assert_sums(ids(6));
}

#[tokio::test(start_paused = true)]
async fn another_process_takes_over_what_is_parked() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    produce(&world, 0, 4);
    let lane = world.start(0);
    world.worked(0, 4).await;
    lane.kill().await;
    let lane = world.start_on("b", 0, &Client::new(&world.broker));
    produce(&world, 4, 8);
    world.worked(0, 8).await;
    assert_eq!(world.letters_in(LetterState::Waiting), ["e2", "e4", "e6"]);
    lane.finish().await;
    world.script.mend();
    // Released while nobody holds the lane.
    replay(&world, "e0").await;
    let lane = world.start(0);
    until(|| world.bills().len() == 8).await;
    assert_eq!(of_a(&world), even(8));
    world.assert_sums(ids(8));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_rewind_while_events_wait_changes_nothing() {
    let world = world();
    world.script.always("bill", "e0", Do::Fail);
    produce(&world, 0, 6);
    world.drain(0).await;
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(world.counts().duplicates, 6);
    assert_eq!(world.letters_in(LetterState::Waiting), ["e2", "e4"]);
    assert_eq!(parked(&world)[0].waiting, 2);
    world.script.mend();
    replay(&world, "e0").await;
    let lane = world.start(0);
    until(|| world.bills().len() == 6).await;
    assert_eq!(of_a(&world), even(6));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_message_key_is_a_dead_letter_and_holds_up_nobody() {
    let world = world();
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e1"]);
    assert_eq!(world.bills(), ["e0", "e2", "e3"]);
    world.assert_sums(ids(4));
}

#[tokio::test(start_paused = true)]
async fn each_handler_parks_a_message_key_for_itself() {
    let mut handlers = vec![Registered::of::<Bill>(), Registered::of::<Audit>()];
    for handler in &mut handlers {
        handler.policy = PARK;
    }
    let world = World::of(handlers, 1);
    world.script.always("bill", "e0", Do::Fail);
    world.script.always("audit", "e4", Do::Fail);
    produce(&world, 0, 8);
    let lane = world.start(0);
    world.worked(0, 8).await;
    assert_eq!(world.letters_in(LetterState::Waiting), ["e2", "e4", "e6"]);
    assert_eq!(world.store.rows("audit"), ["e0", "e1", "e2", "e3", "e5", "e7"]);
    assert_eq!(parked(&world).len(), 2);
    world.script.mend();
    replay(&world, "e0").await;
    until(|| world.bills().len() == 8).await;
    assert_eq!(world.store.rows("audit").len(), 6, "the other one's wait still");
    let report = world.replay().run(&LetterFilter::new().scope("audit")).await.unwrap();
    assert_eq!((report.processed, report.waiting), (1, 1));
    until(|| world.store.rows("audit").len() == 8).await;
    assert_eq!(of_a(&world), even(8));
    world.assert_sums(ids(8));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_event_holds_its_message_key() {
    let world = world();
    let bad = (Some("a".to_owned()), "hunter2".to_owned());
    world.broker.append(0, [bad]);
    world.broker.produce_keyed(0, [("a", "e1"), ("b", "e2")]);
    world.drain(0).await;
    let letters = world.letters();
    assert_eq!((letters[0].2, letters[0].3), (LetterState::Parked, Some(FailureClass::Decode)));
    assert_eq!((letters[1].2, &*letters[1].1), (LetterState::Waiting, "e1"));
    assert_eq!(world.bills(), ["e2"]);
    // It is corrected, and the others follow.
    let (id, payload) = (1, br#"{"id":"e0"}"#);
    world.dead_letters().edit(id, Some(payload), "a typo").await.unwrap();
    let lane = world.start(0);
    let report = world.replay().run(&LetterFilter::id(id)).await.unwrap();
    assert_eq!(report.processed, 1);
    until(|| world.bills().len() == 3).await;
    assert_eq!(world.bills(), ["e2", "e0", "e1"]);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_undecodable_event_that_was_settled_does_not_wait_behind_it() {
    let mut count = Registered::of::<Count>();
    count.policy = PARK;
    for handlers in [vec![], vec![count]] {
        let world = if handlers.is_empty() { world() } else { World::of(handlers, 1) };
        world.broker.append(0, [(Some("a".to_owned()), "hunter2".to_owned())]);
        world.drain(0).await;
        let dropped = world.dead_letters().discard(&LetterFilter::new(), "noise").await.unwrap();
        assert_eq!(dropped, 1);
        // Read again, in one batch with a new event of the key.
        world.broker.produce_keyed(0, [("a", "e1")]);
        world.broker.reset(0, 0);
        world.drain(0).await;
        assert_eq!(world.script.ran().len(), 1);
        let open = world.letters().into_iter().filter(|it| it.2 != LetterState::Dropped).count();
        assert_eq!(open, 0, "{:?}", world.letters());
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_event_that_somebody_else_processed_meanwhile_does_not_wait_behind_it() {
    let world = world();
    world.script.on("e0", [Do::FailForGood]);
    let begin = world.store.faults().pause(Point::Begin);
    produce(&world, 0, 4);
    let lane = world.start(0);
    begin.reached().await;
    let again = world.store.faults().pause(Point::Rollback);
    begin.release();
    again.reached().await;
    // It has failed, and is not yet written down.
    let key = crate::Key::new("e0").unwrap();
    let begin = world.store.faults().pause(Point::Begin);
    again.release();
    begin.reached().await;
    let marked = crate::Store::mark_processed(&world.store, "bill", key, None).await.unwrap();
    assert!(marked.is_processed());
    begin.release();
    world.worked(0, 4).await;
    assert_eq!(world.bills(), ["e1", "e2", "e3"]);
    assert!(world.letters().is_empty(), "{:?}", world.letters());
    assert_eq!(world.counts().duplicates, 1);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn in_offset_mode_waiting_events_are_released_once() {
    let mut count = Registered::of::<Count>();
    count.policy = PARK;
    let world = World::of(vec![count], 1);
    world.script.always("count", "e0", Do::Fail);
    produce(&world, 0, 6);
    let lane = world.start(0);
    world.worked(0, 6).await;
    assert_eq!(world.store.rows("count"), ["0/1", "0/3", "0/5"]);
    lane.finish().await;
    world.broker.reset(0, 0);
    world.script.mend();
    world.drain(0).await;
    replay(&world, "e0").await;
    let lane = world.start(0);
    until(|| world.store.rows("count").len() == 6).await;
    assert_eq!(world.store.rows("count")[3..], ["0/0", "0/2", "0/4"]);
    lane.finish().await;
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(world.store.rows("count").len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_went_back_to_before_an_event_was_parked_parks_it_again() {
    let world = world();
    world.script.always("bill", "e2", Do::Fail);
    let lane = world.start(0);
    produce(&world, 0, 2);
    world.worked(0, 2).await;
    let earlier = world.store.snapshot();
    produce(&world, 2, 6);
    world.worked(0, 6).await;
    world.store.restore(&earlier);
    produce(&world, 6, 8);
    world.worked(0, 8).await;
    assert_eq!(world.letters_in(LetterState::Waiting), ["e4", "e6"]);
    world.assert_sums(ids(8));
    lane.finish().await;
}
