//! A schema registry that is away, slow, or does not know. It is a real server, so time is real, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use serde::Deserialize;

use crate::SchemaRegistry;
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::{Encoded, SchemaOf, decode_avro, schema_of_avro};
use crate::group::Registered;
use crate::handler::{Call, EventOf, Handler, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::memory::{Memory, MemoryConnection};
use crate::pipeline::tests::broker::TOPIC;
use crate::pipeline::tests::harness::{World, until};
use crate::policy::{OnFailure, Policy, Retry};
use crate::registry::server::{Reply, Server, found};
use crate::replay::Replay;
use crate::routing::{Rules, Types, Unmatched};
use crate::state::{Needs, State};

const SCHEMA: &str =
    r#"{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}]}"#;

#[derive(Debug, Deserialize)]
struct Order {
    id: String,
}

/// How often the handler fails before it works.
#[derive(Clone, Default)]
struct Failures(Arc<AtomicU32>);

/// Its effect is the event's id.
struct Ship;

impl Handler for Ship {
    type Store = Memory;
    type Input = One<Order>;
    const SCOPE: &'static str = "ship";

    fn needs(needs: &mut Needs) {
        <State<Failures> as Param<'_, Self>>::needs(needs);
    }

    fn key(event: &EventOf<Self>, _: Option<&Event>) -> Result<Key, KeyError> {
        Key::of(&event.id)
    }

    async fn handle(One(order): One<Order>, mut call: Call<'_, Self>) -> Result<(), Failure> {
        let failures = <State<Failures> as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        tx.insert("ship", order.id).await?;
        let again = failures.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        again.map_or(Ok(()), |_| Err(Failure::new("the test made it fail")))
    }
}

impl Subscriber for Ship {
    const TOPICS: &'static [&'static str] = &[TOPIC];
    const SCHEMA: Option<SchemaOf> = Some(schema_of_avro);

    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
        decode_avro(event)
    }
}

fn event(schema: u8, id: &str) -> String {
    let length = char::from(u8::try_from(id.len() * 2).unwrap());
    format!("\0\0\0\0{}{length}{id}", char::from(schema))
}

fn world(policy: Policy, registry: &Server) -> (World, Failures) {
    let mut ship = Registered::of::<Ship>();
    ship.policy = policy;
    let failures = Failures::default();
    let mut world = World::with_state(vec![ship], 1, failures.clone());
    world.set_registry(SchemaRegistry::new(registry.url()));
    (world, failures)
}

fn shipped(world: &World) -> Vec<String> {
    let mut rows = world.store.rows("ship");
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn a_registry_that_is_away_costs_no_event() {
    for slices in [0, 2] {
        let mut policy = Policy::new();
        policy.slices = Some(slices);
        let server = Server::start();
        server.on("/schemas/ids/7", [Reply::Now(500, String::new())]);
        let (world, _) = world(policy, &server);
        let events = (0..5).map(|n| (Some(format!("k{n}")), event(7, &format!("e{n}"))));
        world.broker.append(0, events);
        let lane = world.start(0);
        server.asked().await;
        server.asked().await;
        assert_eq!((shipped(&world).len(), world.letters().len(), world.position(0)), (0, 0, 0));
        // Refused connections, and then it is back.
        let address = server.address();
        drop(server);
        let server = Server::at(address);
        server.schema(7, SCHEMA);
        until(|| shipped(&world).len() == 5).await;
        lane.finish().await;
        assert_eq!(shipped(&world), ["e0", "e1", "e2", "e3", "e4"]);
        assert_eq!(world.letters(), []);
        world.drain(0).await;
        assert_eq!(shipped(&world).len(), 5, "and once");
    }
}

// A real server, and virtual time: the registry is asked again after seconds, of which none pass.
#[tokio::test(start_paused = true)]
async fn a_schema_that_nobody_knows_is_a_failure_of_the_event() {
    let server = Server::start();
    server.schema(7, SCHEMA);
    let (world, _) = world(Policy::new(), &server);
    world.broker.produce_raw(0, [event(7, "e0"), event(9, "e1"), event(7, "e2")]);
    world.drain(0).await;
    assert_eq!(shipped(&world), ["e0", "e2"]);
    let letters = world.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].2, letters[0].3), (LetterState::Dead, Some(FailureClass::Decode)));
    let asked = server.paths();
    assert_eq!(asked.iter().filter(|path| path.ends_with("/7")).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn a_registry_that_refuses_costs_no_event() {
    for status in [401, 403, 400, 422] {
        let server = Server::start();
        server.schema(7, SCHEMA);
        server.on("/schemas/ids/8", [Reply::Now(status, String::new())]);
        let (world, _) = world(Policy::new(), &server);
        world.broker.produce_raw(0, [event(7, "e0"), event(8, "e1")]);
        let lane = world.start(0);
        // Of the other, and of this one twice.
        for _ in 0..3 {
            server.asked().await;
        }
        assert_eq!((world.letters().len(), world.position(0)), (0, 0), "{status}");
        server.schema(8, SCHEMA);
        until(|| shipped(&world).len() == 2).await;
        lane.finish().await;
        assert_eq!(world.letters(), []);
    }
}

#[tokio::test]
async fn a_number_that_no_registry_gives_does_not_hold_up_a_lane() {
    let server = Server::start();
    server.schema(7, SCHEMA);
    let (world, _) = world(Policy::new(), &server);
    // Four bytes, of which the first begins with a one.
    world.broker.produce_raw(0, ["\0ÿÿ".to_owned(), event(7, "e1")]);
    world.drain(0).await;
    assert_eq!((shipped(&world), server.paths().len()), (vec!["e1".to_owned()], 1));
    assert_eq!(world.letters()[0].3, Some(FailureClass::Decode));
}

#[tokio::test]
async fn a_lane_that_waits_for_the_registry_can_be_left() {
    let server = Server::start();
    server.on("/schemas/ids/7", [Reply::Never]);
    let (world, _) = world(Policy::new(), &server);
    world.broker.produce_raw(0, [event(7, "e0")]);
    let lane = world.start(0);
    server.asked().await;
    lane.finish().await;
    assert_eq!((shipped(&world).len(), world.letters().len(), world.position(0)), (0, 0, 0));
}

#[tokio::test]
async fn an_event_that_is_tried_again_does_not_ask_again() {
    let server = Server::start();
    server.on("/schemas/ids/7", [found(SCHEMA), Reply::Never]);
    let soon = Duration::from_millis(1);
    let retry = Retry::new().backoff(soon, soon);
    let (world, failures) = world(Policy::new().retry(retry), &server);
    failures.0.store(2, SeqCst);
    world.broker.produce_raw(0, [event(7, "e0"), event(7, "e1")]);
    world.drain(0).await;
    assert_eq!(shipped(&world), ["e0", "e1"]);
    assert_eq!(server.paths().len(), 1);
}

#[tokio::test]
async fn events_that_waited_behind_a_parked_one_are_read_with_their_schema() {
    let server = Server::start();
    server.schema(7, SCHEMA);
    let policy = Policy::new().retry(Retry::never()).on_failure(OnFailure::PARK_KEY);
    let (world, failures) = world(policy, &server);
    failures.0.store(1, SeqCst);
    let events = ["e0", "e1", "e2"].map(|id| (Some("k".to_owned()), event(7, id)));
    world.broker.append(0, events);
    world.drain(0).await;
    assert_eq!((shipped(&world).len(), world.letters().len()), (0, 3));
    let replay = Replay::new(world.store.clone(), "ana").handler::<Ship>().state(failures);
    let replay = replay.schema_registry(SchemaRegistry::new(server.url()));
    let parked = LetterFilter::new().state(LetterState::Parked);
    assert_eq!(replay.run(&parked).await.unwrap().processed, 1);
    let lane = world.start(0);
    until(|| shipped(&world).len() == 3).await;
    lane.finish().await;
}

#[tokio::test]
async fn a_replay_asks_for_the_schema_and_keeps_the_letter_while_the_registry_is_away() {
    let server = Server::start();
    let (world, failures) = world(Policy::new(), &server);
    world.broker.produce_raw(0, [event(7, "e0")]);
    world.drain(0).await;
    let all = LetterFilter::new();
    let replay = Replay::new(world.store.clone(), "ana").handler::<Ship>().state(failures);
    let error = replay.run(&all).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains(".schema_registry"));
    // Another cache: the registry's word that there is none is kept for a while.
    let replay = replay.schema_registry(SchemaRegistry::new(server.url()));
    server.on("/schemas/ids/7", [Reply::Now(503, String::new())]);
    let error = replay.run(&all).await.unwrap_err();
    assert!(error.kind() == ErrorKind::SchemaRegistry && error.is_retryable(), "{error:?}");
    assert!(replay.clone().dry_run().run(&all).await.is_err());
    server.schema(7, SCHEMA);
    assert_eq!(replay.clone().dry_run().run(&all).await.unwrap().failed, []);
    assert_eq!(replay.run(&all).await.unwrap().processed, 1);
    assert_eq!(shipped(&world), ["e0"]);
}

#[tokio::test]
async fn only_the_schemas_of_wanted_events_are_asked_for_until_one_is_replayed() {
    let server = Server::start();
    server.schema(7, SCHEMA);
    let (mut world, failures) = world(Policy::new(), &server);
    let types = Some(Types::new(&["order.shipped"], None));
    world.set_handlers(vec![Registered { types, ..Registered::of::<Ship>() }]);
    world.set_rules(Rules { unmatched: Unmatched::DeadLetter, ..Rules::default() });
    world.broker.produce_typed_raw(0, "order.shipped", event(7, "e0"));
    world.broker.produce_typed_raw(0, "order.moved", event(9, "e1"));
    world.drain(0).await;
    assert_eq!((shipped(&world), world.letters().len()), (vec!["e0".to_owned()], 1));
    assert_eq!(server.paths().len(), 1, "{:?}", server.paths());
    server.schema(9, SCHEMA);
    let replay = Replay::new(world.store.clone(), "ana").handler::<Ship>().state(failures);
    let replay = replay.group("g").schema_registry(SchemaRegistry::new(server.url()));
    assert_eq!(replay.run(&LetterFilter::new()).await.unwrap().processed, 1);
    assert_eq!(shipped(&world), ["e0", "e1"]);
}

#[cfg(feature = "kafka")]
#[test]
fn without_a_registry_a_handler_of_avro_is_a_mistake() {
    use crate::{Builder, Kafka};

    let build = |registry: Option<SchemaRegistry>| {
        let mut builder = Builder::new().kafka(Kafka::new("127.0.0.1:1")).group("g");
        if let Some(registry) = registry {
            builder = builder.schema_registry(registry);
        }
        let builder = builder.store(Memory::new()).state(Failures::default()).handler::<Ship>();
        builder.build().map(|_| ()).map_err(|error| (error.kind(), error.to_string()))
    };
    let (kind, text) = build(None).unwrap_err();
    assert!(kind == ErrorKind::Config && text.contains("`ship`"), "{text}");
    assert!(text.contains(".schema_registry(SchemaRegistry::new("), "{text}");
    let (kind, text) = build(Some(SchemaRegistry::new("registry:8081"))).unwrap_err();
    assert!(kind == ErrorKind::Config && text.contains("http://"), "{text}");
    assert_eq!(build(Some(SchemaRegistry::new("http://registry:8081"))), Ok(()));
}
