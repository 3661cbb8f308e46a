//! Cases: handlers that end or break the transaction they are lent.

use super::support::*;
use super::{Harness, Misbehaviour};
use crate::error::ErrorKind;
use crate::store::{Sealed, Store as _, Writer};

/// A batch whose handler writes, misbehaves and writes again, ignoring every error. Answers `None`
/// when the database knows no such misbehaviour, and otherwise whether it was committed.
async fn misbehaving<H: Harness>(
    harness: &H,
    writer: &Writer<'_>,
    how: Misbehaviour,
) -> Option<bool> {
    let mut tx = begin(harness, writer).await;
    assert!(is_new(harness, &mut tx, writer, "e1").await);
    write::<H>(&mut tx, "before").await;
    if !H::misbehave(lend::<H>(&mut tx), how).await {
        harness.store().rollback(tx).await;
        return None;
    }
    let _ = H::write(lend::<H>(&mut tx), "after").await;
    let seal = to(1);
    let seal = matches!(writer, Writer::Lane(_)).then_some(&seal);
    match harness.store().seal(&mut tx, writer, seal).await {
        Ok(Sealed::Yes) => Some(harness.store().commit(tx).await.is_ok()),
        Ok(Sealed::No) => {
            harness.store().rollback(tx).await;
            Some(false)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::HandlerBroke, "{error:?}");
            harness.store().rollback(tx).await;
            Some(false)
        }
    }
}

async fn keeps_nothing<H: Harness>(harness: &H, how: Misbehaviour) {
    let held = held(harness).await;
    let before = row(harness, &held).await;
    for writer in [Writer::Lane(&held), direct()] {
        // More often than a pool has connections: each is as good as new afterwards.
        for _ in 0..12 {
            let Some(committed) = misbehaving(harness, &writer, how).await else { return };
            assert!(!committed, "{how:?} went unnoticed");
            assert_untouched(harness, "e1").await;
        }
    }
    assert_eq!(row(harness, &held).await, before);
    batch(harness, &held, "e1", 1).await;
    assert_eq!(effects(harness).await, ["e1"]);
}

pub async fn a_handler_that_commits_keeps_nothing<H: Harness>(harness: &H) {
    keeps_nothing(harness, Misbehaviour::Commit).await;
}

pub async fn a_handler_that_rolls_back_keeps_nothing<H: Harness>(harness: &H) {
    keeps_nothing(harness, Misbehaviour::Rollback).await;
}

pub async fn a_handler_that_commits_and_begins_keeps_nothing<H: Harness>(harness: &H) {
    keeps_nothing(harness, Misbehaviour::CommitAndBegin).await;
}

pub async fn a_handler_that_rolls_back_and_begins_keeps_nothing<H: Harness>(harness: &H) {
    keeps_nothing(harness, Misbehaviour::RollbackAndBegin).await;
}

/// A database may let a transaction go on after a failed statement, or may not.
pub async fn a_swallowed_error_keeps_all_or_nothing<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let how = Misbehaviour::SwallowError;
    match misbehaving(harness, &Writer::Lane(&held), how).await {
        None => {}
        Some(true) => {
            assert!(is_marked(harness, "e1").await);
            assert_eq!(effects(harness).await, ["after", "before"]);
            assert_eq!(row(harness, &held).await.position.offset, 1);
        }
        Some(false) => {
            assert_untouched(harness, "e1").await;
            batch(harness, &held, "e1", 1).await;
        }
    }
}

pub async fn a_closure_that_ends_its_transaction_keeps_nothing<H: Harness>(harness: &H) {
    use Misbehaviour::{Commit, CommitAndBegin, Rollback, RollbackAndBegin};
    for how in [Commit, CommitAndBegin, Rollback, RollbackAndBegin] {
        let mut known = true;
        let result = harness
            .store()
            .process_if_new(SCOPE, "e1", async |connection| {
                H::write(connection, "before").await?;
                known = H::misbehave(connection, how).await;
                let _ = H::write(connection, "after").await;
                if known { Ok(()) } else { Err("unknown".into()) }
            })
            .await;
        let error = result.unwrap_err();
        if known {
            assert_eq!(error.kind(), ErrorKind::HandlerBroke, "{how:?}: {error:?}");
        }
        assert_untouched(harness, "e1").await;
    }
}
