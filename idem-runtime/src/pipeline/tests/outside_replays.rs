//! Replays of letters whose handler has its effects outside of the database.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::handlers::{Do, Gate};
use super::harness::{World, ids, quiet};
use super::outside::{Charge, Remote, charges, killed_in, state, world};
use crate::dead_letter::{FailureClass, LetterAction, LetterFilter, LetterState};
use crate::effects::{UnknownEnd, can_take};
use crate::error::ErrorKind;
use crate::marker::MarkerState;
use crate::memory::{Memory, Point};
use crate::policy::Policy;
use crate::replay::{Replay, ReplayReport};
use crate::store::Store as _;

/// A letter of `e0`, at which nothing was run but by the lane.
async fn letter(unknown: UnknownEnd) -> (World, Remote) {
    let (world, remote) = world(unknown);
    world.script.on_in("charge", "e0", [Do::FailForGood]);
    world.broker.produce(0, ids(1));
    world.drain(0).await;
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Dead));
    (world, remote)
}

fn replay_of(world: &World, remote: &Remote, policy: Policy) -> Replay<Memory> {
    let mut replay = world.replay().state(remote.clone()).handler::<Charge>();
    for handler in replay.handlers_mut() {
        handler.policy = policy;
    }
    replay
}

async fn replayed(world: &World, remote: &Remote, unknown: UnknownEnd) -> ReplayReport {
    let replay = replay_of(world, remote, Policy::new().unknown_end(unknown));
    replay.run(&LetterFilter::new()).await.unwrap()
}

fn spawned(world: &World, remote: &Remote, unknown: UnknownEnd) -> JoinHandle<ReplayReport> {
    let replay = replay_of(world, remote, Policy::new().unknown_end(unknown));
    tokio::spawn(async move { replay.run(&LetterFilter::new()).await.unwrap() })
}

/// A replay whose process dies in the middle of the handler.
async fn died(world: &World, remote: &Remote, unknown: UnknownEnd) {
    let gate = Gate::new();
    world.script.on_in("charge", "e0", [Do::Wait(gate.clone())]);
    let replay = spawned(world, remote, unknown);
    gate.reached().await;
    assert_eq!(state(world, "e0").await, Some(MarkerState::Begun));
    replay.abort();
    assert!(replay.await.unwrap_err().is_cancelled());
    assert_eq!(state(world, "e0").await, Some(MarkerState::Begun));
}

async fn notes(world: &World) -> Vec<LetterAction> {
    let id = world.store.look(|view| view.letters())[0].id;
    let notes = world.store.history(id).await.unwrap();
    notes.into_iter().map(|note| note.action).collect()
}

#[tokio::test(start_paused = true)]
async fn a_replay_whose_process_died_is_not_repeated_before_a_person_was_told() {
    let unknown = UnknownEnd::Never;
    let (world, remote) = letter(unknown).await;
    died(&world, &remote, unknown).await;
    let began = Instant::now();
    let report = replayed(&world, &remote, unknown).await;
    assert!(began.elapsed() >= can_take(None), "the other may go on");
    assert!(report.failed[0].1.contains("its end is not known"), "{report:?}");
    assert_eq!((remote.effects(), state(&world, "e0").await), (1, Some(MarkerState::Dead)));
    assert_eq!(notes(&world).await, [LetterAction::ReplayFailed]);
    // Who replays it now has found out that nothing had happened.
    assert_eq!(replayed(&world, &remote, unknown).await.processed, 1);
    assert_eq!((remote.effects(), charges(&world)), (2, ids(1)));
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Processed));
}

#[tokio::test(start_paused = true)]
async fn a_replay_whose_process_died_is_repeated_or_asked_about_as_the_handler_says() {
    let (world, remote) = letter(UnknownEnd::Retry).await;
    died(&world, &remote, UnknownEnd::Retry).await;
    assert_eq!(replayed(&world, &remote, UnknownEnd::Retry).await.processed, 1);
    assert_eq!((remote.effects(), charges(&world)), (2, ids(1)));

    let hour = UnknownEnd::RetryAfter(Duration::from_secs(3600));
    let (world, remote) = letter(hour).await;
    died(&world, &remote, hour).await;
    let report = replayed(&world, &remote, hour).await;
    assert!(report.failed[0].1.contains("again in"), "{report:?}");
    assert_eq!((remote.effects(), state(&world, "e0").await), (1, Some(MarkerState::Begun)));
    quiet(Duration::from_secs(3600)).await;
    assert_eq!(replayed(&world, &remote, hour).await.processed, 1);

    let (world, remote) = letter(UnknownEnd::Probe).await;
    died(&world, &remote, UnknownEnd::Probe).await;
    let report = replayed(&world, &remote, UnknownEnd::Probe).await;
    assert!(report.failed[0].1.contains("no answer"), "the probe failed: {report:?}");
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Begun), "it is asked again");
    // It had happened: the letter is settled, and the handler not run.
    assert_eq!(replayed(&world, &remote, UnknownEnd::Probe).await.processed, 1);
    assert_eq!((remote.effects(), charges(&world).len()), (1, 0));
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Processed));
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_found_the_effect_and_could_not_say_so_asks_again() {
    let (world, remote) = letter(UnknownEnd::Probe).await;
    died(&world, &remote, UnknownEnd::Probe).await;
    let _ = replayed(&world, &remote, UnknownEnd::Probe).await;
    world.store.faults().fail(Point::SettleLetter, ErrorKind::Store);
    let replay = replay_of(&world, &remote, Policy::new().unknown_end(UnknownEnd::Probe));
    assert!(replay.run(&LetterFilter::new()).await.is_err());
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Begun));
    assert_eq!(replayed(&world, &remote, UnknownEnd::Probe).await.processed, 1);
    assert_eq!((remote.effects(), charges(&world).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_failed_leaves_the_marker_as_it_was() {
    let unknown = UnknownEnd::Never;
    for act in [Do::Fail, Do::Panic, Do::Hang] {
        let (world, remote) = letter(unknown).await;
        world.script.on_in("charge", "e0", [act.clone()]);
        let policy = Policy::new().unknown_end(unknown).timeout(Duration::from_secs(5));
        let report = replay_of(&world, &remote, policy).run(&LetterFilter::new()).await.unwrap();
        assert_eq!(report.failed.len(), 1, "{report:?}");
        let told = report.failed[0].1.contains("its end is not known");
        assert_eq!(told, !matches!(act, Do::Fail), "{report:?}");
        assert_eq!(state(&world, "e0").await, Some(MarkerState::Dead));
        // At once, because nobody's attempt goes on.
        let began = Instant::now();
        assert_eq!(replayed(&world, &remote, unknown).await.processed, 1);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(charges(&world), ids(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_one_effect_whatever_fails_of_the_database() {
    let points =
        [Point::Begin, Point::Known, Point::Claim, Point::LockLetter, Point::Seal, Point::Commit];
    for point in points {
        for later in [false, true] {
            let unknown = UnknownEnd::Never;
            let (world, remote) = letter(unknown).await;
            let faults = world.store.faults();
            match later {
                // It is looked at once.
                true if point == Point::Known => continue,
                false => faults.fail(point, ErrorKind::Transient),
                true if point == Point::Commit => faults.lose_the_answer_of_a_commit(),
                true => {
                    // The second time it comes there.
                    let pause = faults.pause(point);
                    let replay = spawned(&world, &remote, unknown);
                    pause.reached().await;
                    let second = faults.pause(point);
                    pause.release();
                    second.reached().await;
                    faults.fail(point, ErrorKind::Transient);
                    second.release();
                    let report = replay.await.unwrap();
                    let is_known = report.processed == 1;
                    // After the handler was run, nobody knows.
                    assert_eq!(is_known, point != Point::Seal, "{point:?} {report:?}");
                    assert_eq!(remote.effects(), 1, "{point:?}");
                    let state = state(&world, "e0").await;
                    let expected =
                        if is_known { MarkerState::Processed } else { MarkerState::Dead };
                    assert_eq!(state, Some(expected), "{point:?}");
                    continue;
                }
            }
            assert_eq!(replayed(&world, &remote, unknown).await.processed, 1, "{point:?} {later}");
            assert_eq!((remote.effects(), charges(&world)), (1, ids(1)), "{point:?} {later}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_replays_at_once_one_waits_for_the_other() {
    let unknown = UnknownEnd::Never;
    let (world, remote) = letter(unknown).await;
    let first = world.store.faults().pause(Point::Begin);
    let one = spawned(&world, &remote, unknown);
    first.reached().await;
    let begun = world.store.faults().pause(Point::Begin);
    first.release();
    begun.reached().await;
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Begun));
    let two = spawned(&world, &remote, unknown);
    quiet(Duration::from_secs(30)).await;
    assert!(!two.is_finished());
    begun.release();
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!((one.processed, two.settled), (1, 1), "{one:?} {two:?}");
    assert_eq!((remote.effects(), charges(&world)), (1, ids(1)));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_was_corrected_after_the_replay_began_is_replayed_as_it_is() {
    let unknown = UnknownEnd::Never;
    let (world, remote) = letter(unknown).await;
    let first = world.store.faults().pause(Point::Begin);
    let replay = spawned(&world, &remote, unknown);
    first.reached().await;
    let begun = world.store.faults().pause(Point::Begin);
    first.release();
    begun.reached().await;
    let id = world.store.look(|view| view.letters())[0].id;
    let payload = br#"{"id":"e7"}"#;
    world.dead_letters().edit(id, Some(payload), "it is another").await.unwrap();
    begun.release();
    assert_eq!(replay.await.unwrap().processed, 1);
    assert_eq!((remote.effects(), charges(&world)), (1, vec!["e7".to_owned()]));
    assert_eq!(state(&world, "e7").await, Some(MarkerState::Processed));
    assert_eq!(state(&world, "e0").await, Some(MarkerState::Dead));
}

#[tokio::test(start_paused = true)]
async fn a_lane_waits_for_a_replay_of_its_event() {
    let unknown = UnknownEnd::Never;
    let (world, remote) = letter(unknown).await;
    let first = world.store.faults().pause(Point::Begin);
    let replay = spawned(&world, &remote, unknown);
    first.reached().await;
    let begun = world.store.faults().pause(Point::Begin);
    first.release();
    begun.reached().await;
    world.broker.produce(0, ["e0"]);
    let lane = world.start(0);
    quiet(Duration::from_secs(30)).await;
    assert_eq!((world.position(0), remote.effects()), (1, 0));
    begun.release();
    assert_eq!(replay.await.unwrap().processed, 1);
    world.worked(0, 2).await;
    assert_eq!((remote.effects(), world.counts().duplicates), (1, 1));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_whose_handler_lost_its_word_tells_that_the_end_is_not_known() {
    let (world, remote) = letter(UnknownEnd::Retry).await;
    died(&world, &remote, UnknownEnd::Retry).await;
    let replay = replay_of(&world, &remote, Policy::new());
    let report = replay.run(&LetterFilter::new()).await.unwrap();
    assert!(report.failed[0].1.contains("its end is not known"), "{report:?}");
    assert_eq!((report.superseded, state(&world, "e0").await), (0, Some(MarkerState::Dead)));
    assert_eq!(world.letters()[0].2, LetterState::Dead);
    assert_eq!(replay.run(&LetterFilter::new()).await.unwrap().processed, 1);
    assert_eq!(charges(&world), ids(1));
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_an_unknown_end_is_written_down_when_it_is_replayed() {
    let unknown = UnknownEnd::Never;
    let (world, remote) = world(unknown);
    world.broker.produce(0, ids(1));
    killed_in(&world, "e0").await;
    world.drain(0).await;
    assert_eq!(world.letters()[0].3, Some(FailureClass::UnknownEnd));
    died(&world, &remote, unknown).await;
    assert_eq!(replayed(&world, &remote, unknown).await.failed.len(), 1);
    assert_eq!(remote.effects(), 2, "the second crash did not repeat it");
}
