use std::sync::Arc;

use super::broker::TOPIC;
use super::handlers::{Do, Order, Script, perform};
use super::harness::{World, in_rows};
use crate::Store as _;
use crate::context::Context;
use crate::dead_letter::LetterFilter;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::format::decode_json;
use crate::group::Registered;
use crate::handler::{Call, EventOf, Handler, KeySource, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::memory::{Memory, MemoryConnection};
use crate::policy::{Markers, Policy, Retry};
use crate::routing::{Correlation, Rules};
use crate::state::{Needs, State};

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

/// Its key is the chain, and which step of it the event is.
struct Step;

impl Handler for Step {
    type Store = Memory;
    type Input = One<Order>;
    const SCOPE: &'static str = "step";
    const KEY: KeySource = KeySource::Message;

    fn needs(needs: &mut Needs) {
        <State<Script> as Param<'_, Self>>::needs(needs);
        <&Context as Param<'_, Self>>::needs(needs);
    }

    fn key(event: &EventOf<Self>, source: Option<&Event>) -> Result<Key, KeyError> {
        let chain = source.and_then(|source| source.headers.get("correlation-id"));
        let chain = chain.ok_or_else(|| KeyError::missing("it belongs to no chain"))?;
        let chain = String::from_utf8_lossy(chain).into_owned();
        Key::composite(&[&chain, &event.id])
    }

    async fn handle(One(order): One<Order>, mut call: Call<'_, Self>) -> Result<(), Failure> {
        let script = <State<Script> as Param<'_, Self>>::take(&mut call)?;
        let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        let effect = format!("{} of {}", order.id, cx.correlation_id().unwrap_or_default());
        perform("step", order, effect, (&script, cx, tx)).await
    }
}

impl Subscriber for Step {
    const TOPICS: &'static [&'static str] = &[TOPIC];

    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
        decode_json(&event)
    }
}

#[tokio::test(start_paused = true)]
async fn each_step_of_a_chain_is_worked_once_and_the_same_step_of_another_chain_is_another() {
    let world = World::of(vec![in_rows(Registered::of::<Step>())], 2);
    let of = |id: &str, chain| event(id, &[("correlation-id", chain)]);
    let first = [of("pay", "c1"), of("ship", "c1"), of("pay", "c2"), of("pay", "c1")];
    world.broker.append_events(0, first);
    world.drain(0).await;
    // The whole chain again, wherever it comes from.
    world.broker.append_events(1, [of("pay", "c1"), of("ship", "c1"), of("ship", "c2")]);
    world.drain(1).await;
    assert_eq!(world.store.rows("step"), ["pay of c1", "ship of c1", "pay of c2", "ship of c2"]);
    // One that belongs to no chain has no key.
    world.broker.append_events(0, [event("pay", &[])]);
    world.drain(0).await;
    assert_eq!((world.letters().len(), world.store.rows("step").len()), (1, 4));
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
