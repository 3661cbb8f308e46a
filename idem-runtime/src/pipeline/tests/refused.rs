use super::harness::{World, ids};
use crate::Store as _;
use crate::error::ErrorKind;
use crate::key::Key;
use crate::policy::{OnFailure, Policy};

/// The lane stops at offset 3 of six, with an error of this kind that says this.
async fn stops_at(payload: &str, kind: ErrorKind, says: &str) {
    let world = World::with(Policy::new().on_failure(OnFailure::Stop));
    world.broker.produce(0, ids(3));
    world.broker.produce_raw(0, [payload.to_owned()]);
    world.broker.produce(0, ["f0", "f1"]);
    let lane = world.start(0);
    let seat = std::sync::Arc::clone(&lane.seat);
    let error = lane.stopped().await;
    assert_eq!(error.kind(), kind);
    let text = error.to_string();
    for part in ["topic orders", "partition 0", "offset 3", "bill", says] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!((world.bills(), world.position(0)), (ids(3), 3), "the good ones before are done");
    assert_eq!(seat.resolved().unwrap().offset, 3);
    // A restart stands at the same event.
    assert_eq!(world.start(0).stopped().await.to_string(), text);
    assert_eq!((world.bills(), world.position(0)), (ids(3), 3));
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_decode_stops_the_lane_there() {
    stops_at("hunter2", ErrorKind::Decode, "not JSON").await;
    stops_at("{}", ErrorKind::Decode, "no field `id`").await;
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_key_stops_the_lane_there() {
    stops_at(r#"{"id": ""}"#, ErrorKind::Key, "empty").await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_no_database_can_keep_stops_the_lane_there() {
    stops_at(r#"{"id": "a\u0000b"}"#, ErrorKind::Key, "NUL").await;
}

#[tokio::test(start_paused = true)]
async fn a_long_key_is_hashed_and_stops_nothing() {
    let world = World::with(Policy::new().on_failure(OnFailure::Stop));
    let long = "x".repeat(300);
    world.broker.produce(0, [&long, &long]);
    world.drain(0).await;
    let key = Key::new(long.as_str()).unwrap();
    assert!(key.as_str().starts_with("sha256:"));
    assert!(world.store.find_marker("bill", &key).await.unwrap().is_some());
    assert_eq!((world.markers(), world.counts().duplicates), (1, 1));
    assert_eq!(world.bills(), [long]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_stops_the_lane_there() {
    stops_at(r#"{"id": "panic"}"#, ErrorKind::Key, "panicked").await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_at_the_head_of_a_batch_stops_the_lane_too() {
    let world = World::with(Policy::new().on_failure(OnFailure::Stop));
    world.broker.produce_raw(0, ["x".to_owned()]);
    let error = world.start(0).stopped().await;
    assert_eq!((error.kind(), world.position(0)), (ErrorKind::Decode, 0));
}
