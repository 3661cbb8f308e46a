//! Results that the store does not keep, or could not read again: a failure of the event, and no reason
//! to have an effect outside of the database again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::broker::TOPIC;
use super::handlers::{Do, Order, Script, perform};
use super::harness::{World, ids};
use crate::answer::Answers;
use crate::context::Context;
use crate::dead_letter::{FailureClass, LetterFilter};
use crate::effects::UnknownEnd;
use crate::error::ErrorKind;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::format::decode_json;
use crate::group::Registered;
use crate::handler::{Call, EventOf, Handler, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::marker::MarkerState;
use crate::memory::{Memory, MemoryConnection, Point};
use crate::outcome::Outcome;
use crate::policy::{Markers, MissingKey, PayloadCheck, Policy, Retry};
use crate::process::Processor;
use crate::state::{Needs, State};
use crate::store::Store as _;

/// How often the world outside was charged.
#[derive(Clone, Default)]
struct Remote(Arc<AtomicU32>);

impl Remote {
    fn charged(&self) -> u32 {
        self.0.load(SeqCst)
    }
}

macro_rules! handler {
    ($name:ident $scope:literal $policy:expr) => {
        /// Charges, and returns what the event is called.
        struct $name;

        impl Handler for $name {
            type Store = Memory;
            type Input = One<Order>;
            const SCOPE: &'static str = $scope;
            const STORES_RESULT: bool = true;
            const POLICY: Policy = $policy.retry(Retry::new().max(3)).markers(Markers::Rows);

            fn needs(needs: &mut Needs) {
                <State<Script> as Param<'_, Self>>::needs(needs);
                <State<Remote> as Param<'_, Self>>::needs(needs);
                <&Context as Param<'_, Self>>::needs(needs);
            }

            fn key(event: &EventOf<Self>, _: Option<&Event>) -> Result<Key, KeyError> {
                Key::of(&event.id.replace('\0', "0"))
            }

            async fn handle(
                One(order): One<Order>,
                mut call: Call<'_, Self>,
            ) -> Result<(), Failure> {
                let answer = call.answer()?;
                let script = <State<Script> as Param<'_, Self>>::take(&mut call)?;
                let remote = <State<Remote> as Param<'_, Self>>::take(&mut call)?;
                let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
                let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
                let (id, effect) = (order.id.clone(), order.id.clone());
                perform($scope, order, effect, (&script, cx, tx)).await?;
                remote.0.fetch_add(1, SeqCst);
                answer.keep(&id, 100)
            }
        }

        impl Subscriber for $name {
            const TOPICS: &'static [&'static str] = &[TOPIC];

            fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
                decode_json(&event)
            }
        }

        impl crate::handler::KeyedByEvent for $name {}

        impl Answers for $name {
            type Answer = String;
        }
    };
}

handler!(Plain "plain" Policy::new());
handler!(Never "never" Policy::new().unknown_end(UnknownEnd::Never));
handler!(Again "again" Policy::new().unknown_end(UnknownEnd::Retry));
handler!(Compared "compared" Policy::new()
    .unknown_end(UnknownEnd::Never)
    .payload_check(PayloadCheck::DeadLetter));
handler!(Torn "torn" Policy::new()
    .unknown_end(UnknownEnd::Never)
    .missing_key(MissingKey::ProcessWithoutGuarantee));

fn world<H: Subscriber<Store = Memory>>() -> (World, Remote) {
    let remote = Remote::default();
    let world = World::with_state(vec![Registered::of::<H>()], 1, remote.clone());
    (world, remote)
}

/// The next so many times nothing is kept, for this reason.
fn refuse(world: &World, times: usize, kind: ErrorKind) {
    for _ in 0..times {
        world.store.faults().fail(Point::KeepResults, kind);
    }
}

fn classes(world: &World) -> Vec<(String, FailureClass)> {
    world.letters().into_iter().map(|it| (it.1, it.3.unwrap())).collect()
}

async fn state(world: &World, scope: &str, id: &str) -> Option<MarkerState> {
    world.store.marker(scope, &Key::new(id).unwrap()).await.unwrap().map(|it| it.state)
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_is_tried_as_often_as_the_handler_says() {
    let (world, remote) = world::<Plain>();
    refuse(&world, 3, ErrorKind::Store);
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    let letters = world.store.look(|view| view.letters());
    let cause = letters[0].cause.as_ref().unwrap();
    assert_eq!((cause.class, cause.attempts), (FailureClass::Handler, 3));
    assert!(cause.error.contains("KeepResults"), "{}", cause.error);
    assert_eq!((remote.charged(), world.store.rows("plain").len()), (3, 0));
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    assert_eq!(world.store.rows("plain"), ["e1"], "the lane goes on");
}

#[tokio::test(start_paused = true)]
async fn of_several_results_the_one_that_is_refused_is_found() {
    let (world, _) = world::<Plain>();
    // Four of them, two of them, each of these alone: the first is the culprit.
    refuse(&world, 5, ErrorKind::Store);
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    assert_eq!(classes(&world), [("e0".to_owned(), FailureClass::Handler)]);
    assert_eq!(world.store.rows("plain"), ["e1", "e2", "e3"]);
    for id in ["e1", "e2", "e3"] {
        let marker = world.store.marker("plain", &Key::new(id).unwrap()).await.unwrap().unwrap();
        assert_eq!(marker.result, Some(id.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_passes_by_itself_is_no_attempt() {
    let (world, _) = world::<Plain>();
    refuse(&world, 10, ErrorKind::Transient);
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    assert_eq!((world.store.rows("plain").len(), world.letters().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_not_every_store_keeps_is_refused_at_once_and_has_had_its_effect() {
    let (world, remote) = world::<Again>();
    world.broker.produce_raw(0, [r#"{"id":"a\u0000b"}"#, r#"{"id":"e1"}"#].map(str::to_owned));
    world.drain(0).await;
    assert_eq!(classes(&world), [("a\0b".to_owned(), FailureClass::Handler)]);
    assert_eq!((remote.charged(), world.store.rows("again")), (2, vec!["e1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn an_effect_outside_is_not_repeated_where_its_result_was_not_kept() {
    for kind in [ErrorKind::Store, ErrorKind::Transient] {
        let (world, remote) = world::<Never>();
        refuse(&world, 1, kind);
        world.broker.produce(0, ["e0", "e1"]);
        world.drain(0).await;
        assert_eq!(classes(&world), [("e0".to_owned(), FailureClass::UnknownEnd)], "{kind:?}");
        assert_eq!((remote.charged(), world.store.rows("never")), (2, vec!["e1".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_outside_is_repeated_as_often_as_the_handler_says() {
    let (world, remote) = world::<Again>();
    refuse(&world, 100, ErrorKind::Store);
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    assert_eq!(classes(&world), [("e0".to_owned(), FailureClass::Handler)]);
    assert_eq!(remote.charged(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_repeat_an_effect_whose_result_was_not_kept() {
    for kind in [ErrorKind::Store, ErrorKind::Transient, ErrorKind::HandlerBroke] {
        let (world, remote) = world::<Never>();
        let processor = Processor::new(world.store.clone()).state(world.script.clone());
        let processor = processor.state(remote.clone());
        refuse(&world, 1, kind);
        let error = processor.answer::<Never>(Order::new("e0")).await.unwrap_err();
        let expected = if kind == ErrorKind::Store { ErrorKind::Handler } else { kind };
        assert_eq!(error.kind(), expected, "{error:?}");
        assert!(error.report().contains("KeepResults"), "{error:?}");
        assert_eq!(state(&world, "never", "e0").await, Some(MarkerState::Begun), "{kind:?}");
        let again = processor.answer::<Never>(Order::new("e0")).await.unwrap_err();
        assert_eq!((again.kind(), remote.charged()), (ErrorKind::UnknownEnd, 1), "{kind:?}");
        // What returned an error has failed, and is taken back.
        world.script.on_in("never", "e1", [Do::Fail]);
        processor.answer::<Never>(Order::new("e1")).await.unwrap_err();
        let answer = processor.answer::<Never>(Order::new("e1")).await.unwrap();
        assert_eq!(answer, Outcome::Processed("e1".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_notes_a_result_that_is_not_kept_and_goes_on() {
    let (world, remote) = world::<Plain>();
    for id in ["e0", "e1"] {
        world.script.always("plain", id, Do::Fail);
    }
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    world.script.mend();
    refuse(&world, 1, ErrorKind::Store);
    let replay = world.replay().state(remote.clone()).handler::<Plain>();
    let report = replay.run(&LetterFilter::new()).await.unwrap();
    assert_eq!((report.processed, report.failed.len()), (1, 1));
    assert!(report.failed[0].1.contains("KeepResults"), "{:?}", report.failed);
    refuse(&world, 2, ErrorKind::Transient);
    assert_eq!(replay.run(&LetterFilter::new()).await.unwrap().processed, 1);
    assert_eq!(world.store.rows("plain"), ["e1", "e0"]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_does_not_repeat_an_effect_whose_result_was_not_kept() {
    for kind in [ErrorKind::Store, ErrorKind::Transient] {
        let (world, remote) = world::<Never>();
        world.script.always("never", "e0", Do::FailForGood);
        world.broker.produce(0, ["e0"]);
        world.drain(0).await;
        world.script.mend();
        refuse(&world, 1, kind);
        let replay = world.replay().state(remote.clone()).handler::<Never>();
        let report = replay.run(&LetterFilter::new()).await.unwrap();
        assert_eq!((report.processed, report.failed.len(), remote.charged()), (0, 1, 1));
        assert!(report.failed[0].1.contains(crate::effects::UNKNOWN), "{:?}", report.failed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_a_replay_is_known_by_the_payload_that_it_is_of() {
    let event = |cents: u32| serde_json::json!({ "id": "e0", "cents": cents }).to_string();
    let (world, remote) = world::<Compared>();
    world.script.always("compared", "e0", Do::FailForGood);
    world.broker.produce_raw(0, [event(1)]);
    world.drain(0).await;
    world.script.mend();
    world.dead_letters().edit(1, Some(event(2).as_bytes()), "too few").await.unwrap();
    // It dies with its effect, before it is committed.
    let keep = world.store.faults().pause(Point::KeepResults);
    let replay = world.replay().state(remote.clone()).handler::<Compared>();
    let dying = tokio::spawn(async move { replay.run(&LetterFilter::new()).await.map(drop) });
    keep.reached().await;
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    assert_eq!(remote.charged(), 1);
    // Somebody found out that it had its effect, and knows no payload.
    let marked = world.store.mark_processed("compared", "e0", None).await.unwrap();
    assert_eq!(marked, Outcome::Settled);
    world.broker.produce_raw(0, [event(2)]);
    world.drain(0).await;
    assert_eq!(world.counts().key_reused, 0);
    world.broker.produce_raw(0, [event(3)]);
    world.drain(0).await;
    assert_eq!((world.counts().key_reused, remote.charged()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_has_effects_outside_cannot_work_what_has_no_key_without_kafka_either() {
    let (world, remote) = world::<Never>();
    let processor = Processor::new(world.store.clone()).state(world.script.clone());
    let processor = processor.state(remote.clone());
    let error = processor.process::<Torn>(Order::new("e0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`missing_key`"), "{error}");
    let replay = world.replay().state(remote.clone()).handler::<Torn>();
    let error = replay.run(&LetterFilter::new()).await.unwrap_err();
    assert_eq!((error.kind(), remote.charged()), (ErrorKind::Config, 0));
}
