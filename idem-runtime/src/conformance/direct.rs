//! Cases: running something once without Kafka.

use std::future::Future;

use futures_util::future::join_all;

use super::Harness;
use super::support::*;
use crate::error::{ErrorKind, Result};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::store::Store as _;

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
