use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use super::broker::TOPIC;
use super::handlers::{Do, Gate, Order, Script, perform};
use super::harness::{World, ids, until};
use crate::context::Context;
use crate::dead_letter::{FailureClass, LetterFilter};
use crate::effects::{Begun, Probed, UnknownEnd};
use crate::error::{Error, ErrorKind};
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::format::decode_json;
use crate::group::Registered;
use crate::handler::{Call, EventOf, Handler, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::marker::MarkerState;
use crate::memory::{Memory, MemoryConnection, Point};
use crate::policy::{OnFailure, Policy, Retry};
use crate::state::{Needs, State};
use crate::store::Store as _;

/// The world outside: how often each event had its effect there, and what a probe says.
#[derive(Clone, Default)]
pub(super) struct Remote(Arc<(AtomicU32, AtomicU32)>);

impl Remote {
    pub(super) fn effects(&self) -> u32 {
        self.0.0.load(SeqCst)
    }
}

/// Has its effect in the world outside first, and does then what the script says.
pub(super) struct Charge;

impl Handler for Charge {
    type Store = Memory;
    type Input = One<Order>;
    const SCOPE: &'static str = "charge";

    fn needs(needs: &mut Needs) {
        <State<Script> as Param<'_, Self>>::needs(needs);
        <State<Remote> as Param<'_, Self>>::needs(needs);
        <&Context as Param<'_, Self>>::needs(needs);
    }

    fn key(event: &EventOf<Self>, _: Option<&Event>) -> Result<Key, KeyError> {
        Key::of(&event.id)
    }

    async fn probe(event: &EventOf<Self>, begun: &Begun) -> Result<Probed, Failure> {
        assert_eq!((begun.scope(), begun.key().as_str()), ("charge", event.id.as_str()));
        let remote = begun.state::<Remote>().unwrap();
        // The first time the remote side cannot be reached.
        match remote.0.1.fetch_add(1, SeqCst) {
            0 => Err(Failure::new("no answer")),
            _ if event.id == "e9" => Ok(Probed::Unknown),
            _ if remote.effects() > 0 => Ok(Probed::Done),
            _ => Ok(Probed::NotDone),
        }
    }

    async fn handle(One(order): One<Order>, mut call: Call<'_, Self>) -> Result<(), Failure> {
        let script = <State<Script> as Param<'_, Self>>::take(&mut call)?;
        let remote = <State<Remote> as Param<'_, Self>>::take(&mut call)?;
        let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        let effect = order.id.clone();
        remote.0.0.fetch_add(1, SeqCst);
        let done = perform("charge", order, effect, (&script, cx, tx)).await;
        if done.is_err() {
            // What is an error has had no effect.
            remote.0.0.fetch_sub(1, SeqCst);
        }
        done
    }
}

impl Subscriber for Charge {
    const TOPICS: &'static [&'static str] = &[TOPIC];

    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
        decode_json(&event)
    }
}

pub(super) fn charge(policy: Policy) -> Registered<Memory> {
    let mut charge = Registered::of::<Charge>();
    charge.policy = policy.retry(Retry::new().max(3));
    charge
}

pub(super) fn world(unknown: UnknownEnd) -> (World, Remote) {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(unknown);
    let world = World::with_state(vec![charge(policy)], 1, remote.clone());
    (world, remote)
}

pub(super) async fn state(world: &World, id: &str) -> Option<MarkerState> {
    let marker = world.store.marker("charge", &Key::new(id).unwrap()).await.unwrap();
    marker.map(|it| it.state)
}

/// Kills the lane's process while the handler is in the middle of this event.
pub(super) async fn killed_in(world: &World, id: &str) {
    let gate = Gate::new();
    world.script.on_in("charge", id, [Do::Wait(gate.clone())]);
    let lane = world.start(0);
    gate.reached().await;
    assert_eq!(state(world, id).await, Some(MarkerState::Begun));
    lane.kill().await;
}

pub(super) fn charges(world: &World) -> Vec<String> {
    world.store.rows("charge")
}

#[tokio::test(start_paused = true)]
async fn each_event_is_written_down_before_it_is_run_and_marked_after() {
    let (world, remote) = world(UnknownEnd::Never);
    world.broker.produce(0, ["e0", "e1", "e0", "e2"]);
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (3, ids(3)));
    assert_eq!(state(&world, "e2").await, Some(MarkerState::Processed));
    assert_eq!((world.counts().processed, world.counts().duplicates), (3, 1));
    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(remote.effects(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returned_an_error_is_tried_again_whatever_is_said_of_unknown_ends() {
    let (world, remote) = world(UnknownEnd::Never);
    world.script.on_in("charge", "e0", [Do::Fail, Do::Fail]);
    world.script.always("charge", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e0".into(), "e2".into()]));
    let letters = world.letters();
    assert_eq!((letters.len(), letters[0].3), (1, Some(FailureClass::Handler)));
    assert_eq!(state(&world, "e1").await, Some(MarkerState::Dead));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_a_failed_event_waits_leaves_no_doubt() {
    let (world, remote) = world(UnknownEnd::Never);
    world.script.on_in("charge", "e0", [Do::Fail]);
    world.broker.produce(0, ["e0"]);
    let lane = world.start(0);
    until(|| world.counts().retried == 1).await;
    lane.kill().await;
    assert_eq!(state(&world, "e0").await, None);
    world.drain(0).await;
    assert_eq!((remote.effects(), world.letters().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_process_died_is_never_repeated_if_that_is_said() {
    let (world, remote) = world(UnknownEnd::Never);
    world.broker.produce(0, ids(2));
    killed_in(&world, "e0").await;
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e1".to_owned()]));
    let letters = world.letters();
    assert_eq!((letters.len(), letters[0].3), (1, Some(FailureClass::UnknownEnd)));
    // A person has found out that nothing had happened.
    let replay = world.replay().state(remote.clone()).handler::<Charge>();
    let report = replay.run(&LetterFilter::new()).await.unwrap();
    assert_eq!((report.processed, charges(&world).len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_process_died_is_repeated_if_that_is_said() {
    let (world, remote) = world(UnknownEnd::Retry);
    world.broker.produce(0, ids(2));
    killed_in(&world, "e0").await;
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (3, ids(2)));
    assert!(world.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_not_repeated_before_its_time() {
    let (world, remote) = world(UnknownEnd::RetryAfter(Duration::from_secs(3600)));
    world.broker.produce(0, ids(2));
    killed_in(&world, "e0").await;
    let lane = world.start(0);
    super::harness::quiet(Duration::from_secs(60)).await;
    assert_eq!((remote.effects(), world.position(0)), (1, 0), "the lane waits");
    lane.finish().await;

    let (world, remote) = self::world(UnknownEnd::RetryAfter(Duration::ZERO));
    world.broker.produce(0, ids(2));
    killed_in(&world, "e0").await;
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (3, ids(2)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_finds_the_effect_spares_the_run_and_one_that_finds_none_repeats_it() {
    let (world, remote) = world(UnknownEnd::Probe);
    world.broker.produce(0, ids(2));
    killed_in(&world, "e0").await;
    world.drain(0).await;
    // Done: marked, without what the handler writes.
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e1".to_owned()]));
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Processed));
    assert_eq!(world.counts().retried, 1, "the first answer of the probe was an error");

    let (world, remote) = self::world(UnknownEnd::Probe);
    world.broker.produce(0, ids(2));
    killed_in(&world, "e0").await;
    remote.0.0.store(0, SeqCst);
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (2, ids(2)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_cannot_tell_makes_a_dead_letter() {
    let (world, _) = world(UnknownEnd::Probe);
    world.broker.produce(0, ["e9", "e1"]);
    killed_in(&world, "e9").await;
    world.drain(0).await;
    assert_eq!(charges(&world), ["e1"]);
    assert_eq!(world.letters()[0].3, Some(FailureClass::UnknownEnd));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_has_an_unknown_end_and_so_has_a_panic() {
    for act in [Do::Hang, Do::Panic] {
        let remote = Remote::default();
        let policy = Policy::new().unknown_end(UnknownEnd::Never).timeout(Duration::from_secs(5));
        let world = World::with_state(vec![charge(policy)], 1, remote.clone());
        world.script.on_in("charge", "e0", [act]);
        world.broker.produce(0, ids(2));
        world.drain(0).await;
        assert_eq!((remote.effects(), charges(&world)), (2, vec!["e1".to_owned()]));
        assert_eq!(world.letters()[0].3, Some(FailureClass::UnknownEnd));
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_after_the_handler_has_an_unknown_end() {
    let (world, remote) = world(UnknownEnd::Never);
    world.broker.produce(0, ids(2));
    world.store.faults().reject_commits(|rows| {
        let bad = rows.iter().any(|(_, value)| *value == "e0");
        bad.then(|| Error::new(ErrorKind::Store, "a deferred constraint"))
    });
    world.drain(0).await;
    assert_eq!((remote.effects(), charges(&world)), (2, vec!["e1".to_owned()]));
    assert_eq!(world.letters()[0].3, Some(FailureClass::UnknownEnd));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_writing_down_was_not_confirmed_is_known_as_its_own() {
    for landed in [true, false] {
        let (world, remote) = world(UnknownEnd::Never);
        world.broker.produce(0, ids(2));
        match landed {
            true => world.store.faults().lose_the_answer_of_a_commit(),
            false => world.store.faults().fail(Point::Commit, ErrorKind::UnknownCommit),
        }
        world.drain(0).await;
        assert_eq!((remote.effects(), charges(&world)), (2, ids(2)), "{landed}");
        assert!(world.letters().is_empty(), "{landed}");
    }
}

#[tokio::test(start_paused = true)]
async fn slices_write_down_their_attempts_too() {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(UnknownEnd::Never).slices(3);
    let world = World::with_state(vec![charge(policy)], 1, remote.clone());
    let events = ids(12).into_iter().enumerate().map(|(n, id)| (format!("c{}", n % 5), id));
    world.broker.produce_keyed(0, events);
    world.drain(0).await;
    let mut done = charges(&world);
    done.sort();
    let mut all = ids(12);
    all.sort();
    assert_eq!((remote.effects(), done), (12, all));
}

#[tokio::test(start_paused = true)]
async fn events_of_one_slice_are_written_down_one_by_one_however_many_wait() {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(UnknownEnd::Never).slices(2);
    let world = World::with_state(vec![charge(policy)], 1, remote.clone());
    let gate = Gate::new();
    world.script.on_in("charge", "e0", [Do::Wait(gate.clone())]);
    world.script.on_in("charge", "e3", [Do::Fail]);
    world.broker.produce_keyed(0, ids(5).into_iter().map(|id| ("c", id)));
    let lane = world.start(0);
    gate.reached().await;
    gate.open();
    until(|| charges(&world).len() == 5).await;
    lane.finish().await;
    assert_eq!(remote.effects(), 5, "nothing was repeated because a neighbour failed");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stops_at_failures_stops_at_an_unknown_end() {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(UnknownEnd::Never).on_failure(OnFailure::Stop);
    let world = World::with_state(vec![charge(policy)], 1, remote.clone());
    world.broker.produce(0, ids(3));
    killed_in(&world, "e0").await;
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(error.to_string().contains("its end is not known"), "{error}");
    assert_eq!((remote.effects(), world.position(0)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_another_attempt_holds_up_no_other_lane() {
    let remote = Remote::default();
    let policy = Policy::new().unknown_end(UnknownEnd::RetryAfter(Duration::from_secs(3600)));
    let world = World::with_state(vec![charge(policy)], 2, remote.clone());
    world.broker.produce(0, ["e0"]);
    // Two deaths make the lane careful: it works alone in its process then.
    killed_in(&world, "e0").await;
    let lane = world.start(0);
    super::harness::quiet(Duration::from_secs(5)).await;
    lane.kill().await;
    world.broker.produce(1, ["e1", "e2"]);
    let waiting = world.start(0);
    super::harness::quiet(Duration::from_secs(5)).await;
    world.drain(1).await;
    assert_eq!(charges(&world), ["e1", "e2"]);
    waiting.finish().await;
}
