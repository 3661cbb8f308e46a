//! Cases: message keys behind which events wait.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{LetterAction, LetterState, NewLetter};
use crate::store::{Store as _, Writer};

async fn settle_at<H: Harness>(harness: &H, offset: i64, action: LetterAction) {
    let id = at(harness, offset).await.id;
    settle(harness, id, &settlement(action)).await;
}

pub async fn a_parked_event_opens_its_message_key_for_others<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k")]).await;
    assert_eq!(behind(harness, &held, "k").await, Some(0));
    assert_eq!(behind(harness, &held, "j").await, None);
    let held = give_up(harness, &held, &[waiting(&event(2, "k"))]).await;
    assert_eq!(behind(harness, &held, "k").await, Some(1));
    let held = give_up(harness, &held, &[waiting(&event(3, "k")), waiting(&event(4, "k"))]).await;
    assert_eq!(behind(harness, &held, "k").await, Some(3));
    let parked = LetterState::Parked;
    let wait = LetterState::Waiting;
    assert_eq!(states(harness).await, [(1, parked), (2, wait), (3, wait), (4, wait)]);
    let letter = at(harness, 2).await;
    assert_eq!((letter.cause, letter.fingerprint.as_str()), (None, ""));
}

pub async fn a_batch_parks_and_waits_at_once<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let cause = cause();
    let events = [event(1, "k"), event(2, "k"), event(3, "j"), event(4, "j"), event(5, "j")];
    let new = [
        parked(&events[0], &cause),
        waiting(&events[1]),
        parked(&events[2], &cause),
        waiting(&events[3]),
        waiting(&events[4]),
    ];
    let held = give_up(harness, &held, &new).await;
    assert_eq!(behind(harness, &held, "k").await, Some(1));
    assert_eq!(behind(harness, &held, "j").await, Some(2));
}

pub async fn an_event_that_waits_is_counted_once<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    let held = give_up(harness, &held, &[waiting(&event(2, "k")), waiting(&event(4, "k"))]).await;
    assert_eq!(behind(harness, &held, "k").await, Some(3));
    assert_eq!(letters(harness).await.len(), 4);
}

pub async fn a_dead_event_opens_nothing<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = give_up(harness, &held, &[dead(&event(1, "k"), &cause())]).await;
    assert_eq!(behind(harness, &held, "k").await, None);
    assert_eq!(told(harness).await, []);
}

pub async fn keys_are_answered_in_their_order<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "a"), event(2, ""), event(3, "c")]).await;
    let (event, behind, cause) = (event(4, "b"), event(5, "c"), cause());
    let other = NewLetter { scope: "audit", ..parked(&event, &cause) };
    let held = give_up(harness, &held, &[other, waiting(&behind)]).await;
    let mut tx = begin(harness, &Writer::Lane(&held)).await;
    let keys: [(&str, &[u8]); 6] = [
        ("audit", b"a"),
        ("audit", b"b"),
        (SCOPE, b""),
        (SCOPE, b"\0\xff"),
        (SCOPE, b"b"),
        (SCOPE, b"c"),
    ];
    let answers = harness.store().parked(&mut tx, &held, &keys).await.unwrap();
    assert_eq!(answers, [None, Some(0), Some(0), None, None, Some(1)]);
    assert_eq!(harness.store().parked(&mut tx, &held, &[]).await.unwrap(), []);
    harness.store().rollback(tx).await;
}

pub async fn a_key_is_parked_in_its_lane_alone<H: Harness>(harness: &H) {
    with_parked(harness, &[event(1, "k")]).await;
    open(harness, &[1]).await;
    let other = take(harness, 1).await;
    assert_eq!(other.parked, []);
    assert_eq!(behind(harness, &other.held(), "k").await, None);
}

pub async fn the_next_owner_is_told_what_is_parked<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k"), event(2, "j")]).await;
    let (event, behind, cause) = (event(1, "k"), event(3, "k"), cause());
    let other = NewLetter { scope: "audit", ..parked(&event, &cause) };
    give_up(harness, &held, &[other, waiting(&behind)]).await;
    let key = |scope: &str, key: &str| (scope.to_owned(), key.as_bytes().to_vec());
    assert_eq!(told(harness).await, [key("audit", "k"), key(SCOPE, "j"), key(SCOPE, "k")]);
}

pub async fn a_key_can_be_parked_again<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k")]).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let held = give_up(harness, &held, &[parked(&event(5, "k"), &cause())]).await;
    assert_eq!(behind(harness, &held, "k").await, Some(0));
    let held = give_up(harness, &held, &[waiting(&event(6, "k"))]).await;
    settle_at(harness, 5, LetterAction::Replayed).await;
    assert_eq!(released(harness, &held).await, [6]);
}

pub async fn who_asks_for_a_key_waits_for_who_settles_its_event<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "a"), event(2, "b")]).await;
    let held = give_up(harness, &held, &[waiting(&event(3, "b"))]).await;
    for (key, offset, expected) in [("a", 1, None), ("b", 2, Some(1))] {
        let id = at(harness, offset).await.id;
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        harness.store().lock_letter(&mut tx, id).await.unwrap().unwrap();
        let replayed = settlement(LetterAction::Replayed);
        harness.store().settle_letter(&mut tx, id, &replayed).await.unwrap();
        let answer = while_open(harness, tx, &writer, async {
            let mut tx = begin(harness, &Writer::Lane(&held)).await;
            let keys = [(SCOPE, key.as_bytes())];
            let answers = harness.store().parked(&mut tx, &held, &keys).await.unwrap();
            (tx, answers)
        });
        let (tx, answers) = answer.await;
        harness.store().rollback(tx).await;
        assert_eq!(answers, [expected]);
    }
}

/// So that no event is left waiting behind a key that was released in between.
pub async fn who_settles_an_event_waits_for_who_asks_for_its_key<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k")]).await;
    let id = only(harness).await.id;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let keys = [(SCOPE, &b"k"[..])];
    let answers = harness.store().parked(&mut tx, &held, &keys).await.unwrap();
    assert_eq!(answers, [Some(0)]);
    harness.store().give_up(&mut tx, &held, &[waiting(&event(2, "k"))]).await.unwrap();
    let settled = async {
        let mut tx = begin(harness, &direct()).await;
        let letter = harness.store().lock_letter(&mut tx, id).await.unwrap().unwrap();
        assert_eq!(letter.state, LetterState::Parked);
        tx
    };
    let mut tx = while_open(harness, tx, &writer, settled).await;
    let replayed = settlement(LetterAction::Replayed);
    harness.store().settle_letter(&mut tx, id, &replayed).await.unwrap();
    finish(harness, tx, &direct(), 0).await;
    assert_eq!(released(harness, &held).await, [2]);
}

pub async fn taking_a_lane_does_not_wait_for_a_batch_that_parks<H: Harness>(harness: &H) {
    if H::ONE_WRITER {
        return;
    }
    let former = with_parked(harness, &[event(1, "k")]).await;
    let writer = Writer::Lane(&former);
    let mut tx = begin(harness, &writer).await;
    let keys = [(SCOPE, &b"k"[..])];
    harness.store().parked(&mut tx, &former, &keys).await.unwrap();
    let (first, second, cause) = (event(2, "j"), event(3, "k"), cause());
    let new = [parked(&first, &cause), waiting(&second)];
    harness.store().give_up(&mut tx, &former, &new).await.unwrap();
    assert_eq!(take(harness, 0).await.parked, [(SCOPE.to_owned(), b"k".to_vec())]);
    assert_fenced(harness, tx, &former).await;
}
