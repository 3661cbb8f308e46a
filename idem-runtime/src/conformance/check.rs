//! Cases: the check at start.

use super::Harness;
use crate::error::ErrorKind;
use crate::store::Store as _;

pub async fn a_store_that_was_not_migrated_says_so<H: Harness>(_: &H) {
    let harness = H::unmigrated().await;
    let error = harness.store().check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration, "{error:?}");
    harness.migrate().await;
    harness.store().check().await.unwrap();
    harness.stop().await;
}

pub async fn the_identity_of_a_store_stays_the_same<H: Harness>(harness: &H) {
    let first = harness.store().check().await.unwrap();
    assert!(!first.is_nil());
    harness.migrate().await;
    assert_eq!(harness.store().check().await.unwrap(), first);
}

pub async fn two_stores_have_two_identities<H: Harness>(harness: &H) {
    let other = H::start().await;
    assert_ne!(harness.store().check().await.unwrap(), other.store().check().await.unwrap());
    other.stop().await;
}
