//! Cases: lanes that are divided into slices.

use super::Harness;
use super::failures::*;
use super::slicing::*;
use super::support::*;
use crate::dead_letter::LetterAction;
use crate::lane::{Held, Position};
use crate::store::{NewLog, Reposition, Sealed, Store as _, Writer};

pub async fn new_slices_start_where_their_lane_is<H: Harness>(harness: &H) {
    let held = held(harness).await;
    batch(harness, &held, "e1", 9).await;
    let held = row(harness, &held).await.held();
    assert_eq!(cut(harness, &held, 3).await, [0, 0, 0]);
    for slice in slices::<H, 3>(harness, &held).await {
        assert_eq!(slice.position.offset, 9);
    }
    assert_eq!(slice(harness, &held, 3, 3).await, None);
    assert_eq!(slice(harness, &held, 0, 2).await, None);
    assert_eq!(row(harness, &held).await.held(), held, "the lane is as it was");
}

pub async fn cutting_into_the_same_number_keeps_the_slices<H: Harness>(harness: &H) {
    let (_, [_, one]) = divided(harness).await;
    assert_eq!(seal(harness, &one, 5).await, Sealed::Yes);
    let held = take(harness, 0).await.held();
    assert_eq!(cut(harness, &held, 2).await, [0, 1]);
    let [zero, one] = slices(harness, &held).await;
    assert_eq!((zero.position.offset, one.position.offset), (0, 5));
    assert_eq!(seal(harness, &one, 6).await, Sealed::Yes);
}

pub async fn cutting_into_another_number_begins_anew<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    for slice in [&zero, &one] {
        assert_eq!(seal(harness, slice, 5).await, Sealed::Yes);
    }
    batch(harness, &held, "e1", 4).await;
    let held = row(harness, &held).await.held();
    assert_eq!(cut(harness, &held, 3).await, [0, 0, 0]);
    for slice in slices::<H, 3>(harness, &held).await {
        assert_eq!(slice.position.offset, 4);
    }
    assert_eq!(slice(harness, &held, 0, 2).await, None);
    let late = Held { revision: 1, ..zero };
    assert_eq!(seal(harness, &late, 6).await, Sealed::No);

    assert_eq!(cut(harness, &held, 0).await, Vec::<i64>::new());
    assert_eq!(slice(harness, &held, 0, 3).await, None);
    batch(harness, &held, "e2", 5).await;
}

pub async fn a_former_owner_cuts_nothing<H: Harness>(harness: &H) {
    let (former, _) = divided::<H, 2>(harness).await;
    let held = take(harness, 0).await.held();
    for number in [0, 2, 3] {
        assert_eq!(harness.store().cut(&former, number).await.unwrap(), None);
    }
    slices::<H, 2>(harness, &held).await;
    let gone = Held { number: 1_000_000, ..held };
    assert_eq!(harness.store().cut(&gone, 2).await.unwrap(), None);
}

pub async fn a_look_adds_up_the_revisions_of_slices<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    let revision = async || {
        let seen = harness.store().observe(&owner("a"), &[held.number]).await.unwrap();
        assert_eq!((seen.len(), seen[0].token), (1, held.token));
        seen[0].revision
    };
    assert_eq!(revision().await, held.revision);
    assert_eq!(seal(harness, &zero, 3).await, Sealed::Yes);
    assert_eq!(revision().await, held.revision + 1);
    let zero = Held { revision: 1, ..zero };
    assert_eq!(seal(harness, &zero, 4).await, Sealed::Yes);
    assert_eq!(seal(harness, &one, 5).await, Sealed::Yes);
    assert_eq!(revision().await, held.revision + 3);
}

pub async fn a_slice_keeps_its_failures_with_its_lane<H: Harness>(harness: &H) {
    let (held, [_, one]) = divided(harness).await;
    for offset in [3, 4] {
        assert!(harness.store().note_attempt(&one, &attempt(SCOPE, offset)).await.unwrap());
    }
    let writer = Writer::Lane(&one);
    let mut tx = begin(harness, &writer).await;
    let (first, second, cause) = (event(3, "k"), event(5, "k"), cause());
    let new = [parked(&first, &cause), waiting(&second)];
    harness.store().give_up(&mut tx, &one, &new).await.unwrap();
    harness.store().forget_attempts(&mut tx, &one, &[3], true).await.unwrap();
    finish(harness, tx, &writer, 6).await;
    let one = slice(harness, &held, 1, 2).await.unwrap();
    assert_eq!(behind(harness, &one, "k").await, Some(1));
    settle(harness, at(harness, 3).await.id, &settlement(LetterAction::Replayed)).await;
    let next = harness.store().released(&one, 0, 10).await.unwrap();
    assert_eq!(offsets(&next), [5]);
    let writer = Writer::Lane(&one);
    let mut tx = begin(harness, &writer).await;
    harness.store().unpark(&mut tx, &one, &ids(&next)).await.unwrap();
    finish(harness, tx, &writer, 7).await;
    assert_eq!(behind(harness, &held, "k").await, None);
    let row = take(harness, 0).await;
    assert_eq!((row.parked, row.attempts), (vec![], vec![attempt(SCOPE, 4)]));
    assert!(!harness.store().note_attempt(&one, &attempt(SCOPE, 8)).await.unwrap());
}

async fn reposition<H: Harness>(harness: &H, held: &Held, new_log: bool, slices: &[i64]) -> bool {
    let identity = log(if new_log { "new log" } else { "log" });
    let to = Reposition {
        position: Position::at(2),
        identity: &identity,
        new_log: new_log.then_some(NewLog::Another),
        slices,
    };
    harness.store().reposition(held, &to).await.unwrap()
}

pub async fn a_lane_is_not_moved_when_its_slices_went_back<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    assert_eq!(seal(harness, &zero, 3).await, Sealed::Yes);
    assert_eq!(seal(harness, &one, 4).await, Sealed::Yes);
    assert!(!reposition(harness, &held, false, &[1, 2]).await, "somebody saw another commit");
    assert!(!reposition(harness, &held, true, &[2, 0]).await, "what one lost another has not done");
    assert!(!reposition(harness, &held, false, &[1, 1, 0]).await, "there is no third slice");
    assert_eq!(row(harness, &held).await.held(), held);
    assert!(reposition(harness, &held, false, &[1, 1]).await);
    let held = row(harness, &held).await.held();
    assert!(reposition(harness, &held, false, &[0, 1]).await);
    let held = row(harness, &held).await.held();
    assert_eq!(held.position.offset, 2);
    assert_eq!(cut(harness, &held, 2).await, [1, 1], "the slices are where they were");
}

pub async fn a_new_log_has_neither_slices_nor_attempts<H: Harness>(harness: &H) {
    let (held, [zero, _]) = divided(harness).await;
    assert_eq!(seal(harness, &zero, 3).await, Sealed::Yes);
    assert!(harness.store().note_attempt(&held, &attempt(SCOPE, 4)).await.unwrap());
    assert!(reposition(harness, &held, false, &[1, 0]).await);
    let row = take(harness, 0).await;
    assert_eq!(row.attempts, [attempt(SCOPE, 4)]);
    assert!(slice(harness, &row.held(), 0, 2).await.is_some());

    assert!(reposition(harness, &row.held(), true, &[1, 0]).await);
    let row = take(harness, 0).await;
    assert_eq!(row.attempts, []);
    assert_eq!(slice(harness, &row.held(), 0, 2).await, None);
    assert_eq!(cut(harness, &row.held(), 2).await, [0, 0]);
    let zero = slice(harness, &row.held(), 0, 2).await.unwrap();
    assert_eq!(zero.position.offset, 2);
}
