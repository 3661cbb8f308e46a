//! Cases: message keys behind which events wait.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{LetterAction, LetterState, NewLetter};
use crate::lane::Held;
use crate::store::{Store as _, Writer};

/// Works these letters in a batch of their own.
async fn unpark<H: Harness>(harness: &H, held: &Held, letters: &[i64]) -> Held {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    harness.store().unpark(&mut tx, held, letters).await.unwrap();
    finish(harness, tx, &writer, held.position.offset + 1).await;
    row(harness, held).await.held()
}

/// One parked event with message key `k` at offset 1, and those at offsets 2 and 3 behind it.
async fn two_behind<H: Harness>(harness: &H) -> Held {
    let held = with_parked(harness, &[event(1, "k")]).await;
    give_up(harness, &held, &[waiting(&event(2, "k")), waiting(&event(3, "k"))]).await
}

async fn settle_at<H: Harness>(harness: &H, offset: i64, action: LetterAction) {
    let id = at(harness, offset).await.id;
    settle(harness, id, &settlement(action)).await;
}

/// What the next owner is told is parked.
async fn told<H: Harness>(harness: &H) -> Vec<(String, Vec<u8>)> {
    let mut parked = take(harness, 0).await.parked;
    parked.sort();
    parked
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

pub async fn settling_a_parked_event_releases_those_behind_it<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "a"), event(2, "b"), event(3, "c")]).await;
    let behind_them = [("a", 4), ("b", 5), ("c", 6), ("a", 7)].map(|(key, at)| event(at, key));
    let held = give_up(harness, &held, &behind_them.each_ref().map(waiting)).await;
    assert_eq!(released(harness, &held).await, NONE);
    settle_at(harness, 2, LetterAction::Superseded).await;
    assert_eq!(released(harness, &held).await, [5]);
    settle_at(harness, 1, LetterAction::Replayed).await;
    assert_eq!(released(harness, &held).await, [4, 5, 7]);
    settle_at(harness, 3, LetterAction::Dropped).await;
    assert_eq!(released(harness, &held).await, [4, 5, 6, 7]);
    // They come before whatever arrives now.
    assert_eq!(behind(harness, &held, "a").await, Some(2));
}

pub async fn what_settles_nothing_releases_nothing<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::ReplayFailed).await;
    settle_at(harness, 1, LetterAction::Edited).await;
    assert_eq!(released(harness, &held).await, NONE);
    assert_eq!(behind(harness, &held, "k").await, Some(2));
}

pub async fn a_key_with_nothing_behind_it_is_forgotten_when_it_is_released<H: Harness>(
    harness: &H,
) {
    let held = with_parked(harness, &[event(1, "k")]).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    assert_eq!(behind(harness, &held, "k").await, None);
    assert_eq!(released(harness, &held).await, NONE);
    assert_eq!(told(harness).await, []);
}

pub async fn released_events_come_in_the_order_of_their_offsets<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k"), event(2, "j"), event(3, "i")]).await;
    // Written out of order, as after a rewind.
    let mut held = held;
    for (offset, key) in [(9, "k"), (5, "j"), (7, "k"), (6, "j"), (8, "i")] {
        held = give_up(harness, &held, &[waiting(&event(offset, key))]).await;
    }
    settle_at(harness, 1, LetterAction::Replayed).await;
    settle_at(harness, 2, LetterAction::Dropped).await;
    assert_eq!(released(harness, &held).await, [5, 6, 7, 9]);
    let first = harness.store().released(&held, 2).await.unwrap();
    assert_eq!(offsets(&first), [5, 6]);
    assert_eq!(first[0].event.payload.as_deref(), Some(&b"payload 5"[..]));
    let none = harness.store().released(&held, 0).await.unwrap();
    assert_eq!(offsets(&none), NONE);
}

pub async fn an_event_that_is_worked_no_longer_waits<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let next = harness.store().released(&held, 1).await.unwrap();
    let held = unpark(harness, &held, &ids(&next)).await;
    assert_eq!(at(harness, 2).await.state, LetterState::Replayed);
    assert_eq!(released(harness, &held).await, [3]);
    assert_eq!(behind(harness, &held, "k").await, Some(1));

    let next = harness.store().released(&held, 1).await.unwrap();
    let held = unpark(harness, &held, &ids(&next)).await;
    assert_eq!(released(harness, &held).await, NONE);
    assert_eq!(behind(harness, &held, "k").await, None);
    assert_eq!(told(harness).await, []);
}

pub async fn all_that_waits_can_be_worked_at_once<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    let held = give_up(harness, &held, &[parked(&event(4, "j"), &cause())]).await;
    let held = give_up(harness, &held, &[waiting(&event(5, "j"))]).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    settle_at(harness, 4, LetterAction::Replayed).await;
    let all = harness.store().released(&held, 100).await.unwrap();
    assert_eq!(offsets(&all), [2, 3, 5]);
    unpark(harness, &held, &ids(&all)).await;
    assert_eq!(told(harness).await, []);
}

pub async fn only_waiting_events_of_this_lane_are_worked<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    let held = give_up(harness, &held, &[dead(&event(9, "k"), &cause())]).await;
    open(harness, &[1]).await;
    let other = take(harness, 1).await.held();
    let all = ids(&letters(harness).await);
    unpark(harness, &other, &all).await;
    let held = unpark(harness, &held, &[]).await;
    let held = unpark(harness, &held, &[all[0], all[3], 1_000_000]).await;
    let (parked, dead, wait) = (LetterState::Parked, LetterState::Dead, LetterState::Waiting);
    assert_eq!(states(harness).await, [(1, parked), (2, wait), (3, wait), (9, dead)]);
    assert_eq!(behind(harness, &held, "k").await, Some(2));
}

pub async fn working_an_event_twice_counts_once<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let id = at(harness, 2).await.id;
    let held = unpark(harness, &held, &[id]).await;
    let held = unpark(harness, &held, &[id]).await;
    assert_eq!(behind(harness, &held, "k").await, Some(1));
    assert_eq!(released(harness, &held).await, [3]);
}

pub async fn what_is_worked_in_vain_still_waits<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let id = at(harness, 2).await.id;
    let mut tx = begin(harness, &Writer::Lane(&held)).await;
    harness.store().unpark(&mut tx, &held, &[id]).await.unwrap();
    harness.store().rollback(tx).await;
    assert_eq!(released(harness, &held).await, [2, 3]);

    let former = held;
    let held = take(harness, 0).await.held();
    let mut tx = begin(harness, &Writer::Lane(&former)).await;
    harness.store().unpark(&mut tx, &former, &[id]).await.unwrap();
    assert_fenced(harness, tx, &former).await;
    assert_eq!(released(harness, &held).await, [2, 3]);
    assert_eq!(behind(harness, &held, "k").await, Some(2));
}

pub async fn a_released_event_that_fails_holds_the_rest_up_again<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let cause = cause();
    let held = give_up(harness, &held, &[parked(&event(2, "k"), &cause)]).await;
    let letter = at(harness, 2).await;
    assert_eq!((letter.state, letter.cause.as_ref()), (LetterState::Parked, Some(&cause)));
    assert_eq!(letter.fingerprint, cause.fingerprint(SCOPE));
    assert_eq!(released(harness, &held).await, NONE);
    assert_eq!(behind(harness, &held, "k").await, Some(1));
    settle_at(harness, 2, LetterAction::Dropped).await;
    assert_eq!(released(harness, &held).await, [3]);
}

pub async fn the_last_event_behind_a_key_can_fail_as_well<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k")]).await;
    let held = give_up(harness, &held, &[waiting(&event(2, "k"))]).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let held = give_up(harness, &held, &[parked(&event(2, "k"), &cause())]).await;
    assert_eq!(behind(harness, &held, "k").await, Some(0));
    settle_at(harness, 2, LetterAction::Replayed).await;
    assert_eq!(behind(harness, &held, "k").await, None);
    assert_eq!(letters(harness).await.len(), 2);
}

pub async fn an_event_that_waits_and_dies_no_longer_waits<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let held = give_up(harness, &held, &[dead(&event(2, "k"), &cause())]).await;
    assert_eq!(at(harness, 2).await.state, LetterState::Dead);
    assert_eq!(released(harness, &held).await, [3]);
    assert_eq!(behind(harness, &held, "k").await, Some(1));
}

pub async fn a_waiting_event_that_is_dropped_no_longer_waits<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 2, LetterAction::Dropped).await;
    assert_eq!(behind(harness, &held, "k").await, Some(1));
    settle_at(harness, 3, LetterAction::Dropped).await;
    assert_eq!(behind(harness, &held, "k").await, Some(0), "the first one is still parked");
    settle_at(harness, 1, LetterAction::Replayed).await;
    assert_eq!(behind(harness, &held, "k").await, None);
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
