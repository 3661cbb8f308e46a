//! Cases: events that waited are given up on themselves, and their letters take that over.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{Cause, DeadLetter, FailureClass, LetterAction, LetterState, NewLetter};
use crate::error::ErrorKind;
use crate::event::Headers;
use crate::lane::{Held, LaneId, Position};
use crate::store::{Edit, Opening, Store as _};

/// Parks what was released: with its event as it is now, and told by how it came.
async fn park_again<H: Harness>(harness: &H, held: &Held, letter: &DeadLetter) -> Held {
    let cause = cause();
    let new = NewLetter { digest: letter.digest, ..parked(&letter.event, &cause) };
    give_up(harness, held, &[new]).await
}

async fn the_released_one<H: Harness>(harness: &H, held: &Held) -> DeadLetter {
    let mut released = harness.store().released(held, 0, 100).await.unwrap();
    assert_eq!(released.len(), 1, "{released:?}");
    released.remove(0)
}

pub async fn a_released_event_that_was_edited_and_fails_is_the_letter_that_it_was<H: Harness>(
    harness: &H,
) {
    let headers: Headers = [("id", Some("e2"))].into_iter().collect();
    let edits = [
        Edit { payload: Some(Some(b"other")), ..Edit::default() },
        Edit { payload: Some(None), headers: Some(&headers), ..Edit::default() },
    ];
    let mut held = held(harness).await;
    for (done, change) in edits.into_iter().enumerate() {
        let first = i64::try_from(done).unwrap() * 2;
        let (head, behind_it) = (event(first, "k"), event(first + 1, "k"));
        held = give_up(harness, &held, &[parked(&head, &cause()), waiting(&behind_it)]).await;
        let came = at(harness, first + 1).await;
        edit(harness, came.id, change).await;
        settle_at(harness, first, LetterAction::Dropped).await;
        let released = the_released_one(harness, &held).await;
        assert_eq!(released.event.payload.as_deref(), change.payload.unwrap());
        held = park_again(harness, &held, &released).await;

        // The only one of its offset.
        let letter = at(harness, first + 1).await;
        assert_eq!((letter.id, letter.state), (came.id, LetterState::Parked));
        assert_eq!((letter.digest, letter.edited), (came.digest, true));
        assert_eq!(
            (letter.cause, &letter.fingerprint),
            (Some(cause()), &cause().fingerprint(SCOPE))
        );
        assert_eq!(letter.event.payload.as_deref(), change.payload.unwrap());
        assert_eq!(letter.event.headers.iter().count(), change.headers.iter().count());
        assert_eq!(offsets(&harness.store().released(&held, 0, 100).await.unwrap()), NONE);
        assert_eq!(behind(harness, &held, "k").await, Some(0));
        settle_at(harness, first + 1, LetterAction::Dropped).await;
        assert_eq!(behind(harness, &held, "k").await, None);
    }
    assert_eq!(told(harness).await, []);
}

pub async fn a_letter_that_is_taken_over_keeps_the_key_of_its_event<H: Harness>(harness: &H) {
    let (first, other) = (key("e2"), key("e3"));
    let unreadable = Cause { class: FailureClass::Decode, ..cause() };
    for (at_offset, new, cause) in [(2, Some(&other), cause()), (4, None, unreadable)] {
        let held = match at_offset {
            2 => held(harness).await,
            _ => take(harness, 0).await.held(),
        };
        let (head, event) = (event(at_offset - 1, "k"), event(at_offset, "k"));
        let waits = NewLetter { key: Some(&first), ..waiting(&event) };
        let held = give_up(harness, &held, &[parked(&head, &cause), waits]).await;
        settle_at(harness, at_offset - 1, LetterAction::Dropped).await;
        // It was edited meanwhile.
        give_up(harness, &held, &[NewLetter { key: new, ..parked(&event, &cause) }]).await;
        let letter = at(harness, at_offset).await;
        assert_eq!((letter.state, letter.cause.as_ref()), (LetterState::Parked, Some(&cause)));
        assert_eq!(letter.key.as_ref(), Some(&first), "a replay finds it anew");
        let refused = harness.store().forget_marker(SCOPE, &first).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::GivenUp, "its event would be worked beside it");
        assert!(!harness.store().forget_marker(SCOPE, &other).await.unwrap());
        settle_at(harness, at_offset, LetterAction::Dropped).await;
        assert!(!harness.store().forget_marker(SCOPE, &first).await.unwrap());
    }
}

pub async fn a_letter_is_taken_over_into_the_lane_that_gives_it_up<H: Harness>(harness: &H) {
    let former = two_behind(harness).await;
    // Another group has adopted the scope, and reads the topic from its start.
    let id = LaneId { group: "other".into(), ..lane(0) };
    let (identity, lanes) = (log("log"), [(0, Position::at(0))]);
    let opening = Opening { group: "other", topic: TOPIC, identity: &identity, lanes: &lanes };
    harness.store().open_topic(&opening).await.unwrap();
    let row = harness.store().take(&id, &owner("someone")).await.unwrap().unwrap();
    let cause = cause();
    let held = give_up(harness, &row.held(), &[parked(&event(2, "k"), &cause)]).await;
    let letter = at(harness, 2).await;
    assert_eq!((letter.state, &*letter.group), (LetterState::Parked, "other"));
    assert_eq!(behind(harness, &former, "k").await, Some(1), "one waits there no longer");
    assert_eq!(behind(harness, &held, "k").await, Some(0));
    let held = give_up(harness, &held, &[waiting(&event(4, "k"))]).await;
    settle_at(harness, 2, LetterAction::Dropped).await;
    assert_eq!(released(harness, &held).await, [4]);
    assert_eq!(released(harness, &former).await, NONE);
    settle_at(harness, 1, LetterAction::Dropped).await;
    assert_eq!(released(harness, &former).await, [3]);
    // One that dies holds up nobody, here as there.
    let held = give_up(harness, &held, &[dead(&event(3, "k"), &cause)]).await;
    assert_eq!(at(harness, 3).await.group, "other");
    assert_eq!(behind(harness, &former, "k").await, None);
    assert_eq!(behind(harness, &held, "k").await, Some(1));
}
