use super::broker::TOPIC;
use super::harness::World;
use crate::context::Context;
use crate::dead_letter::FailureClass;
use crate::effects::{Begun, Probed, UnknownEnd};
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::format::decode_json;
use crate::group::Registered;
use crate::handler::{Call, EventOf, Handler, KeySource, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::marker::MarkerState;
use crate::memory::{Memory, MemoryConnection};
use crate::policy::{Policy, Retry};
use crate::replay::Replay;
use crate::routing::EventTypes;
use crate::state::Needs;

#[derive(serde::Deserialize)]
struct Placed {
    id: String,
}

#[derive(serde::Deserialize)]
struct Cancelled {
    id: String,
    reason: String,
}

enum OrderEvent {
    Placed(Placed),
    Cancelled(Cancelled),
}

/// As the derive writes it.
impl EventTypes for OrderEvent {
    const TYPES: &'static [&'static str] = &["order.placed", "order.cancelled"];

    fn decode(event: Encoded<'_>, event_type: &str) -> Result<Self, DecodeError> {
        match event_type {
            "order.placed" => decode_json(&event).map(Self::Placed),
            "order.cancelled" => decode_json(&event).map(Self::Cancelled),
            _ => Err(DecodeError::new("no variant has this type")),
        }
    }
}

/// Writes what it was given; fails when it is asked for the first time.
struct Follow;

impl Handler for Follow {
    type Store = Memory;
    type Input = One<OrderEvent>;
    const SCOPE: &'static str = "follow";
    const KEY: KeySource = KeySource::Event;

    fn needs(needs: &mut Needs) {
        <&Context as Param<'_, Self>>::needs(needs);
    }

    fn key(event: &EventOf<Self>, _source: Option<&Event>) -> Result<Key, KeyError> {
        match event {
            OrderEvent::Placed(placed) => Key::of(&placed.id),
            OrderEvent::Cancelled(cancelled) => Key::of(&cancelled.id),
        }
    }

    async fn probe(event: &EventOf<Self>, _: &Begun) -> Result<Probed, Failure> {
        match event {
            OrderEvent::Placed(_) => Ok(Probed::NotDone),
            OrderEvent::Cancelled(_) => Ok(Probed::Done),
        }
    }

    async fn handle(One(event): One<OrderEvent>, mut call: Call<'_, Self>) -> Result<(), Failure> {
        let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        let row = match event {
            OrderEvent::Placed(placed) => format!("placed {}", placed.id),
            OrderEvent::Cancelled(it) if it.reason == "never" => {
                return Err(Failure::new("the test made it fail"));
            }
            OrderEvent::Cancelled(it) if it.reason == "panic" => panic!("the test made it panic"),
            OrderEvent::Cancelled(it) => format!("cancelled {}: {}", it.id, it.reason),
        };
        if cx.attempt() == 1 {
            return Err(Failure::new("the test made it fail"));
        }
        tx.insert("follow", row).await?;
        Ok(())
    }
}

impl Subscriber for Follow {
    const TOPICS: &'static [&'static str] = &[TOPIC];
    const TYPES: Option<&'static [&'static str]> = Some(OrderEvent::TYPES);
    const BY_TYPE: bool = true;

    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
        Self::decode_as(event, "")
    }

    fn decode_as(event: Encoded<'_>, event_type: &str) -> Result<EventOf<Self>, DecodeError> {
        OrderEvent::decode(event, event_type)
    }
}

fn world() -> World {
    world_of(Policy::new())
}

fn world_of(policy: Policy) -> World {
    let policy = policy.retry(Retry::new().max(2));
    World::of(vec![Registered { policy, ..Registered::of::<Follow>() }], 1)
}

#[tokio::test(start_paused = true)]
async fn an_event_becomes_the_variant_of_its_type_at_every_attempt() {
    let world = world();
    let cancelled = |id: &str, reason: &str| format!(r#"{{"id":"{id}","reason":"{reason}"}}"#);
    let broker = &world.broker;
    broker.produce_typed(0, [("order.placed", "e0"), ("order.moved", "e1")]);
    broker.produce_typed_raw(0, "order.cancelled", cancelled("e2", "late"));
    broker.produce_typed(0, [("order.placed", "e0")]);
    world.drain(0).await;
    assert_eq!(world.store.rows("follow"), ["placed e0", "cancelled e2: late"]);
    let counts = world.counts();
    assert_eq!((counts.unmatched, counts.duplicates, counts.processed), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_payload_of_another_variant_does_not_decode() {
    let world = world();
    world.broker.produce_typed(0, [("order.cancelled", "e0")]);
    world.drain(0).await;
    let letters = world.store.look(|view| view.letters());
    let cause = letters[0].cause.as_ref().unwrap();
    assert_eq!(cause.class, FailureClass::Decode);
    assert!(cause.error.contains("no field `reason`"), "{}", cause.error);
}

#[tokio::test(start_paused = true)]
async fn a_replay_picks_the_variant_again() {
    let world = world();
    let payload = r#"{"id":"e0","reason":"never"}"#;
    world.broker.produce_typed_raw(0, "order.cancelled", payload.to_owned());
    world.drain(0).await;
    let letters = world.store.look(|view| view.letters());
    let mended = Some(&br#"{"id":"e0","reason":"late"}"#[..]);
    world.dead_letters().edit(letters[0].id, mended, "mended").await.unwrap();
    let replay = Replay::new(world.store.clone(), "ana").handler::<Follow>();
    assert_eq!(replay.run(&crate::LetterFilter::new()).await.unwrap().processed, 1);
    assert_eq!(world.store.rows("follow"), ["cancelled e0: late"]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_asked_about_the_variant() {
    let world = world_of(Policy::new().unknown_end(UnknownEnd::Probe));
    let payload = r#"{"id":"e0","reason":"panic"}"#;
    world.broker.produce_typed_raw(0, "order.cancelled", payload.to_owned());
    world.drain(0).await;
    assert_eq!((world.store.rows("follow").len(), world.letters()), (0, Vec::new()));
    let marker = world.store.look(|view| view.marker("follow", "e0"));
    assert_eq!(marker, Some(MarkerState::Processed));
}
