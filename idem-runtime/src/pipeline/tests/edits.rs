//! Letters that are edited where their keys are: in headers, and in the message key.

use super::broker::TOPIC;
use super::handlers::{Do, Order, Script, perform};
use super::harness::{World, id_of};
use crate::context::Context;
use crate::dead_letter::{FailureClass, LetterAction, LetterFilter, LetterState};
use crate::edit::LetterEdit;
use crate::error::ErrorKind;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::format::decode_json;
use crate::group::Registered;
use crate::handler::{Call, EventOf, Handler, KeySource, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::memory::{Memory, MemoryConnection, Point};
use crate::policy::{Markers, OnFailure, PayloadCheck, Policy, Retry};
use crate::state::{Needs, State};
use crate::store::Store as _;

/// Its key is a header and the message key.
struct Send;

impl Handler for Send {
    type Store = Memory;
    type Input = One<Order>;
    const SCOPE: &'static str = "send";
    const KEY: KeySource = KeySource::Message;

    fn needs(needs: &mut Needs) {
        <State<Script> as Param<'_, Self>>::needs(needs);
        <&Context as Param<'_, Self>>::needs(needs);
    }

    fn key(_: &EventOf<Self>, source: Option<&Event>) -> Result<Key, KeyError> {
        let source = source.unwrap();
        let text = |bytes: Option<&[u8]>| {
            let missing = || KeyError::missing("there is none");
            bytes.map(|it| String::from_utf8_lossy(it).into_owned()).ok_or_else(missing)
        };
        let header = text(source.headers.get("id"))?;
        Key::new(format!("{header}-{}", text(source.message_key.as_deref())?))
    }

    async fn handle(One(order): One<Order>, mut call: Call<'_, Self>) -> Result<(), Failure> {
        let script = <State<Script> as Param<'_, Self>>::take(&mut call)?;
        let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        let effect = cx.key().to_string();
        perform("send", order, effect, (&script, cx, tx)).await
    }
}

impl Subscriber for Send {
    const TOPICS: &'static [&'static str] = &[TOPIC];

    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
        decode_json(&event)
    }
}

fn world(policy: Policy) -> World {
    let mut send = Registered::of::<Send>();
    send.policy = policy.retry(Retry::never()).markers(Markers::Rows);
    World::of(vec![send], 1)
}

fn event(id: &str, header: Option<&'static str>, message_key: Option<&'static str>) -> Event {
    let payload = serde_json::json!({ "id": id }).to_string();
    let mut event = Event::new(TOPIC.into(), 0, 0, payload);
    event.headers = header.iter().map(|value| ("id", Some(*value))).collect();
    event.message_key = message_key.map(Into::into);
    event
}

async fn replayed(world: &World) -> (u64, u64, usize) {
    let replay = world.replay().handler::<Send>();
    let report = replay.run(&LetterFilter::new()).await.unwrap();
    (report.processed, report.superseded, report.failed.len())
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_key_in_a_header_or_message_key_is_given_one_and_worked() {
    let world = world(Policy::new());
    world.broker.append_events(0, [event("a", None, Some("m")), event("b", Some("h"), None)]);
    world.drain(0).await;
    assert_eq!(replayed(&world).await, (0, 0, 2), "they have no keys");
    let letters = world.dead_letters();
    letters.edit_event(1, &LetterEdit::new().header("id", "x"), "it had none").await.unwrap();
    letters.edit_event(2, &LetterEdit::new().message_key("y"), "it had none").await.unwrap();
    assert_eq!(replayed(&world).await, (2, 0, 0));
    assert_eq!(world.store.rows("send"), ["x-m", "h-y"]);
    let notes = letters.history(2).await.unwrap();
    let edited = notes.iter().find(|note| note.action == LetterAction::Edited).unwrap();
    assert_eq!(edited.note.as_deref(), Some("message key: it had none"));
    // As any event with that key.
    world.broker.append_events(0, [event("c", Some("x"), Some("m"))]);
    world.drain(0).await;
    assert_eq!(world.store.rows("send").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_a_header_that_was_given_to_two_events_is_another_once_it_was_edited() {
    let world = world(Policy::new().payload_check(PayloadCheck::DeadLetter));
    world.broker.append_events(0, [event("a", Some("h"), Some("m"))]);
    world.drain(0).await;
    world.broker.append_events(0, [event("b", Some("h"), Some("m"))]);
    world.drain(0).await;
    assert_eq!(replayed(&world).await, (0, 0, 1));
    let edit = LetterEdit::new().header("id", "h2");
    world.dead_letters().edit_event(1, &edit, "h was given away twice").await.unwrap();
    assert_eq!(replayed(&world).await, (1, 0, 0));
    assert_eq!(world.store.rows("send"), ["h-m", "h2-m"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_keeps_its_message_key_and_its_order_and_can_have_other_headers() {
    let world = world(Policy::new().on_failure(OnFailure::PARK_KEY));
    world.script.always("send", "a", Do::Fail);
    let events = [event("a", Some("1"), Some("m")), event("b", Some("2"), Some("m"))];
    world.broker.append_events(0, events);
    world.drain(0).await;
    let letters = world.dead_letters();
    for id in [1, 2] {
        let other = LetterEdit::new().message_key("n").header("id", "no");
        let error = letters.edit_event(id, &other, "wrong").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("by its message key"), "{error}");
        let edit = LetterEdit::new().header("id", format!("{id}{id}"));
        letters.edit_event(id, &edit, "a typo").await.unwrap();
    }
    world.script.mend();
    assert_eq!(replayed(&world).await, (1, 0, 0), "the other waits for its lane");
    world.drain(0).await;
    super::harness::until(|| world.store.rows("send").len() == 2).await;
    assert_eq!(world.store.rows("send"), ["11-m", "22-m"]);
    let settled = world.store.look(|view| view.letters());
    assert!(settled.iter().all(|it| it.state == LetterState::Replayed), "{settled:?}");
    let again = letters.edit_event(1, &LetterEdit::new().tombstone(), "too late").await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn a_released_event_whose_header_was_edited_after_it_was_read_is_read_again() {
    let world = world(Policy::new().on_failure(OnFailure::PARK_KEY));
    world.script.always("send", "a", Do::Fail);
    let events = [event("a", Some("1"), Some("m")), event("b", Some("2"), Some("m"))];
    world.broker.append_events(0, events);
    world.drain(0).await;
    world.script.mend();
    assert_eq!(replayed(&world).await, (1, 0, 0));
    let begin = world.store.faults().pause(Point::Begin);
    let lane = world.start(0);
    begin.reached().await;
    let edit = LetterEdit::new().header("id", "22");
    world.dead_letters().edit_event(2, &edit, "a typo").await.unwrap();
    begin.release();
    super::harness::until(|| world.store.rows("send").len() == 2).await;
    assert_eq!(world.store.rows("send"), ["1-m", "22-m"]);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_released_event_whose_headers_were_edited_and_fails_is_the_letter_that_it_was() {
    // The second time without a key.
    for header in [Some("22"), None] {
        let world = world(Policy::new().on_failure(OnFailure::PARK_KEY));
        world.script.always("send", "a", Do::Fail);
        let events = [event("a", Some("1"), Some("m")), event("b", Some("2"), Some("m"))];
        world.broker.append_events(0, events);
        world.drain(0).await;
        let edit = header.map_or(LetterEdit::new().without_header("id"), |header| {
            LetterEdit::new().header("id", header)
        });
        world.dead_letters().edit_event(2, &edit, "a typo").await.unwrap();
        world.script.mend();
        world.script.always("send", "b", Do::Fail);
        assert_eq!(replayed(&world).await, (1, 0, 0));
        let lane = world.start(0);
        let states = || world.letters().into_iter().map(|it| it.2).collect::<Vec<_>>();
        super::harness::until(|| states() == [LetterState::Replayed, LetterState::Parked]).await;
        let letter = world.store.look(|view| view.letters()).remove(1);
        assert_eq!(letter.key.as_ref().map(Key::as_str), Some("2-m"), "of the event as it came");
        lane.finish().await;

        let forgotten = world.store.forget_marker("send", &Key::new("2-m").unwrap()).await;
        assert_eq!(forgotten.unwrap_err().kind(), ErrorKind::GivenUp, "it is open");
        world.script.mend();
        let edit = LetterEdit::new().header("id", "22");
        world.dead_letters().edit_event(2, &edit, "a typo").await.unwrap();
        assert_eq!(replayed(&world).await, (1, 0, 0));
        assert_eq!(world.store.rows("send"), ["1-m", "22-m"]);
        assert_eq!(states(), [LetterState::Replayed; 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_is_found_by_the_header_that_it_was_given() {
    let world = world(Policy::new());
    world.broker.append_events(0, [event("a", None, Some("m"))]);
    world.drain(0).await;
    let edit = LetterEdit::new().header("correlation-id", "c1");
    world.dead_letters().edit_event(1, &edit, "it had none").await.unwrap();
    let found = world.store.letters(&LetterFilter::new().correlation_id("c1")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(id_of(found[0].event.payload.as_deref().unwrap()), "a");
    assert_eq!(found[0].cause.as_ref().unwrap().class, FailureClass::Key);
}
