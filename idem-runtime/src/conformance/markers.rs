//! Cases: what a marker tells.

use std::time::SystemTime;

use uuid::Uuid;

use super::Harness;
use super::support::*;
use crate::marker::{Marker, MarkerState, Origin};
use crate::store::{Claim, Store as _, Writer};

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
