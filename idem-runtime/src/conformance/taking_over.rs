//! Cases: events that waited are given up on themselves, and their letters take that over.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{DeadLetter, LetterAction, LetterState, NewLetter};
use crate::event::Headers;
use crate::lane::Held;
use crate::store::{Edit, Store as _};

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
