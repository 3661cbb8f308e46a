//! Cases: running something once without Kafka.

use std::future::Future;

use futures_util::future::join_all;

use super::support::*;
use super::{ConnectionOf, Harness, Misbehaviour};
use crate::error::{ErrorKind, Result};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::store::{Store as _, Terms};

fn once<'a, H: Harness>(
    harness: &'a H,
    key: &'a str,
) -> impl Future<Output = Result<Outcome>> + use<'a, H> {
    harness
        .store()
        .process_if_new(SCOPE, key, async move |connection| H::write(connection, key).await)
}

pub async fn effects_happen_once_for_a_key<H: Harness>(harness: &H) {
    assert!(once(harness, "e1").await.unwrap().is_processed());
    assert!(once(harness, "e1").await.unwrap().is_duplicate());
    assert!(once(harness, "e2").await.unwrap().is_processed());
    assert_eq!(effects(harness).await, ["e1", "e2"]);
}

pub async fn an_error_keeps_nothing_and_the_key_stays_new<H: Harness>(harness: &H) {
    let result: Result<Outcome> = harness
        .store()
        .process_if_new(SCOPE, "e1", async |connection| {
            H::write(connection, "half").await?;
            Err(Failure::new("the card was declined"))
        })
        .await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(error.report().contains("the card was declined"), "{error:?}");
    assert_untouched(harness, "e1").await;
    assert!(once(harness, "e1").await.unwrap().is_processed());
    assert_eq!(effects(harness).await, ["e1"]);
}

pub async fn what_the_effects_return_comes_back<H: Harness>(harness: &H) {
    let outcome = harness.store().process_if_new(SCOPE, "e1", async |_| Ok(7)).await.unwrap();
    assert_eq!(outcome, Outcome::Processed(7));
    let outcome = harness.store().process_if_new(SCOPE, "e1", async |_| Ok(8)).await.unwrap();
    assert!(outcome.is_duplicate());
}

pub async fn marking_says_whether_the_key_was_new<H: Harness>(harness: &H) {
    let store = harness.store();
    let metadata = json(r#"{"by": "import"}"#);
    let outcome = store.mark_processed(SCOPE, "e1", Some(metadata.clone())).await.unwrap();
    assert!(outcome.is_processed());
    let other = json(r#"{"by": "another"}"#);
    assert!(store.mark_processed(SCOPE, "e1", Some(other)).await.unwrap().is_duplicate());
    let marker = store.marker(SCOPE, &key("e1")).await.unwrap().unwrap();
    assert_eq!(marker.metadata, Some(metadata), "the first one's stays");
    assert!(once(harness, "e1").await.unwrap().is_duplicate());
}

pub async fn a_marked_key_is_processed<H: Harness>(harness: &H) {
    let store = harness.store();
    assert!(!store.is_processed(SCOPE, "e1").await.unwrap());
    once(harness, "e1").await.unwrap().value().unwrap();
    assert!(store.is_processed(SCOPE, "e1").await.unwrap());
    assert!(!store.is_processed("other", "e1").await.unwrap());
    assert!(store.is_processed(SCOPE, &uuid::Uuid::nil()).await.is_ok_and(|it| !it));
}

pub async fn what_is_no_key_is_refused<H: Harness>(harness: &H) {
    let store = harness.store();
    for bad in ["", "a\0b"] {
        let error = store.mark_processed(SCOPE, bad, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Key);
        assert_eq!(store.is_processed(SCOPE, bad).await.unwrap_err().kind(), ErrorKind::Key);
    }
    let error = store.mark_processed("", "e1", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

pub async fn a_long_key_is_known_by_how_it_is_written<H: Harness>(harness: &H) {
    let store = harness.store();
    let (long, other) = ("x".repeat(256), "x".repeat(257));
    let written = crate::Key::new(long.as_str()).unwrap();
    once(harness, &long).await.unwrap().value().unwrap();
    assert!(once(harness, &long).await.unwrap().is_duplicate());
    assert!(store.is_processed(SCOPE, long.as_str()).await.unwrap());
    assert!(store.is_processed(SCOPE, &written).await.unwrap());
    assert!(!store.is_processed(SCOPE, other.as_str()).await.unwrap());
    // Its text as a key is another key: nobody can write it.
    assert!(!store.is_processed(SCOPE, written.as_str()).await.unwrap());
}

/// Runs something without a marker.
async fn unmarked<H: Harness, T>(
    harness: &H,
    effects: impl AsyncFnOnce(&mut ConnectionOf<H>) -> Result<T, Failure>,
) -> Result<Outcome<T>> {
    let terms = Terms::default();
    let effects = async |tx: &mut TxOf<H>| effects(lend::<H>(tx)).await;
    crate::unmarked::unmarked(harness.store(), SCOPE, &terms, effects).await
}

pub async fn without_a_marker_effects_are_kept_each_time<H: Harness>(harness: &H) {
    for effect in ["e1", "e2"] {
        let done = unmarked(harness, async |connection| H::write(connection, effect).await);
        assert!(done.await.unwrap().is_processed());
    }
    let failed = unmarked(harness, async |connection| {
        H::write(connection, "half").await?;
        Err::<(), _>(Failure::new("the card was declined"))
    });
    assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Handler);
    assert_eq!(effects(harness).await, ["e1", "e2"]);
}

pub async fn without_a_marker_a_transaction_that_was_ended_is_noticed<H: Harness>(harness: &H) {
    use Misbehaviour::{Commit, CommitAndBegin, Rollback, RollbackAndBegin};
    for how in [Commit, CommitAndBegin, Rollback, RollbackAndBegin] {
        let mut known = true;
        let ended = unmarked(harness, async |connection| {
            H::write(connection, "before").await?;
            known = H::misbehave(connection, how).await;
            let _ = H::write(connection, "after").await;
            if known { Ok(()) } else { Err("unknown".into()) }
        });
        let error = ended.await.unwrap_err();
        if known {
            assert_eq!(error.kind(), ErrorKind::HandlerBroke, "{how:?}: {error:?}");
        }
        assert!(effects(harness).await.is_empty(), "{how:?}");
    }
}

pub async fn ten_concurrent_calls_for_a_key_have_one_effect<H: Harness>(harness: &H) {
    let outcomes = join_all((0..10).map(|_| once(harness, "e1"))).await;
    let processed = outcomes.iter().filter(|it| it.as_ref().unwrap().is_processed()).count();
    assert_eq!(processed, 1);
    assert_eq!(effects(harness).await, ["e1"]);
}

pub async fn ten_concurrent_calls_for_ten_keys_have_ten_effects<H: Harness>(harness: &H) {
    let keys: Vec<_> = (0..10).map(|it| format!("e{it}")).collect();
    let outcomes = join_all(keys.iter().map(|key| once(harness, key))).await;
    assert!(outcomes.into_iter().all(|it| it.unwrap().is_processed()));
    assert_eq!(effects(harness).await, keys);
}
