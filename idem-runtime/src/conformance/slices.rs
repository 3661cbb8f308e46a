//! Cases: lanes that are divided into slices.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::LetterAction;
use crate::lane::{Held, Position, Slice};
use crate::store::{Claimed, Reposition, Seal, Sealed, Store as _, Writer};

async fn cut<H: Harness>(harness: &H, held: &Held, slices: u16) -> Vec<i64> {
    harness.store().cut(held, slices).await.unwrap().unwrap()
}

/// A slice of a held lane as the database has it.
async fn slice<H: Harness>(harness: &H, held: &Held, index: u16, of: u16) -> Option<Held> {
    let held = Held { slice: Some(Slice { index, of }), ..held.clone() };
    let row = harness.store().read(&held).await.unwrap()?;
    assert_eq!((row.number, row.token), (held.number, held.token));
    Some(Held { position: row.position, revision: row.revision, ..held })
}

async fn slices<H: Harness, const N: usize>(harness: &H, held: &Held) -> [Held; N] {
    let mut slices = Vec::new();
    for index in 0..N {
        let (index, of) = (u16::try_from(index).unwrap(), u16::try_from(N).unwrap());
        slices.push(slice(harness, held, index, of).await.unwrap());
    }
    slices.try_into().unwrap()
}

/// Opens partition 0 at offset 0, takes it and divides it.
async fn divided<H: Harness, const N: usize>(harness: &H) -> (Held, [Held; N]) {
    let held = held(harness).await;
    let revisions = cut(harness, &held, u16::try_from(N).unwrap()).await;
    assert_eq!(revisions, [0; N]);
    let slices = slices(harness, &held).await;
    (held, slices)
}

/// Seals an empty batch of a slice; says what the seal answered, and commits if it can.
async fn seal<H: Harness>(harness: &H, held: &Held, offset: i64) -> Sealed {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(offset))).await.unwrap();
    match sealed {
        Sealed::Yes => harness.store().commit(tx).await.unwrap(),
        Sealed::No => drop(harness.store().rollback(tx).await),
    }
    sealed
}

/// A batch of a slice that is sealed and not committed.
async fn sealed<H: Harness>(harness: &H, held: &Held, offset: i64) -> TxOf<H> {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(offset))).await.unwrap();
    assert_eq!(sealed, Sealed::Yes);
    tx
}

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

pub async fn a_seal_moves_one_slice_and_not_its_lane<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    let writer = Writer::Lane(&one);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    write::<H>(&mut tx, "e1").await;
    let position = Position { offset: 7, leader_epoch: Some(3) };
    let seal = Seal { position, offset_scopes: &[] };
    let sealed = harness.store().seal(&mut tx, &writer, Some(&seal)).await.unwrap();
    assert_eq!(sealed, Sealed::Yes);
    assert_eq!(slices(harness, &held).await, [zero.clone(), one.clone()], "before the commit");
    harness.store().commit(tx).await.unwrap();

    let moved = Held { position, revision: 1, ..one.clone() };
    assert_eq!(slices(harness, &held).await, [zero, moved.clone()]);
    assert_eq!(row(harness, &held).await.held(), held);
    assert_eq!(effects(harness).await, ["e1"]);
    batch(harness, &moved, "e2", 8).await;
}

pub async fn a_slice_that_is_rolled_back_is_as_it_was<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    let writer = Writer::Lane(&one);
    let mut tx = begin(harness, &writer).await;
    harness.store().seal(&mut tx, &writer, Some(&to(7))).await.unwrap();
    harness.store().rollback(tx).await;
    assert_eq!(slices(harness, &held).await, [zero, one]);
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

pub async fn a_slice_of_a_lane_that_was_taken_is_fenced<H: Harness>(harness: &H) {
    let (_, [zero, one]) = divided(harness).await;
    let held = take(harness, 0).await.held();
    assert_eq!(seal(harness, &zero, 5).await, Sealed::No);
    let writer = Writer::Lane(&one);
    let mut tx = begin(harness, &writer).await;
    assert_eq!(claim(harness, &mut tx, &writer, &["e1"]).await.unwrap(), Claimed::Fenced);
    harness.store().rollback(tx).await;
    let [zero, one] = slices(harness, &held).await;
    assert_eq!((zero.revision, one.revision), (0, 0));
    assert_eq!(seal(harness, &one, 5).await, Sealed::Yes);
}

pub async fn a_slice_with_another_revision_is_not_sealed<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    assert_eq!(seal(harness, &zero, 5).await, Sealed::Yes);
    assert_eq!(seal(harness, &zero, 6).await, Sealed::No);
    let newer = Held { revision: 7, ..one };
    assert_eq!(seal(harness, &newer, 6).await, Sealed::No);
    let [zero, one] = slices(harness, &held).await;
    assert_eq!((zero.position.offset, one.position.offset), (5, 0));
}

pub async fn of_two_batches_of_a_slice_one_is_sealed<H: Harness>(harness: &H) {
    let (held, [zero, _]) = divided(harness).await;
    let tx = sealed(harness, &zero, 1).await;
    let commit = async {
        for _ in 0..5 {
            row(harness, &zero).await;
        }
        harness.store().commit(tx).await.unwrap();
    };
    let (second, ()) = tokio::join!(seal(harness, &zero, 2), commit);
    assert_eq!(second, Sealed::No);
    assert_eq!(slice(harness, &held, 0, 2).await.unwrap().position.offset, 1);
}

pub async fn two_slices_of_a_lane_do_not_wait_for_each_other<H: Harness>(harness: &H) {
    if H::ONE_WRITER {
        return;
    }
    let (held, [zero, one]) = divided(harness).await;
    let writers = [Writer::Lane(&zero), Writer::Lane(&one)];
    let mut a = begin(harness, &writers[0]).await;
    let mut b = begin(harness, &writers[1]).await;
    assert!(is_new(harness, &mut a, &writers[0], "e1").await);
    assert!(is_new(harness, &mut b, &writers[1], "e2").await);
    for (tx, writer, slice) in [(&mut a, &writers[0], &zero), (&mut b, &writers[1], &one)] {
        // The lane is calm already: there is nothing to change.
        harness.store().forget_attempts(tx, slice, &[1], true).await.unwrap();
        let sealed = harness.store().seal(tx, writer, Some(&to(3))).await.unwrap();
        assert_eq!(sealed, Sealed::Yes);
    }
    harness.store().commit(b).await.unwrap();
    harness.store().commit(a).await.unwrap();
    let [zero, one] = slices(harness, &held).await;
    assert_eq!((zero.revision, one.revision), (1, 1));
}

pub async fn taking_a_lane_waits_for_the_slices_that_are_sealed<H: Harness>(harness: &H) {
    let (_, [zero, one]) = divided(harness).await;
    let tx = sealed(harness, &zero, 8).await;
    let commit = async {
        for _ in 0..5 {
            row(harness, &zero).await;
        }
        harness.store().commit(tx).await.unwrap();
    };
    let next = async {
        let held = take(harness, 0).await.held();
        let slice = slice(harness, &held, 0, 2).await.unwrap();
        assert_eq!((slice.position.offset, slice.revision), (8, 1));
        held
    };
    let (held, ()) = tokio::join!(next, commit);
    assert_eq!(cut(harness, &held, 2).await, [1, 0]);
    assert_eq!(seal(harness, &one, 8).await, Sealed::No);
}

pub async fn cutting_a_lane_waits_for_the_slices_that_are_sealed<H: Harness>(harness: &H) {
    let (held, [zero, _]) = divided(harness).await;
    let tx = sealed(harness, &zero, 8).await;
    let commit = async {
        for _ in 0..5 {
            row(harness, &zero).await;
        }
        harness.store().commit(tx).await.unwrap();
    };
    let (revisions, ()) = tokio::join!(cut(harness, &held, 2), commit);
    assert_eq!(revisions, [1, 0]);
}

pub async fn taking_a_lane_does_not_wait_for_slices_that_are_not_sealed<H: Harness>(harness: &H) {
    if H::ONE_WRITER {
        return;
    }
    let (_, [zero, one]) = divided(harness).await;
    let writers = [Writer::Lane(&zero), Writer::Lane(&one)];
    let mut a = begin(harness, &writers[0]).await;
    let mut b = begin(harness, &writers[1]).await;
    assert!(is_new(harness, &mut a, &writers[0], "e1").await);
    assert!(is_new(harness, &mut b, &writers[1], "e2").await);
    take(harness, 0).await;
    for (mut tx, writer) in [(a, &writers[0]), (b, &writers[1])] {
        let sealed = harness.store().seal(&mut tx, writer, Some(&to(3))).await.unwrap();
        assert_eq!(sealed, Sealed::No);
        harness.store().rollback(tx).await;
    }
    assert_untouched(harness, "e1").await;
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

pub async fn a_lane_is_not_moved_when_its_slices_have_lost_something<H: Harness>(harness: &H) {
    let (held, [zero]) = divided(harness).await;
    assert_eq!(seal(harness, &zero, 3).await, Sealed::Yes);
    let identity = log("log");
    let to = |slices| Reposition {
        position: Position::at(3),
        identity: &identity,
        new_log: false,
        slices,
    };
    assert!(!harness.store().reposition(&held, &to(2)).await.unwrap());
    assert_eq!(row(harness, &held).await.held(), held, "the lane is as it was");
    assert!(harness.store().reposition(&held, &to(1)).await.unwrap());
    assert_eq!(row(harness, &held).await.position.offset, 3);
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

pub async fn a_slice_of_a_lane_that_is_gone_is_neither_read_nor_sealed<H: Harness>(harness: &H) {
    let (_, [zero, _]) = divided(harness).await;
    let gone = Held { number: 1_000_000, ..zero };
    assert_eq!(harness.store().read(&gone).await.unwrap(), None);
    assert_eq!(seal(harness, &gone, 5).await, Sealed::No);
}
