//! Cases: seals of slices, alone and against each other and the lane.

use super::Harness;
use super::slicing::*;
use super::support::*;
use crate::lane::{Held, Position};
use crate::store::{Claimed, Seal, Sealed, Store as _, Writer};

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

pub async fn a_slice_of_a_lane_that_is_gone_is_neither_read_nor_sealed<H: Harness>(harness: &H) {
    let (_, [zero, _]) = divided(harness).await;
    let gone = Held { number: 1_000_000, ..zero };
    assert_eq!(harness.store().read(&gone).await.unwrap(), None);
    assert_eq!(seal(harness, &gone, 5).await, Sealed::No);
}
