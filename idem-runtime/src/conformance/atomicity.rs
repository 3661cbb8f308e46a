//! Cases: marker and effects are kept together, or neither is.

use std::time::Duration;

use super::Harness;
use super::support::*;
use crate::policy::IsolationLevel;
use crate::store::{Store as _, Terms, Writer};

pub async fn a_commit_keeps_marker_and_effects_together<H: Harness>(harness: &H) {
    let held = held(harness).await;
    for (writer, text) in [(Writer::Lane(&held), "e1"), (direct(), "e2")] {
        let mut tx = begin(harness, &writer).await;
        assert!(is_new(harness, &mut tx, &writer, text).await);
        write::<H>(&mut tx, text).await;
        finish(harness, tx, &writer, 1).await;
        assert!(is_marked(harness, text).await);
    }
    assert_eq!(effects(harness).await, ["e1", "e2"]);
}

pub async fn nothing_is_seen_before_the_commit<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let before = row(harness, &held).await;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    write::<H>(&mut tx, "e1").await;
    assert_untouched(harness, "e1").await;
    harness.store().seal(&mut tx, &writer, Some(&to(1))).await.unwrap();
    assert_untouched(harness, "e1").await;
    assert_eq!(row(harness, &held).await, before);
    harness.store().commit(tx).await.unwrap();
    assert!(is_marked(harness, "e1").await);
    assert_eq!(effects(harness).await, ["e1"]);
}

pub async fn a_rollback_keeps_nothing<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let before = row(harness, &held).await;
    for writer in [Writer::Lane(&held), direct()] {
        let mut tx = begin(harness, &writer).await;
        assert!(is_new(harness, &mut tx, &writer, "e1").await);
        write::<H>(&mut tx, "e1").await;
        harness.store().rollback(tx).await;
        assert_untouched(harness, "e1").await;
    }
    assert_eq!(row(harness, &held).await, before);
    batch(harness, &held, "e1", 1).await;
}

pub async fn a_dropped_transaction_keeps_nothing_and_frees_its_keys<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let writer = Writer::Lane(&held);
    // More than a pool has connections: none of them may be lost with its transaction.
    for _ in 0..20 {
        let mut tx = begin(harness, &writer).await;
        assert!(is_new(harness, &mut tx, &writer, "e1").await);
        write::<H>(&mut tx, "e1").await;
        drop(tx);
    }
    let mut tx = begin(harness, &writer).await;
    harness.store().seal(&mut tx, &writer, Some(&to(1))).await.unwrap();
    drop(tx);
    assert_untouched(harness, "e1").await;
    batch(harness, &held, "e1", 1).await;
}

pub async fn a_transaction_that_was_not_sealed_does_not_commit<H: Harness>(harness: &H) {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    write::<H>(&mut tx, "e1").await;
    harness.store().commit(tx).await.unwrap_err();
    assert_untouched(harness, "e1").await;
}

pub async fn a_transaction_without_a_claim_is_committed<H: Harness>(harness: &H) {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    write::<H>(&mut tx, "e1").await;
    finish(harness, tx, &writer, 0).await;
    assert_eq!(effects(harness).await, ["e1"]);
}

pub async fn transactions_have_the_terms_that_are_asked_for<H: Harness>(harness: &H) {
    use IsolationLevel::{ReadCommitted, RepeatableRead, Serializable};
    let held = held(harness).await;
    let levels = [ReadCommitted, RepeatableRead, Serializable];
    for (isolation, text) in levels.into_iter().zip(["e1", "e2", "e3"]) {
        for statement_timeout in [None, Some(Duration::from_millis(12_345)), Some(AN_HOUR)] {
            let terms = Terms { isolation, statement_timeout, ..Terms::default() };
            let held = row(harness, &held).await.held();
            let writer = Writer::Lane(&held);
            let mut tx = harness.store().begin(&writer, &terms).await.unwrap();
            assert_eq!(is_new(harness, &mut tx, &writer, text).await, statement_timeout.is_none());
            write::<H>(&mut tx, text).await;
            finish(harness, tx, &writer, 1).await;
        }
    }
    assert_eq!(effects(harness).await.len(), 9);
}

pub async fn a_rollback_says_that_the_connection_is_good<H: Harness>(harness: &H) {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    write::<H>(&mut tx, "e1").await;
    assert!(harness.store().rollback(tx).await);
    let tx = begin(harness, &writer).await;
    assert!(harness.store().rollback(tx).await);
}
