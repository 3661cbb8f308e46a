use std::time::Duration;

use super::client::Client;
use super::handlers::{Bill, Do, Gate};
use super::harness::{World, ids, quiet, until};
use crate::dead_letter::LetterState;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::group::Registered;
use crate::memory::Point;
use crate::pipeline::policy::LayoutChanged;
use crate::pipeline::slices::slice_of;
use crate::policy::{Markers, OnFailure, Policy, Retry};

pub(super) const SLICES: u16 = 4;

pub(super) fn world() -> World {
    sliced(SLICES)
}

pub(super) fn sliced(slices: u16) -> World {
    let retry = Retry::new().max(3).jitter(false);
    World::with(Policy::new().slices(slices).retry(retry))
}

/// A message key for each slice: `key(0)` is in slice 0.
pub(super) fn key(slice: u16) -> String {
    let mut event = Event::new("t".into(), 0, 0, "");
    let mut keys = (0..).map(|n| format!("c{n}"));
    let is_in = |key: &String| {
        event.message_key = Some(key.clone().into());
        slice_of(&event, SLICES) == slice
    };
    keys.find(is_in).unwrap()
}

/// `n` events, one after the other for each of the four keys: `e0` of slice 0, `e1` of slice 1.
pub(super) fn produce(world: &World, from: usize, to: usize) {
    let events = (from..to).map(|n| (key(u16::try_from(n % 4).unwrap()), format!("e{n}")));
    world.broker.produce_keyed(0, events);
}

/// Whether the effects of each slice are in order.
#[track_caller]
pub(super) fn assert_in_order(world: &World) {
    let bills = world.bills();
    for slice in 0..4 {
        let of = bills.iter().map(|id| id[1..].parse::<usize>().unwrap());
        let of: Vec<_> = of.filter(|n| n % 4 == slice).collect();
        assert!(of.is_sorted(), "slice {slice}: {of:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_a_message_key_are_worked_in_their_order_and_once() {
    let mut world = world();
    world.settings.max_batch = 5;
    let lane = world.start(0);
    for n in 0..10 {
        produce(&world, n * 20, (n + 1) * 20);
        quiet(Duration::from_millis(300)).await;
    }
    until(|| lane.resolved() == Some(200)).await;
    assert_in_order(&world);
    world.assert_sums(ids(200));
    assert_eq!((world.counts().processed, world.counts().duplicates), (200, 0));
    lane.finish().await;
    assert_eq!(world.position(0), 200, "what is left behind is where it ended");
}

#[tokio::test(start_paused = true)]
async fn a_message_key_that_is_held_up_does_not_hold_up_others() {
    let world = world();
    let gate = Gate::new();
    world.script.on("e1", [Do::Wait(gate.clone())]);
    produce(&world, 0, 12);
    let lane = world.start(0);
    gate.reached().await;
    until(|| world.bills().len() == 9).await;
    quiet(Duration::from_secs(10)).await;
    let position = world.position(0);
    assert_eq!((position, lane.resolved()), (1, Some(1)), "nothing is past what is in flight");
    gate.open();
    until(|| lane.resolved() == Some(12)).await;
    assert_in_order(&world);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_tried_again_holds_up_its_message_key_only() {
    let world = World::with(Policy::new().slices(SLICES).retry(Retry::forever()));
    world.script.always("bill", "e1", Do::Fail);
    produce(&world, 0, 8);
    let lane = world.start(0);
    until(|| world.bills().len() == 6).await;
    until(|| world.script.attempts("e1").len() > 5).await;
    assert_eq!(lane.resolved(), Some(1));
    world.script.mend();
    until(|| lane.resolved() == Some(8)).await;
    assert_in_order(&world);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_loses_nothing_and_does_nothing_twice() {
    let world = world();
    let gate = Gate::new();
    world.script.on("e1", [Do::Wait(gate.clone())]);
    produce(&world, 0, 40);
    let lane = world.start(0);
    gate.reached().await;
    until(|| world.bills().len() == 30).await;
    quiet(Duration::from_secs(5)).await;
    assert_eq!(world.position(0), 1);
    lane.kill().await;
    let lane = world.start(0);
    until(|| lane.resolved() == Some(40)).await;
    assert_eq!(world.counts().duplicates, 29, "what was done past the low-water mark");
    assert_in_order(&world);
    world.assert_sums(ids(40));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_leaves_while_an_event_waits_for_its_next_attempt_does_not_skip_it() {
    let world = world();
    world.script.always("bill", "e1", Do::Fail);
    produce(&world, 0, 12);
    let lane = world.start(0);
    until(|| world.bills().len() == 9 && world.script.attempts("e1").len() == 2).await;
    lane.finish().await;
    assert!(world.position(0) <= 1, "{}", world.position(0));
    assert!(world.broker.commit(0).is_none_or(|commit| commit.offset <= 1));
    world.script.mend();
    world.drain(0).await;
    assert_in_order(&world);
    world.assert_sums(ids(12));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_asked_to_leave_finishes_what_is_in_flight() {
    let world = world();
    let gate = Gate::new();
    world.script.on("e0", [Do::Wait(gate.clone())]);
    world.script.on("e1", [Do::Wait(gate.clone())]);
    produce(&world, 0, 4);
    let lane = world.start(0);
    gate.reached().await;
    gate.reached().await;
    lane.ask(crate::pipeline::stop::Stop::Finish);
    quiet(Duration::from_secs(1)).await;
    assert!(!lane.is_finished());
    gate.open();
    gate.open();
    lane.finish().await;
    assert_eq!((world.bills().len(), world.position(0)), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn the_low_water_mark_is_moved_beside_what_is_in_flight() {
    let world = world();
    produce(&world, 0, 4);
    let lane = world.start(0);
    until(|| lane.resolved() == Some(4)).await;
    // Between its seal and its commit a slice locks the lane's row, which nobody can move then.
    let commit = world.store.faults().pause(Point::Commit);
    produce(&world, 4, 5);
    commit.reached().await;
    quiet(Duration::from_secs(3)).await;
    commit.release();
    until(|| lane.resolved() == Some(5)).await;
    world.worked(0, 5).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_look_at_a_log_that_does_not_answer_stops_no_transaction() {
    let world = world();
    let client = Client::new(&world.broker);
    let lane = world.start_on("a", 0, &client);
    produce(&world, 0, 4);
    until(|| lane.resolved() == Some(4)).await;
    let gate = Gate::new();
    world.script.on("e4", [Do::Wait(gate.clone())]);
    produce(&world, 4, 5);
    gate.reached().await;
    client.answers(false);
    lane.seat.look();
    quiet(Duration::from_secs(1)).await;
    gate.open();
    until(|| world.bills().len() == 5).await;
    client.answers(true);
    until(|| lane.resolved() == Some(5)).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_fenced_writes_nothing_more_in_any_slice() {
    let world = world();
    let gate = Gate::new();
    for n in 0..4 {
        world.script.on(&format!("e{n}"), [Do::Wait(gate.clone())]);
    }
    produce(&world, 0, 8);
    let old = world.start(0);
    for _ in 0..4 {
        gate.reached().await;
    }
    let new = world.start_on("b", 0, &Client::new(&world.broker));
    until(|| new.seat.held().is_some()).await;
    for _ in 0..4 {
        gate.open();
    }
    until(|| new.resolved() == Some(8)).await;
    until(|| world.counts().fenced == 1).await;
    assert_in_order(&world);
    world.assert_sums(ids(8));
    old.finish().await;
    new.finish().await;
    assert_eq!(world.position(0), 8);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_in_one_slice_is_resolved_there() {
    for which in 0..3 {
        let world = world();
        produce(&world, 0, 4);
        let lane = world.start(0);
        until(|| lane.resolved() == Some(4)).await;
        let faults = world.store.faults();
        match which {
            0 => faults.lose_the_answer_of_a_commit(),
            1 => faults.fail(Point::Commit, ErrorKind::UnknownCommit),
            _ => {
                let slow = faults.lose_the_answer_of_a_slow_commit();
                produce(&world, 4, 12);
                slow.reached().await;
                world.store.wait_for(|view| view.waiting() == 1).await;
                slow.release();
            }
        }
        if which < 2 {
            produce(&world, 4, 12);
        }
        until(|| lane.resolved() == Some(12)).await;
        world.assert_sums(ids(12));
        assert_eq!((world.counts().processed, world.counts().duplicates), (12, 0), "{which}");
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_slices_can_change_at_a_restart() {
    let mut world = sliced(4);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.max_batch = 3;
    let gate = Gate::new();
    let mut made = 0;
    for slices in [4, 7, 1, 2, 4] {
        let mut bill = Registered::of::<Bill>();
        bill.policy = Policy::new().slices(slices);
        world.set_handlers(vec![bill]);
        let stuck = format!("e{}", made + 1);
        world.script.on(&stuck, [Do::Wait(gate.clone())]);
        produce(&world, made, made + 16);
        made += 16;
        let lane = world.start(0);
        gate.reached().await;
        quiet(Duration::from_secs(3)).await;
        lane.kill().await;
    }
    world.drain(0).await;
    assert_in_order(&world);
    world.assert_sums(ids(made));
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_is_held_up_lets_the_lane_read_so_far_and_no_further() {
    let mut world = world();
    world.settings.max_batch = 4;
    let gate = Gate::new();
    world.script.on("e0", [Do::Wait(gate.clone())]);
    // All of one key, and far more than is read ahead.
    world.broker.produce_keyed(0, (0..200).map(|n| (key(0), format!("e{n}"))));
    let lane = world.start(0);
    gate.reached().await;
    quiet(Duration::from_secs(5)).await;
    let ahead = 200 - lane.seat.queue.take(usize::MAX).len();
    assert!(ahead <= 9 * 4, "{ahead} were taken from the queue");
    lane.kill().await;
    world.drain(0).await;
    assert_eq!(world.bills(), ids(200));
}

#[tokio::test(start_paused = true)]
async fn events_without_a_message_key_are_worked_once_too() {
    let world = world();
    world.broker.produce(0, ids(50));
    world.broker.hole(0, 3);
    world.broker.produce(0, ["e50"]);
    world.drain(0).await;
    world.assert_sums(ids(51));
}

#[tokio::test(start_paused = true)]
async fn equal_keys_in_two_slices_have_one_effect() {
    // Only rows are known to all slices.
    let world = World::with(Policy::new().slices(SLICES).markers(Markers::Rows));
    for n in 0..20 {
        let id = format!("e{n}");
        world.broker.produce_keyed(0, (0..4).map(|slice| (key(slice), id.clone())));
    }
    world.drain(0).await;
    world.assert_sums(ids(20));
    assert_eq!((world.counts().processed, world.counts().duplicates), (20, 60));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stops_at_an_event_of_one_slice_has_skipped_nothing() {
    let world =
        World::with(Policy::new().slices(SLICES).on_failure(OnFailure::Stop).retry(Retry::never()));
    world.script.always("bill", "e5", Do::Fail);
    produce(&world, 0, 16);
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(world.position(0) <= 5);
    world.script.mend();
    world.drain(0).await;
    assert_in_order(&world);
    world.assert_sums(ids(16));
}

#[tokio::test(start_paused = true)]
async fn parked_message_keys_wait_in_their_slice_and_are_released_there() {
    let policy = Policy::new().slices(SLICES).retry(Retry::never());
    let world = World::with(policy.on_failure(OnFailure::PARK_KEY));
    for n in 0..4 {
        world.script.always("bill", &format!("e{n}"), Do::Fail);
    }
    produce(&world, 0, 16);
    let lane = world.start(0);
    until(|| world.letters_in(LetterState::Waiting).len() == 12).await;
    world.assert_sums(ids(16));
    world.script.mend();
    // Behind keys of other slices: a part of them only.
    for n in [2, 0, 3, 1] {
        let letters = world.store.look(|view| view.letters());
        let letter = letters.iter().find(|it| it.event.offset == n).unwrap();
        let report = world.replay().run(&crate::LetterFilter::id(letter.id)).await.unwrap();
        assert_eq!(report.processed, 1);
    }
    until(|| world.bills().len() == 16).await;
    assert_in_order(&world);
    world.assert_sums(ids(16));
    produce(&world, 16, 20);
    until(|| world.bills().len() == 20).await;
    assert!(world.row(0).parked.is_empty());
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_released_in_one_slice_does_not_wait_for_that_of_another() {
    let policy = Policy::new().slices(SLICES).retry(Retry::forever());
    let mut world = World::with(policy.on_failure(OnFailure::PARK_KEY));
    world.settings.max_batch = 3;
    for n in 0..2 {
        world.script.always("bill", &format!("e{n}"), Do::FailForGood);
    }
    let events = (0..2).map(|n| (key(n), format!("e{n}")));
    world.broker.produce_keyed(0, events);
    // Five wait in slice 0, then five in slice 1.
    let events = (2..12).map(|n| (key(u16::from(n > 6)), format!("e{n}")));
    world.broker.produce_keyed(0, events);
    let lane = world.start(0);
    until(|| world.letters_in(LetterState::Waiting).len() == 10).await;
    world.script.mend();
    world.script.always("bill", "e2", Do::Fail);
    world.replay().run(&crate::LetterFilter::new()).await.unwrap();
    // The first of slice 0 is tried again and again, and those behind it wait.
    until(|| world.bills().len() == 7).await;
    world.script.mend();
    until(|| world.bills().len() == 12).await;
    world.assert_sums(ids(12));
    lane.finish().await;
}
