//! A process that dies is lanes that are dropped where they stand, and a new owner with its name.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::handlers::{Bill, Do, Gate};
use super::harness::{Process, Running, World, ids, quiet, until};
use super::slices::{SLICES, key};
use crate::dead_letter::{FailureClass, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::memory::Point;
use crate::policy::{OnFailure, Policy, Retry};

fn world() -> World {
    World::with(Policy::new())
}

/// One life of the process `a` with the lanes of these partitions. It dies when a handler meets the
/// event that kills; answers whether it did, or came to the end of its logs.
async fn life(world: &World, partitions: i32, killers: &[&str]) -> bool {
    let (process, gate) = (reborn(world), Gate::new());
    world.script.mend();
    for killer in killers {
        world.script.always("bill", killer, Do::Wait(gate.clone()));
    }
    let client = Client::new(&world.broker);
    let lanes: Vec<Running> =
        (0..partitions).map(|it| world.start_in(&process, it, &client)).collect();
    until(|| lanes.iter().all(|lane| lane.seat.held().is_some())).await;
    let done = until(|| (0..partitions).all(|it| world.position(it) == world.end(it)));
    let died = tokio::select! {
        biased;
        () = gate.reached() => true,
        () = done => false,
    };
    for lane in lanes {
        if died { lane.kill().await } else { lane.finish().await }
    }
    died
}

/// The process with the name `a`, started again.
fn reborn(world: &World) -> Process {
    Process { care: Arc::default(), ..world.process("a") }
}

pub(super) async fn lives(world: &World, partitions: i32, killers: &[&str]) -> usize {
    let mut deaths = 0;
    while life(world, partitions, killers).await {
        deaths += 1;
        assert!(deaths < 50, "it dies for ever");
    }
    deaths
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_its_process_is_found_and_becomes_a_dead_letter() {
    let world = world();
    world.broker.produce(0, ids(10));
    let deaths = lives(&world, 1, &["e4"]).await;
    assert_eq!(deaths, 2 + 3, "two in which nobody looked, and three alone");
    assert_eq!(world.letters_in(LetterState::Dead), ["e4"]);
    let letter = &world.store.look(|view| view.letters())[0];
    let cause = letter.cause.as_ref().unwrap();
    assert_eq!((cause.class, cause.attempts), (FailureClass::Crash, 3));
    assert_eq!(world.bills().len(), 9);
    assert_eq!((world.counts().quarantined, world.counts().dead_lettered), (1, 1));
    let row = world.row(0);
    assert!(row.attempts.is_empty(), "{row:?}");
}

#[tokio::test(start_paused = true)]
async fn the_innocent_of_the_same_batch_are_not_blamed() {
    let world = world();
    world.broker.produce(0, ids(10));
    lives(&world, 1, &["e0", "e9"]).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e0", "e9"]);
    assert_eq!(world.bills(), ids(10)[1..9]);
}

#[tokio::test(start_paused = true)]
async fn of_two_lanes_one_event_is_in_flight_while_one_of_them_is_careful() {
    let world = World::of(vec![Registered::of::<Bill>()], 2);
    world.broker.produce(0, ids(6));
    world.broker.produce(1, (0..6).map(|n| format!("f{n}")));
    for _ in 0..2 {
        assert!(life(&world, 2, &["e3"]).await);
    }
    let client = Client::new(&world.broker);
    let process = reborn(&world);
    world.script.mend();
    for id in ids(6).into_iter().chain((0..6).map(|n| format!("f{n}"))) {
        world.script.always("bill", &id, Do::Nap);
    }
    world.script.most_running();
    let lanes = [0, 1].map(|it| world.start_in(&process, it, &client));
    until(|| (0..2).all(|it| world.row(it).deaths == 2 || world.position(it) == 6)).await;
    until(|| (0..2).all(|it| world.position(it) == 6)).await;
    assert_eq!(world.script.most_running(), 1);
    assert_eq!(world.bills().len(), 12);
    for lane in lanes {
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_lane_is_not_blamed_for_the_death_of_its_process() {
    let world = World::of(vec![Registered::of::<Bill>()], 2);
    world.broker.produce(0, ids(6));
    world.broker.produce(1, (0..6).map(|n| format!("f{n}")));
    lives(&world, 2, &["e3"]).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e3"]);
    assert_eq!(world.bills().len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_is_no_death() {
    let world = world();
    for n in 0..10 {
        world.broker.produce(0, [format!("e{n}")]);
        world.drain(0).await;
    }
    assert_eq!(world.row(0).deaths, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stopped_at_an_event_is_no_death() {
    let world = World::with(Policy::new().on_failure(OnFailure::Stop).retry(Retry::never()));
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    for _ in 0..5 {
        assert_eq!(world.start(0).stopped().await.kind(), ErrorKind::Stopped);
    }
    assert_eq!(world.row(0).deaths, 0);
}

#[tokio::test(start_paused = true)]
async fn progress_makes_the_deaths_before_it_forgotten() {
    let mut world = world();
    // As many as are worked carefully.
    world.settings.max_batch = 500;
    for n in 0..5 {
        for deaths in 0..2 {
            let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
            until(|| lane.seat.held().is_some()).await;
            assert_eq!(world.row(0).deaths, deaths, "{n}");
            lane.kill().await;
        }
        world.broker.produce(0, (0..500).map(|it| format!("e{n}-{it}")));
        world.drain(0).await;
        assert_eq!(world.row(0).deaths, 0);
    }
    assert!(world.letters().is_empty());
    assert_eq!(world.bills().len(), 2500);
}

#[tokio::test(start_paused = true)]
async fn a_careful_lane_becomes_fast_again_when_nobody_dies() {
    let mut world = world();
    world.settings.max_batch = 3;
    world.broker.produce(0, ids(20));
    for _ in 0..2 {
        assert!(life(&world, 1, &["e1"]).await);
    }
    let before = world.store.counts().commits;
    assert!(!life(&world, 1, &[]).await);
    let commits = world.store.counts().commits - before;
    assert_eq!(commits, 3 + 17_usize.div_ceil(3), "three alone, the others in batches of three");
    assert_eq!((world.row(0).deaths, world.bills().len()), (0, 20));
    assert!(world.row(0).attempts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_kills_becomes_what_its_handler_says() {
    for on_failure in [OnFailure::PARK_KEY, OnFailure::Stop] {
        let world = World::with(Policy::new().on_failure(on_failure));
        let events = (0..6).map(|n| (if n % 2 == 0 { "a" } else { "b" }, format!("e{n}")));
        world.broker.produce_keyed(0, events);
        if on_failure == OnFailure::Stop {
            for _ in 0..5 {
                assert!(life(&world, 1, &["e2"]).await);
            }
            let error = world.start(0).stopped().await;
            assert_eq!((error.kind(), world.position(0)), (ErrorKind::Stopped, 2));
            assert!(error.to_string().contains("died 3 times"), "{error}");
            continue;
        }
        lives(&world, 1, &["e2"]).await;
        assert_eq!(world.letters_in(LetterState::Parked), ["e2"]);
        assert_eq!(world.letters_in(LetterState::Waiting), ["e4"]);
        assert_eq!(world.bills(), ["e0", "e1", "e3", "e5"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_kills_when_it_is_released_is_found_too() {
    let world = World::with(Policy::new().on_failure(OnFailure::PARK_KEY).retry(Retry::never()));
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_keyed(0, (0..4).map(|n| ("a", format!("e{n}"))));
    world.drain(0).await;
    world
        .dead_letters()
        .discard(&crate::LetterFilter::new().state(LetterState::Parked), "")
        .await
        .unwrap();
    let mut deaths = 0;
    loop {
        let (gate, process) = (Gate::new(), reborn(&world));
        world.script.mend();
        world.script.always("bill", "e2", Do::Wait(gate.clone()));
        let lane = world.start_in(&process, 0, &Client::new(&world.broker));
        let died = tokio::select! {
            biased;
            () = gate.reached() => true,
            () = until(|| world.letters_in(LetterState::Parked) == ["e2"]) => false,
        };
        lane.kill().await;
        if !died {
            break;
        }
        deaths += 1;
        assert!(deaths < 20);
    }
    assert_eq!((deaths, world.bills()), (5, vec!["e1".to_owned()]));
    assert_eq!(world.letters_in(LetterState::Waiting), ["e3"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_is_found_in_a_slice_too() {
    let mut world = World::with(Policy::new().slices(4));
    world.settings.max_batch = 4;
    // Far from the low-water mark.
    let events = (0..60).map(|n| (format!("c{}", n % 7), format!("e{n}")));
    world.broker.produce_keyed(0, events);
    lives(&world, 1, &["e25"]).await;
    assert_eq!(world.letters_in(LetterState::Dead), ["e25"]);
    assert_eq!(world.bills().len(), 59);
}

/// Events for a lane in slices of which one is long at its only event, while the others go on.
fn held_up() -> World {
    let mut world = World::with(Policy::new().slices(SLICES));
    world.settings.max_batch = 4;
    let slice = |n: usize| if n == 1 { 1 } else { [0, 2, 3][n % 3] };
    world.broker.produce_keyed(0, (0..200).map(|n| (key(slice(n)), format!("e{n}"))));
    world
}

/// One life, in which an event kills that is far ahead of the low-water mark, this long after it was met.
async fn far_ahead(world: &World, is_held_up: bool, dies_after: Duration) {
    let (gate, never) = (Gate::new(), Gate::new());
    world.script.mend();
    world.script.always("bill", "e190", Do::Wait(gate.clone()));
    if is_held_up {
        world.script.always("bill", "e1", Do::Wait(never));
    }
    let lane = world.start_in(&reborn(world), 0, &Client::new(&world.broker));
    gate.reached().await;
    quiet(dies_after).await;
    lane.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_far_ahead_of_the_low_water_mark_is_found() {
    let world = held_up();
    for _ in 0..2 {
        far_ahead(&world, true, Duration::ZERO).await;
        assert!(world.position(0) <= 1, "{}", world.position(0));
    }
    assert_eq!(lives(&world, 1, &["e190"]).await, 3);
    assert_eq!(world.letters_in(LetterState::Dead), ["e190"]);
    assert_eq!(world.bills().len(), 199);
    let row = world.row(0);
    assert!(row.attempts.is_empty(), "{row:?}");
}

#[tokio::test(start_paused = true)]
async fn deaths_are_not_forgotten_for_what_is_read_again() {
    let world = held_up();
    far_ahead(&world, true, Duration::ZERO).await;
    // Time enough to move the low-water mark.
    far_ahead(&world, false, Duration::from_secs(5)).await;
    assert!(world.position(0) > 150, "{}", world.position(0));
    assert_eq!(world.row(0).deaths, 1, "the last one is found by the next owner");
    assert_eq!(lives(&world, 1, &["e190"]).await, 3);
    assert_eq!(world.letters_in(LetterState::Dead), ["e190"]);
}

#[tokio::test(start_paused = true)]
async fn deaths_are_forgotten_when_all_that_was_in_flight_is_done() {
    let world = held_up();
    far_ahead(&world, true, Duration::ZERO).await;
    world.script.mend();
    let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
    until(|| world.row(0).deaths == 1).await;
    until(|| world.row(0).deaths == 0).await;
    assert_eq!(world.bills().len(), 200);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn all_slices_of_a_careful_lane_work_what_was_released() {
    let policy = Policy::new().slices(4).on_failure(OnFailure::PARK_KEY);
    let world = World::with(policy.retry(Retry::never()));
    for n in 0..7 {
        world.script.always("bill", &format!("e{n}"), Do::Fail);
    }
    world.broker.produce_keyed(0, (0..14).map(|n| (format!("c{}", n % 7), format!("e{n}"))));
    world.drain(0).await;
    assert_eq!(world.letters_in(LetterState::Waiting).len(), 7);
    for _ in 0..3 {
        let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
        until(|| lane.seat.held().is_some()).await;
        lane.kill().await;
    }
    let parked = crate::LetterFilter::new().state(LetterState::Parked);
    world.dead_letters().discard(&parked, "noise").await.unwrap();
    let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
    until(|| world.bills().len() == 7).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn slices_of_a_careful_lane_work_one_event_at_a_time() {
    let mut world = World::with(Policy::new().slices(4));
    world.settings.max_batch = 4;
    let events = (0..20).map(|n| (format!("c{}", n % 7), format!("e{n}")));
    world.broker.produce_keyed(0, events);
    for _ in 0..2 {
        assert!(life(&world, 1, &["e1"]).await);
    }
    world.script.mend();
    for id in ids(20) {
        world.script.always("bill", &id, Do::Nap);
    }
    world.script.most_running();
    let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
    until(|| world.bills().len() == 20).await;
    assert_eq!(world.script.most_running(), 1);
    lane.finish().await;
    assert_eq!(world.position(0), 20);
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_careful_mode_is_a_failure_and_no_death() {
    let world = World::with(Policy::new().retry(Retry::new().max(4)));
    world.broker.produce(0, ids(4));
    for _ in 0..2 {
        assert!(life(&world, 1, &["e1"]).await);
    }
    world.script.mend();
    world.script.always("bill", "e1", Do::Fail);
    let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
    until(|| world.script.attempts("e1").contains(&3)).await;
    // It dies while the event waits for its next attempt: that is not the event's doing.
    until(|| world.row(0).attempts.iter().all(|it| !it.open)).await;
    lane.kill().await;
    let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
    world.worked(0, 4).await;
    assert_eq!(world.letters()[0].3, Some(FailureClass::Handler));
    lane.finish().await;
    assert!(world.row(0).attempts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_answer_in_careful_mode_leaves_behind_is_forgotten() {
    for which in 0..3 {
        let world = world();
        world.broker.produce(0, ids(4));
        for _ in 0..3 {
            assert!(life(&world, 1, &["e1"]).await);
        }
        world.script.mend();
        let faults = world.store.faults();
        let slow = match which {
            0 => {
                faults.lose_the_answer_of_a_commit();
                None
            }
            1 => {
                faults.fail(Point::Commit, ErrorKind::UnknownCommit);
                None
            }
            _ => Some(faults.lose_the_answer_of_a_slow_commit()),
        };
        let lane = world.start_in(&reborn(&world), 0, &Client::new(&world.broker));
        if let Some(slow) = slow {
            slow.reached().await;
            quiet(Duration::from_secs(1)).await;
            slow.release();
        }
        world.worked(0, 4).await;
        lane.finish().await;
        world.assert_sums(ids(4));
        world.broker.produce(0, ["e4"]);
        world.drain(0).await;
        let attempts = world.row(0).attempts;
        assert!(attempts.is_empty(), "{which}: {attempts:?}");
    }
}
