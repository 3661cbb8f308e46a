//! Cases: events that waited are worked.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{LetterAction, LetterState};
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
    open(harness, &[1]).await;
    let other = take(harness, 1).await.held();
    assert_eq!(released(harness, &other).await, NONE, "they are another lane's");
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
    let from = harness.store().released(&held, 6, 100).await.unwrap();
    assert_eq!(offsets(&from), [6, 7, 9]);
    let first = harness.store().released(&held, 0, 2).await.unwrap();
    assert_eq!(offsets(&first), [5, 6]);
    assert_eq!(first[0].event.payload.as_deref(), Some(&b"payload 5"[..]));
    let none = harness.store().released(&held, 0, 0).await.unwrap();
    assert_eq!(offsets(&none), NONE);
}

pub async fn an_event_that_is_worked_no_longer_waits<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let next = harness.store().released(&held, 0, 1).await.unwrap();
    let held = unpark(harness, &held, &ids(&next)).await;
    assert_eq!(at(harness, 2).await.state, LetterState::Replayed);
    assert_eq!(released(harness, &held).await, [3]);
    assert_eq!(behind(harness, &held, "k").await, Some(1));

    let next = harness.store().released(&held, 0, 1).await.unwrap();
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
    let all = harness.store().released(&held, 0, 100).await.unwrap();
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

pub async fn a_released_event_that_is_dropped_is_not_worked<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    settle_at(harness, 3, LetterAction::Dropped).await;
    assert_eq!(released(harness, &held).await, [2]);
    settle_at(harness, 2, LetterAction::Dropped).await;
    assert_eq!(released(harness, &held).await, NONE);
    assert_eq!(behind(harness, &held, "k").await, None);
}

pub async fn a_key_is_parked_again_before_all_behind_it_were_worked<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let held = give_up(harness, &held, &[parked(&event(9, "k"), &cause())]).await;
    assert_eq!(released(harness, &held).await, NONE);
    assert_eq!(behind(harness, &held, "k").await, Some(2));
    settle_at(harness, 9, LetterAction::Dropped).await;
    assert_eq!(released(harness, &held).await, [2, 3]);
}

pub async fn who_drops_an_event_waits_for_who_works_it<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let id = at(harness, 2).await.id;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    harness.store().unpark(&mut tx, &held, &[id]).await.unwrap();
    let second = async {
        let mut tx = begin(harness, &direct()).await;
        let letter = harness.store().lock_letter(&mut tx, id).await.unwrap().unwrap();
        assert_eq!(letter.state, LetterState::Replayed);
        tx
    };
    let second = while_open(harness, tx, &writer, second).await;
    harness.store().rollback(second).await;
    assert_eq!(released(harness, &held).await, [3]);
}

pub async fn an_event_that_was_dropped_meanwhile_is_not_worked<H: Harness>(harness: &H) {
    let held = two_behind(harness).await;
    settle_at(harness, 1, LetterAction::Replayed).await;
    let id = at(harness, 2).await.id;
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    harness.store().lock_letter(&mut tx, id).await.unwrap().unwrap();
    let dropped = settlement(LetterAction::Dropped);
    harness.store().settle_letter(&mut tx, id, &dropped).await.unwrap();
    let second = async {
        let mut tx = begin(harness, &Writer::Lane(&held)).await;
        harness.store().unpark(&mut tx, &held, &[id]).await.unwrap();
        tx
    };
    let second = while_open(harness, tx, &writer, second).await;
    finish(harness, second, &Writer::Lane(&held), 99).await;
    assert_eq!(at(harness, 2).await.state, LetterState::Dropped);
    assert_eq!(behind(harness, &held, "k").await, Some(1), "it is counted once");
}
