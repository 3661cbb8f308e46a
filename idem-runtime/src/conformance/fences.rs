//! Cases: the token, the revision and the seal.

use super::Harness;
use super::support::*;
use crate::lane::{Held, Position};
use crate::store::{Claimed, Seal, Sealed, Store as _, Writer};

/// Tries to write a batch without claims; says what the seal answered and rolls back.
async fn try_seal<H: Harness>(harness: &H, held: &Held) -> Sealed {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    write::<H>(&mut tx, "late").await;
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(99))).await.unwrap();
    harness.store().rollback(tx).await;
    sealed
}

pub async fn a_claim_with_another_token_is_fenced_and_inserts_nothing<H: Harness>(harness: &H) {
    let former = held(harness).await;
    take(harness, 0).await;
    let writer = Writer::Lane(&former);
    let mut tx = begin(harness, &writer).await;
    let claimed = claim(harness, &mut tx, &writer, &["e1", "e2"]).await.unwrap();
    assert_eq!(claimed, Claimed::Fenced);
    harness.store().rollback(tx).await;

    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let claimed = claim(harness, &mut tx, &writer, &["e1", "e2"]).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true, true]));
    harness.store().rollback(tx).await;
}

pub async fn a_claim_for_a_lane_that_is_gone_is_fenced<H: Harness>(harness: &H) {
    let gone = Held { number: 1_000_000, ..held(harness).await };
    let writer = Writer::Lane(&gone);
    let mut tx = begin(harness, &writer).await;
    assert_eq!(claim(harness, &mut tx, &writer, &["e1"]).await.unwrap(), Claimed::Fenced);
    harness.store().rollback(tx).await;
    assert!(!is_marked(harness, "e1").await);
}

pub async fn a_seal_moves_position_and_revision<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    let position = Position { offset: 7, leader_epoch: Some(3) };
    let seal = Seal { position, offset_scopes: &[] };
    let sealed = harness.store().seal(&mut tx, &writer, Some(&seal)).await.unwrap();
    assert_eq!(sealed, Sealed::Yes);
    harness.store().commit(tx).await.unwrap();
    let after = row(harness, &held).await;
    assert_eq!(after.position, position);
    assert_eq!(after.revision, held.revision + 1);
    assert_eq!(after.token, held.token);
}

pub async fn a_seal_with_an_old_revision_answers_no<H: Harness>(harness: &H) {
    let held = held(harness).await;
    batch(harness, &held, "e1", 1).await;
    assert_eq!(try_seal(harness, &held).await, Sealed::No);
    let newer = Held { revision: held.revision + 2, ..held.clone() };
    assert_eq!(try_seal(harness, &newer).await, Sealed::No);
    assert_eq!(row(harness, &held).await.position.offset, 1);
    assert_eq!(effects(harness).await, ["e1"]);
}

pub async fn a_seal_with_an_old_token_answers_no<H: Harness>(harness: &H) {
    let former = held(harness).await;
    let now = take(harness, 0).await;
    let former = Held { revision: now.revision, ..former };
    assert_eq!(try_seal(harness, &former).await, Sealed::No);
    assert_eq!(row(harness, &former).await, now);
    assert!(effects(harness).await.is_empty());
}

pub async fn a_seal_for_a_lane_that_is_gone_answers_no<H: Harness>(harness: &H) {
    let gone = Held { number: 1_000_000, ..held(harness).await };
    assert_eq!(try_seal(harness, &gone).await, Sealed::No);
    assert_eq!(harness.store().read(&gone).await.unwrap(), None);
}

pub async fn of_two_batches_with_one_revision_one_is_sealed<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let batch = async |key: &str, offset: i64| {
        let writer = Writer::Lane(&held);
        let mut tx = begin(harness, &writer).await;
        assert!(is_new(harness, &mut tx, &writer, key).await);
        write::<H>(&mut tx, key).await;
        let sealed = harness.store().seal(&mut tx, &writer, Some(&to(offset))).await.unwrap();
        if sealed == Sealed::Yes {
            harness.store().commit(tx).await.unwrap();
        } else {
            harness.store().rollback(tx).await;
        }
        sealed
    };
    let (a, b) = tokio::join!(batch("e1", 1), batch("e2", 2));
    let (key, offset) = match (a, b) {
        (Sealed::Yes, Sealed::No) => ("e1", 1),
        (Sealed::No, Sealed::Yes) => ("e2", 2),
        other => panic!("exactly one is sealed, not {other:?}"),
    };
    assert_eq!(effects(harness).await, [key]);
    assert_eq!(row(harness, &held).await.position.offset, offset);
}

pub async fn a_seal_that_is_rolled_back_leaves_the_lane_as_it_was<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let before = row(harness, &held).await;
    assert_eq!(try_seal(harness, &held).await, Sealed::Yes);
    assert_eq!(row(harness, &held).await, before);
    batch(harness, &held, "e1", 1).await;
}

pub async fn taking_a_lane_fences_its_former_owner<H: Harness>(harness: &H) {
    let former = held(harness).await;
    batch(harness, &former, "e1", 5).await;
    let now = take(harness, 0).await;
    assert_ne!(now.token, former.token);
    assert!(!now.token.is_nil());
    assert_eq!(now.position.offset, 5);
    assert!(now.revision > former.revision, "a revision never goes back");
    assert_eq!(try_seal(harness, &former).await, Sealed::No);
    batch(harness, &now.held(), "e2", 6).await;
}

pub async fn taking_a_lane_does_not_wait_for_an_unsealed_batch<H: Harness>(harness: &H) {
    if H::ONE_WRITER {
        return;
    }
    let former = held(harness).await;
    let writer = Writer::Lane(&former);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    write::<H>(&mut tx, "late").await;

    let now = take(harness, 0).await;
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(1))).await.unwrap();
    assert_eq!(sealed, Sealed::No);
    harness.store().rollback(tx).await;
    assert_untouched(harness, "e1").await;
    batch(harness, &now.held(), "e1", 1).await;
}

pub async fn taking_a_lane_reads_the_position_of_the_batch_it_waited_for<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(8))).await.unwrap();
    assert_eq!(sealed, Sealed::Yes);
    let commit = async {
        for _ in 0..5 {
            row(harness, &held).await;
        }
        harness.store().commit(tx).await.unwrap();
    };
    let (now, ()) = tokio::join!(take(harness, 0), commit);
    assert_eq!(now.position.offset, 8);
    assert_eq!(row(harness, &held).await, now);
    batch(harness, &now.held(), "e2", 9).await;
}

pub async fn two_who_take_a_lane_together_get_two_tokens<H: Harness>(harness: &H) {
    held(harness).await;
    let (a, b) = tokio::join!(take(harness, 0), take(harness, 0));
    assert_ne!(a.token, b.token);
    let now = row(harness, &a.held()).await;
    assert!(now.token == a.token || now.token == b.token);
}
