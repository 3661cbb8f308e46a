//! Events that wait, are edited meanwhile, and fail when they are released.

use std::time::Duration;

use super::handlers::Do;
use super::harness::{World, quiet, until};
use super::parking::{discard, parked, world};
use crate::dead_letter::{DeadLetter, LetterFilter, LetterState};
use crate::edit::LetterEdit;
use crate::error::ErrorKind;
use crate::key::Key;
use crate::memory::Point;

/// `e0` is parked, and the event behind it, whose letter is the second one, has this payload now.
async fn edited(world: &World, payload: &str) {
    world.register().await;
    world.script.always("bill", "e0", Do::Fail);
    world.script.always("bill", "x", Do::Fail);
    world.broker.produce_keyed(0, [("a", "e0"), ("a", "e2")]);
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Waiting), ["e2"]);
    edit(world, payload).await;
}

async fn edit(world: &World, payload: &str) {
    let edit = LetterEdit::new().payload(payload.to_owned());
    world.dead_letters().edit_event(2, &edit, "a typo").await.unwrap();
}

/// The letter that was edited. No other one was written.
#[track_caller]
fn second(world: &World) -> DeadLetter {
    let mut letters = world.store.look(|view| view.letters());
    assert_eq!(letters.len(), 2, "{letters:?}");
    letters.remove(1)
}

#[tokio::test(start_paused = true)]
async fn a_waiting_event_that_was_edited_and_fails_is_the_letter_that_it_was() {
    for payload in [r#"{"id":"x"}"#, "hunter2"] {
        let world = world();
        edited(&world, payload).await;
        discard(&world, "e0").await;
        let lane = world.start(0);
        until(|| second(&world).state == LetterState::Parked).await;
        let letter = second(&world);
        assert_eq!(letter.event.payload.as_deref(), Some(payload.as_bytes()));
        assert!(letter.edited);
        let key = letter.key.as_ref().map(Key::as_str);
        assert_eq!(key, Some("e2"), "of the event as it came");
        let rows = parked(&world);
        assert_eq!((rows.len(), rows[0].waiting, rows[0].released), (1, 0, false));

        let filter = LetterFilter::id(2);
        assert_eq!(world.dead_letters().discard(&filter, "of no use").await.unwrap(), 1);
        quiet(Duration::from_secs(30)).await;
        assert_eq!(second(&world).state, LetterState::Dropped);
        assert!(parked(&world).is_empty() && world.bills().is_empty());
        // Nor is it worked when it is read again, as it came.
        world.script.mend();
        lane.finish().await;
        world.again_from(0, 0).await;
        assert!(world.bills().is_empty());
        assert_eq!(second(&world).state, LetterState::Dropped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_event_that_was_edited_and_failed_is_replayed_once() {
    let (x, e2) = (r#"{"id":"x"}"#, r#"{"id":"e2"}"#);
    for (before, then, effect) in
        [(x, x, "x"), ("hunter2", x, "x"), ("hunter2", e2, "e2"), (x, e2, "e2")]
    {
        let world = world();
        edited(&world, before).await;
        discard(&world, "e0").await;
        let lane = world.start(0);
        until(|| second(&world).state == LetterState::Parked).await;
        lane.finish().await;
        world.script.mend();
        edit(&world, then).await;
        let report = world.replay().run(&LetterFilter::id(2)).await.unwrap();
        assert_eq!(report.processed, 1, "{before}, then {then}: {report:?}");
        assert_eq!(world.bills(), [effect]);
        assert_eq!(second(&world).state, LetterState::Replayed);
        assert!(parked(&world).is_empty());
        world.broker.produce_keyed(0, [("b", effect)]);
        world.again_from(0, 0).await;
        assert_eq!(world.bills(), [effect], "{before}, then {then}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_stops_at_a_released_event_that_is_done_and_waits_still() {
    for point in [Point::Unpark, Point::GiveUp] {
        let world = world();
        edited(&world, r#"{"id":"x"}"#).await;
        if point == Point::Unpark {
            world.script.mend();
        }
        discard(&world, "e0").await;
        world.store.faults().skip(point);
        let error = world.start(0).stopped().await;
        assert_eq!(error.kind(), ErrorKind::Store);
        let text = error.to_string();
        assert!(text.contains("partition 0, offset 1, scope bill: dead letter 2"), "{text}");
        assert_eq!(world.script.attempts("x").len(), 1);
        // As it says.
        let dropped = world.dead_letters().discard(&LetterFilter::id(2), "a bug").await.unwrap();
        assert_eq!(dropped, 1);
        world.broker.produce_keyed(0, [("a", "e4")]);
        world.drain(0).await;
        assert!(world.bills().contains(&"e4".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_event_that_got_a_key_that_was_processed_is_a_duplicate_when_it_is_released() {
    for (before, restart) in [("e2", false), ("e2", true), ("", false), ("", true)] {
        let world = world();
        world.register().await;
        world.script.always("bill", "e0", Do::Fail);
        world.broker.produce_keyed(0, [("a", "e0"), ("a", before), ("b", "x")]);
        let mut lane = world.start(0);
        world.worked(0, 3).await;
        edit(&world, r#"{"id":"x"}"#).await;
        if restart {
            lane.finish().await;
            lane = world.start(0);
        }
        discard(&world, "e0").await;
        until(|| second(&world).state.is_settled()).await;
        lane.finish().await;
        assert_eq!(world.bills(), ["x"]);
        assert!(parked(&world).is_empty());
        world.again_from(0, 0).await;
        assert_eq!(world.bills(), ["x"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_event_that_got_the_key_of_one_that_was_given_up_on_is_worked_in_its_place() {
    // `e2` waits behind it, or is dead, when `e1` gets its key.
    for waits in [true, false] {
        for restart in [true, false] {
            let world = world();
            world.register().await;
            world.script.always("bill", "e0", Do::Fail);
            world.script.always("bill", "e2", Do::Fail);
            let other = if waits { "a" } else { "b" };
            world.broker.produce_keyed(0, [("a", "e0"), ("a", "e1"), (other, "e2")]);
            let mut lane = world.start(0);
            world.worked(0, 3).await;
            edit(&world, r#"{"id":"e2"}"#).await;
            world.script.mend();
            if restart {
                lane.finish().await;
                lane = world.start(0);
            }
            discard(&world, "e0").await;
            until(|| world.bills().len() == 1).await;
            quiet(Duration::from_secs(30)).await;
            lane.finish().await;
            world.replay().run(&LetterFilter::new()).await.unwrap();
            world.again_from(0, 0).await;
            assert_eq!(world.bills(), ["e2"], "waits: {waits}, restart: {restart}");
        }
    }
}
