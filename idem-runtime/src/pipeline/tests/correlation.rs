use std::sync::Arc;

use super::broker::TOPIC;
use super::handlers::Do;
use super::harness::World;
use crate::Store as _;
use crate::dead_letter::LetterFilter;
use crate::event::Event;
use crate::key::Key;
use crate::policy::{Markers, Policy, Retry};
use crate::routing::{Correlation, Rules};

fn event(id: &str, headers: &[(&'static str, &'static str)]) -> Event {
    let payload = serde_json::json!({ "id": id }).to_string();
    let mut event = Event::new(TOPIC.into(), 0, 0, payload);
    event.headers = headers.iter().map(|(name, value)| (*name, Some(*value))).collect();
    event
}

/// Markers in rows: a packed one has no ids.
fn world() -> World {
    World::with(Policy::new().markers(Markers::Rows))
}

/// The correlation and the causation id in the marker of `bill`.
async fn marked(world: &World, id: &str) -> (Option<String>, Option<String>) {
    let marker = world.store.marker("bill", &Key::new(id).unwrap()).await.unwrap().unwrap();
    (marker.correlation_id, marker.causation_id)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_marker_says_which_chain_its_event_belongs_to() {
    let world = world();
    let events = [
        event("e0", &[("correlation-id", "c1"), ("causation-id", "e-1")]),
        event("e1", &[("correlation-id", "c1"), ("correlation-id", "c2")]),
        event("e2", &[("x-request", "r1")]),
        event("e3", &[]),
    ];
    world.broker.append_events(0, events);
    world.drain(0).await;
    assert_eq!(marked(&world, "e0").await, (some("c1"), some("e-1")));
    assert_eq!(marked(&world, "e1").await, (some("c2"), None), "the last header counts");
    assert_eq!(marked(&world, "e2").await, (None, None));
    assert_eq!(marked(&world, "e3").await, (None, None));
}

#[tokio::test(start_paused = true)]
async fn the_group_says_which_headers_they_are() {
    let mut world = world();
    let correlation = Arc::new(Correlation::headers("x-request", "x-cause"));
    world.set_rules(Rules { correlation, ..Rules::default() });
    let headers = [("x-request", "r1"), ("x-cause", "e-1"), ("correlation-id", "c1")];
    world.broker.append_events(0, [event("e0", &headers)]);
    world.drain(0).await;
    assert_eq!(marked(&world, "e0").await, (some("r1"), some("e-1")));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_and_its_replay_keep_the_chain() {
    let world = World::with(Policy::new().retry(Retry::never()));
    world.script.always("bill", "e0", Do::Fail);
    world.broker.append_events(0, [event("e0", &[("correlation-id", "c1")])]);
    world.drain(0).await;
    assert_eq!(marked(&world, "e0").await, (some("c1"), None));
    let letters = world.store.look(|view| view.letters());
    assert_eq!(letters[0].event.headers.get("correlation-id"), Some(&b"c1"[..]));
    world.script.mend();
    let report = world.replay().run(&LetterFilter::new()).await.unwrap();
    assert_eq!(report.processed, 1);
    assert_eq!(marked(&world, "e0").await, (some("c1"), None));
}
