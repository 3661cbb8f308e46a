//! Cases: which group owns which scopes.

use super::Harness;
use crate::error::{ErrorKind, Result};
use crate::marker::MarkerMode;
use crate::scope::Registration;
use crate::store::Store as _;

async fn register<H: Harness>(
    harness: &H,
    group: &str,
    scopes: &[&str],
    adopt: &[&str],
    retire: &[&str],
) -> Result<()> {
    let scopes: Vec<_> = scopes.iter().map(|scope| (*scope, MarkerMode::Rows)).collect();
    let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let (adopt, retire) = (owned(adopt), owned(retire));
    let registration = Registration {
        group,
        scopes: &scopes,
        windows: &[],
        adopt: &adopt,
        retire: &retire,
        broadcast: None,
    };
    harness.store().register(&registration).await
}

fn refused(result: Result<()>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Scope, "{error:?}");
    error.to_string()
}

pub async fn a_scope_is_recorded_and_found_again<H: Harness>(harness: &H) {
    for _ in 0..2 {
        register(harness, "g", &["a", "b"], &[], &[]).await.unwrap();
    }
    register(harness, "g", &["a", "b", "c"], &[], &[]).await.unwrap();
    // An instance of the old version, in a rolling deployment.
    register(harness, "g", &["a"], &[], &[]).await.unwrap();
    register(harness, "other", &["d"], &[], &[]).await.unwrap();
}

pub async fn another_groups_scope_is_refused_until_it_is_adopted<H: Harness>(harness: &H) {
    register(harness, "old", &["a"], &[], &[]).await.unwrap();
    let message = refused(register(harness, "new", &["a"], &[], &[]).await);
    assert!(message.contains("`old`"), "{message}");
    register(harness, "new", &["a"], &["a"], &[]).await.unwrap();
    register(harness, "new", &["a"], &[], &[]).await.unwrap();
    let message = refused(register(harness, "old", &["a"], &[], &[]).await);
    assert!(message.contains("`new`"), "{message}");
}

pub async fn a_renamed_scope_asks_until_the_old_one_is_retired<H: Harness>(harness: &H) {
    register(harness, "g", &["a"], &[], &[]).await.unwrap();
    let message = refused(register(harness, "g", &["b"], &[], &[]).await);
    assert!(message.contains("renamed"), "{message}");
    register(harness, "g", &["b"], &[], &["a"]).await.unwrap();
    // It is not asked about again.
    register(harness, "g", &["b", "c"], &[], &[]).await.unwrap();
    // And it is still the group's.
    refused(register(harness, "other", &["a"], &[], &[]).await);
}

pub async fn a_changed_mode_is_refused<H: Harness>(harness: &H) {
    register(harness, "g", &["a"], &[], &[]).await.unwrap();
    let scopes = [("a", MarkerMode::Offset)];
    let registration = Registration {
        group: "g",
        scopes: &scopes,
        windows: &[],
        adopt: &[],
        retire: &[],
        broadcast: None,
    };
    let message = refused(harness.store().register(&registration).await);
    assert!(message.contains("`rows`") && message.contains("`offset`"), "{message}");
}

pub async fn nothing_is_recorded_when_something_is_refused<H: Harness>(harness: &H) {
    register(harness, "old", &["taken"], &[], &[]).await.unwrap();
    register(harness, "g", &["mine"], &[], &[]).await.unwrap();
    refused(register(harness, "g", &["fresh", "mine", "taken"], &[], &[]).await);
    // `fresh` is nobody's.
    register(harness, "other", &["fresh"], &[], &[]).await.unwrap();
}

pub async fn instances_of_one_group_start_together<H: Harness>(harness: &H) {
    let start = || register(harness, "g", &["a", "b"], &[], &[]);
    let (a, b, c) = tokio::join!(start(), start(), start());
    a.and(b).and(c).unwrap();
}

pub async fn of_two_groups_that_bring_one_scope_one_gets_it<H: Harness>(harness: &H) {
    let (a, b) = tokio::join!(
        register(harness, "g1", &["a", "b"], &[], &[]),
        register(harness, "g2", &["a", "c"], &[], &[]),
    );
    assert_ne!(a.is_ok(), b.is_ok(), "{a:?} {b:?}");
    refused(a.and(b));
}
