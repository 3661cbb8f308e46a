//! Cases: what a marker tells.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::Value;
use uuid::Uuid;

use super::Harness;
use super::support::*;
use crate::answer::{Answer, Slot};
use crate::marker::{Marker, MarkerState, Origin};
use crate::store::{Claim, Claimed, Store as _, Writer};

/// Claims `key` as this writer and reads its marker.
async fn written<H: Harness>(harness: &H, writer: Writer<'_>, claim: Claim<'_>) -> Marker {
    let mut tx = begin(harness, &writer).await;
    harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
    finish(harness, tx, &writer, 18).await;
    let marker = harness.store().marker(claim.scope, claim.key).await.unwrap().unwrap();
    assert_eq!(marker.state, MarkerState::Processed);
    let now = SystemTime::now();
    assert!(marker.processed_at > now - AN_HOUR && marker.processed_at < now + AN_HOUR);
    marker
}

pub async fn a_marker_of_a_lane_tells_its_origin<H: Harness>(harness: &H) {
    open(harness, &[3, 4]).await;
    let held = take(harness, 4).await.held();
    let key = key("e1");
    let claim = Claim { offset: Some(17), ..plain(SCOPE, &key) };
    let marker = written(harness, Writer::Lane(&held), claim).await;
    let origin = Origin { group: GROUP.into(), topic: TOPIC.into(), partition: 4, offset: 17 };
    assert_eq!(marker.origin, Some(origin));
    assert_eq!(marker.attempt, None);
    assert_eq!(marker.metadata, None);
}

pub async fn a_marker_without_kafka_tells_its_attempt<H: Harness>(harness: &H) {
    let attempt = Uuid::new_v4();
    let key = key("e1");
    let marker = written(harness, Writer::Direct { attempt }, plain(SCOPE, &key)).await;
    assert_eq!(marker.attempt, Some(attempt));
    assert_eq!(marker.origin, None);
}

pub async fn metadata_comes_back_as_it_was<H: Harness>(harness: &H) {
    let text = r#"{"by": "an \"agent\" \\ €", "n": [1, -2.5, null, true], "deep": {"": {}}}"#;
    let values = [json(text), json("null"), json("\"text\""), json("[]"), json("9007199254740993")];
    for (number, value) in values.iter().enumerate() {
        let key = key(&format!("e{number}"));
        let claim = Claim { metadata: Some(value), ..plain(SCOPE, &key) };
        assert_eq!(written(harness, direct(), claim).await.metadata.as_ref(), Some(value));
    }
}

pub async fn what_is_said_of_an_event_is_beside_its_marker<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (one, two, three) = (key("e1"), key("e2"), key("e3"));
    let fingerprint = Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
    let claims = [
        Claim { offset: Some(3), fingerprint, ..plain(SCOPE, &one) },
        Claim { correlation: Some("chain"), causation: Some("cause"), ..plain(SCOPE, &two) },
        Claim { offset: Some(5), ..plain(SCOPE, &three) },
    ];
    for writer in [Writer::Lane(&held), direct()] {
        let mut tx = begin(harness, &writer).await;
        let claimed = harness.store().claim(&mut tx, &writer, &claims).await.unwrap();
        let new = matches!(writer, Writer::Lane(_));
        assert_eq!(claimed, Claimed::Keys(vec![new; 3]));
        finish(harness, tx, &writer, 6).await;
        let marker = async |key| harness.store().marker(SCOPE, key).await.unwrap().unwrap();
        let (one, two, three) = (marker(&one).await, marker(&two).await, marker(&three).await);
        assert_eq!(
            (one.fingerprint, one.correlation_id, one.causation_id),
            (fingerprint, None, None)
        );
        assert_eq!(two.correlation_id.as_deref(), Some("chain"));
        assert_eq!((two.causation_id.as_deref(), two.fingerprint), (Some("cause"), None));
        assert_eq!((three.fingerprint, three.correlation_id, three.result), (None, None, None));
    }
}

pub async fn known_markers_are_told_within_the_transaction<H: Harness>(harness: &H) {
    let held = held(harness).await;
    batch(harness, &held, "before", 1).await;
    let held = row(harness, &held).await.held();
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "own").await);
    let keys = ["own", "absent", "before"].map(key);
    let keys: Vec<_> = keys.iter().map(|key| (SCOPE, key)).collect();
    let known = harness.store().known(&mut tx, &keys).await.unwrap();
    let known: Vec<_> = known.into_iter().map(|it| it.map(|it| it.state)).collect();
    assert_eq!(known, [Some(MarkerState::Processed), None, Some(MarkerState::Processed)]);
    assert!(harness.store().known(&mut tx, &[]).await.unwrap().is_empty());
    finish(harness, tx, &writer, 2).await;
}

pub async fn results_are_kept_in_the_transaction_that_claimed<H: Harness>(harness: &H) {
    let keys = ["e1", "e2", "e3"].map(key);
    let results = [json(r#"{"paid": [1, "€"]}"#), json("null")];
    for commits in [false, true] {
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        let new = claim(harness, &mut tx, &writer, &["e1", "e2", "e3"]).await.unwrap();
        assert_eq!(new, Claimed::Keys(vec![true; 3]));
        let kept: Vec<_> =
            keys.iter().zip(&results).map(|(key, result)| (SCOPE, key, result)).collect();
        harness.store().keep_results(&mut tx, &kept).await.unwrap();
        harness.store().keep_results(&mut tx, &[]).await.unwrap();
        if commits {
            finish(harness, tx, &writer, 0).await;
        } else {
            harness.store().rollback(tx).await;
        }
    }
    for (number, key) in keys.iter().enumerate() {
        let marker = harness.store().marker(SCOPE, key).await.unwrap().unwrap();
        assert_eq!(marker.result.as_ref(), results.get(number));
    }
}

/// What a handler returned, as its duplicate is answered with it.
async fn kept_and_read<H: Harness, T: Answer>(harness: &H, text: &str, value: &T) -> T {
    let key = key(text);
    let mut slot = None;
    Slot(&mut slot).keep(value, 1 << 20).unwrap();
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, text).await);
    harness.store().keep_results(&mut tx, &[(SCOPE, &key, &slot.unwrap())]).await.unwrap();
    finish(harness, tx, &writer, 0).await;
    let marker = harness.store().marker(SCOPE, &key).await.unwrap().unwrap();
    T::from_json(marker.result.unwrap()).unwrap()
}

pub async fn a_result_that_can_be_kept_comes_back_as_it_was<H: Harness>(harness: &H) {
    let floats = vec![
        0.1,
        -1.5e-9,
        1e16,
        1e300,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        123_456_789.123_456_78,
    ];
    assert_eq!(kept_and_read(harness, "floats", &floats).await, floats);
    let numbers = (i64::MIN, u64::MAX, 0_u8, vec![Some(true), None]);
    assert_eq!(kept_and_read(harness, "numbers", &numbers).await, numbers);
    let texts: Vec<String> =
        ["", "\u{1}\u{1f}\u{7f}\u{80}\u{ffff}", "\\u0000", "\"\\/\n", "🦀 é e\u{301}"]
            .map(str::to_owned)
            .into();
    assert_eq!(kept_and_read(harness, "texts", &texts).await, texts);
    let names: BTreeMap<String, Value> =
        texts.iter().map(|name| (name.clone(), Value::Null)).collect();
    assert_eq!(kept_and_read(harness, "names", &names).await, names);
    // As deep as a result may be.
    let mut deep = json("[]");
    for level in 1..120 {
        deep = match level % 2 {
            0 => serde_json::json!([deep]),
            _ => serde_json::json!({ "in": deep }),
        };
    }
    assert_eq!(kept_and_read(harness, "deep", &deep).await, deep);
}

pub async fn an_attempt_that_was_begun_is_taken_over<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (key, attempt) = (key("e1"), Uuid::new_v4());
    let writer = Writer::Lane(&held);
    let begun = Claim {
        state: MarkerState::Begun,
        attempt: Some(attempt),
        offset: Some(4),
        ..plain(SCOPE, &key)
    };
    let mut tx = begin(harness, &writer).await;
    let claimed = harness.store().claim(&mut tx, &writer, &[begun]).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true]));
    finish(harness, tx, &writer, 0).await;
    let marker = harness.store().marker(SCOPE, &key).await.unwrap().unwrap();
    assert_eq!((marker.state, marker.attempt), (MarkerState::Begun, Some(attempt)));
    assert!(!harness.store().is_processed(SCOPE, &key).await.unwrap());

    let held = row(harness, &held).await.held();
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    assert!(!is_new(harness, &mut tx, &writer, "e1").await, "it is known");
    let given_up = harness.store().given_up(&mut tx, &[(SCOPE, &key)]).await.unwrap();
    let begun = given_up[0].unwrap();
    assert_eq!((begun.state, begun.offset), (MarkerState::Begun, Some(4)));
    let again = Claim { over: Some(attempt), offset: Some(4), ..plain(SCOPE, &key) };
    let claimed = harness.store().claim(&mut tx, &writer, &[again]).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true]), "and taken over");
    finish(harness, tx, &writer, 5).await;
    let marker = harness.store().marker(SCOPE, &key).await.unwrap().unwrap();
    assert_eq!((marker.state, marker.attempt), (MarkerState::Processed, None));
    assert_eq!(marker.origin.unwrap().offset, 4);
}

pub async fn an_attempt_that_failed_is_taken_back_and_no_other<H: Harness>(harness: &H) {
    let (key, attempt, store) = (key("e1"), Uuid::new_v4(), harness.store());
    let writer = direct();
    let begun = Claim { state: MarkerState::Begun, attempt: Some(attempt), ..plain(SCOPE, &key) };
    let mut tx = begin(harness, &writer).await;
    assert_eq!(store.claim(&mut tx, &writer, &[begun]).await.unwrap(), Claimed::Keys(vec![true]));
    finish(harness, tx, &writer, 0).await;
    store.take_back(SCOPE, &key, Uuid::new_v4()).await.unwrap();
    store.take_back("other", &key, attempt).await.unwrap();
    assert!(is_marked(harness, "e1").await, "it is another's");
    store.take_back(SCOPE, &key, attempt).await.unwrap();
    assert!(!is_marked(harness, "e1").await);

    let own = Writer::Direct { attempt };
    let mut tx = begin(harness, &own).await;
    assert!(is_new(harness, &mut tx, &own, "e1").await);
    finish(harness, tx, &own, 0).await;
    store.take_back(SCOPE, &key, attempt).await.unwrap();
    assert!(is_marked(harness, "e1").await, "it is processed");
}

pub async fn a_key_that_was_never_claimed_has_no_marker<H: Harness>(harness: &H) {
    assert_eq!(harness.store().marker(SCOPE, &key("e1")).await.unwrap(), None);
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    finish(harness, tx, &writer, 0).await;
    assert_eq!(harness.store().marker("other", &key("e1")).await.unwrap(), None);
    assert_eq!(harness.store().marker(SCOPE, &key("e2")).await.unwrap(), None);
    assert!(harness.store().marker(SCOPE, &key("e1")).await.unwrap().is_some());
}
