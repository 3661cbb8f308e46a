//! Cases: which dead letters are still to be forwarded.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::LetterAction;
use crate::store::{Store as _, Writer};

async fn unforwarded<H: Harness>(harness: &H, lanes: &[i64], limit: u32) -> Vec<i64> {
    offsets(&harness.store().unforwarded(lanes, limit).await.unwrap())
}

pub async fn dead_and_parked_letters_are_forwarded_oldest_first<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(5, "k")]).await;
    let cause = cause();
    let held = give_up(harness, &held, &[dead(&event(3, "j"), &cause)]).await;
    let held = give_up(harness, &held, &[waiting(&event(6, "k"))]).await;
    let held = give_up(harness, &held, &[dead(&event(4, "j"), &cause)]).await;
    let lanes = [held.number];
    assert_eq!(unforwarded(harness, &lanes, 100).await, [5, 3, 4]);
    assert_eq!(unforwarded(harness, &lanes, 2).await, [5, 3]);
    assert_eq!(unforwarded(harness, &lanes, 0).await, NONE);
    let letter = harness.store().unforwarded(&lanes, 1).await.unwrap().remove(0);
    assert_eq!(letter.event.payload.as_deref(), Some(&b"payload 5"[..]));
    assert_eq!(letter.cause, Some(cause));
}

pub async fn what_was_forwarded_is_not_forwarded_again<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "a"), event(2, "b"), event(3, "c")]).await;
    let lanes = [held.number];
    let first = harness.store().unforwarded(&lanes, 2).await.unwrap();
    harness.store().forwarded(&[]).await.unwrap();
    harness.store().forwarded(&[1_000_000]).await.unwrap();
    assert_eq!(unforwarded(harness, &lanes, 100).await, [1, 2, 3]);
    for _ in 0..2 {
        harness.store().forwarded(&ids(&first)).await.unwrap();
        assert_eq!(unforwarded(harness, &lanes, 100).await, [3]);
    }
    assert_eq!(letters(harness).await.len(), 3);
}

pub async fn letters_of_other_lanes_are_not_forwarded<H: Harness>(harness: &H) {
    let zero = with_parked(harness, &[event(1, "a")]).await;
    open(harness, &[1]).await;
    let one = take(harness, 1).await.held();
    let mut event = event(2, "b");
    event.partition = 1;
    let cause = cause();
    let writer = Writer::Lane(&one);
    let mut tx = begin(harness, &writer).await;
    harness.store().give_up(&mut tx, &one, &[dead(&event, &cause)]).await.unwrap();
    finish(harness, tx, &writer, 3).await;
    assert_eq!(unforwarded(harness, &[zero.number], 100).await, [1]);
    assert_eq!(unforwarded(harness, &[one.number], 100).await, [2]);
    assert_eq!(unforwarded(harness, &[one.number, 1_000_000, zero.number], 100).await, [1, 2]);
    assert_eq!(unforwarded(harness, &[], 100).await, NONE);
}

pub async fn settled_letters_are_not_forwarded<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "a"), event(2, "b"), event(3, "c")]).await;
    let actions = [LetterAction::Replayed, LetterAction::Dropped, LetterAction::ReplayFailed];
    for (letter, action) in letters(harness).await.iter().zip(actions) {
        settle(harness, letter.id, &settlement(action)).await;
    }
    assert_eq!(unforwarded(harness, &[held.number], 100).await, [3]);
}

pub async fn an_event_that_waited_is_forwarded_when_it_is_given_up<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k")]).await;
    let held = give_up(harness, &held, &[waiting(&event(2, "k"))]).await;
    settle(harness, at(harness, 1).await.id, &settlement(LetterAction::Replayed)).await;
    assert_eq!(unforwarded(harness, &[held.number], 100).await, NONE);
    let held = give_up(harness, &held, &[parked(&event(2, "k"), &cause())]).await;
    assert_eq!(unforwarded(harness, &[held.number], 100).await, [2]);
}
