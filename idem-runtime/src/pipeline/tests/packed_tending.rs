//! Tending to packed markers beside a lane's work: small rows are joined, and what is out of date is
//! forgotten, as far as nothing can be delivered again without being known.

use std::time::Duration;

use super::client::Client;
use super::handlers::{Bill, Do};
use super::harness::{World, ids, quiet, until};
use super::packed::PACKED;
use super::seen::PORTIONS;
use super::slices::{SLICES, key, produce};
use crate::Store as _;
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::logged::Log;
use crate::memory::{Pause, Point};
use crate::packed::WindowId;
use crate::pipeline::policy::{LayoutChanged, Stale};
use crate::policy::{OnFailure, Policy, Retry, Window};
use crate::store::PackedMarkers as _;

/// With a window of so many events.
fn keeping(events: u64) -> Policy {
    PACKED.window(Window::DEFAULT.events(events))
}

/// A batch an event, and often tended to.
fn world(policy: Policy) -> World {
    let mut world = World::with(policy);
    world.settings.max_batch = 1;
    world.settings.tend_interval = Duration::from_millis(100);
    world
}

async fn floor(world: &World) -> i64 {
    let id = WindowId { lane: world.row(0).number, scope: "bill", slice: None };
    world.store.window(&id).await.unwrap().floor
}

/// The lowest offset and how many digests are in rows.
fn packed(world: &World) -> (Option<i64>, u32) {
    let rows = world.packs("bill");
    (rows.iter().map(|row| row.first_offset).min(), rows.iter().map(|row| row.count).sum())
}

#[tokio::test(start_paused = true)]
async fn small_rows_are_joined_while_batches_go_on_and_the_window_stays_the_same() {
    for slices in [1, SLICES] {
        let world = world(PACKED.slices(slices));
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        for n in 0..200 {
            produce(&world, n, n + 1);
            quiet(Duration::from_millis(7)).await;
        }
        until(|| lane.resolved() == Some(200)).await;
        until(|| world.packs("bill").len() < 50 * usize::from(slices)).await;
        assert_eq!(packed(&world), (Some(0), 200));
        // The owner's window, and that of one that has only what was joined.
        produce(&world, 0, 200);
        until(|| lane.resolved() == Some(400)).await;
        lane.kill().await;
        produce(&world, 0, 200);
        world.drain(0).await;
        world.again_from(0, 0).await;
        world.assert_sums(ids(200));
        assert_eq!(world.counts().processed, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_forgotten_while_rows_are_joined_stays_forgotten() {
    let world = world(PACKED);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    let pause = world.store.faults().pause(Point::Repack);
    world.broker.produce(0, ids(100));
    world.worked(0, 100).await;
    // What is to be joined was read with it.
    pause.reached().await;
    assert!(world.forget("e0").await);
    pause.release();
    quiet(Duration::from_secs(5)).await;
    world.broker.produce(0, ids(1));
    world.worked(0, 101).await;
    lane.finish().await;
    assert_eq!(world.bills().len(), 101);
    world.again_from(0, 0).await;
    assert_eq!(world.bills().len(), 101);
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_lane_neither_joins_nor_forgets() {
    for point in [Point::Repack, Point::ForgetPacks] {
        let mut world = world(keeping(if point == Point::Repack { 1000 } else { 10 }));
        world.settings.policies.stale = Some(Stale::Skip);
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        let pause = world.store.faults().pause(point);
        // Fewer are not joined, and forgotten a row at a time.
        let count = if point == Point::Repack { 60 } else { 20 };
        let end = world.broker.produce(0, ids(count));
        pause.reached().await;
        world.worked(0, end).await;
        // Somebody who has not begun to tend: what is done now the former owner has done.
        let owner = world.process("b").owner;
        world.store.take(&world.id(0), &owner).await.unwrap().unwrap();
        let before = world.packs("bill");
        pause.release();
        quiet(Duration::from_secs(5)).await;
        assert_eq!(world.packs("bill"), before, "{point:?}");
        lane.kill().await;
        // And it is not too late for others.
        let other = world.start_on("b", 0, &Client::new(&world.broker));
        until(|| world.packs("bill").len() < before.len()).await;
        other.finish().await;
        assert_eq!(world.bills(), ids(count));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_tending_is_tried_again_and_holds_up_nothing() {
    // So few are not joined.
    for (point, count) in
        [(Point::Packs, 30), (Point::Window, 30), (Point::Repack, 100), (Point::ForgetPacks, 30)]
    {
        let mut world = world(keeping(20));
        world.settings.policies.stale = Some(Stale::Skip);
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        quiet(Duration::from_secs(1)).await;
        for _ in 0..3 {
            world.store.faults().fail(point, ErrorKind::Connection);
        }
        let end = world.broker.produce(0, ids(count));
        world.worked(0, end).await;
        until(|| world.packs("bill").len() <= 20).await;
        let end = world.broker.produce(0, ids(count).split_off(count - 20));
        world.worked(0, end).await;
        assert_eq!((world.bills(), world.counts().duplicates), (ids(count), 20), "{point:?}");
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn tending_that_fails_again_and_again_is_warned_of_once() {
    let log = Log::keep(tracing::Level::WARN);
    for (failures, warnings) in [(2, 0), (3, 1), (7, 2)] {
        let world = world(PACKED);
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        quiet(Duration::from_secs(1)).await;
        for _ in 0..failures {
            world.store.faults().fail(Point::Window, ErrorKind::Connection);
        }
        quiet(Duration::from_secs(2)).await;
        lane.finish().await;
        let warned = log.with("could not be tended to");
        assert_eq!(warned.len(), warnings, "{failures}: {warned:?}");
        assert!(warned.iter().all(|line| line.contains("scope=\"bill\"")), "{warned:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_that_kafka_can_still_deliver() {
    let world = world(keeping(4));
    world.broker.produce(0, ids(10));
    let lane = world.start(0);
    world.worked(0, 10).await;
    quiet(Duration::from_secs(5)).await;
    assert_eq!(packed(&world), (Some(0), 10));
    world.broker.trim(0, 5);
    until(|| packed(&world) == (Some(5), 5)).await;
    assert_eq!(floor(&world).await, 5);
    lane.finish().await;
    world.again_from(0, 5).await;
    assert_eq!((world.bills(), world.counts().stale), (ids(10), 0));
    // What is in the window stays, wherever the log begins.
    world.broker.trim(0, 10);
    let lane = world.start(0);
    until(|| packed(&world).1 == 4).await;
    quiet(Duration::from_secs(5)).await;
    assert_eq!(packed(&world), (Some(6), 4));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_window_is_forgotten_as_what_is_too_many() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let world = world(PACKED.window(Window::time(DAY)));
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.store.age_packs("bill", DAY * 2);
    world.broker.produce(0, ["e3"]);
    world.drain(0).await;
    world.broker.trim(0, 4);
    let lane = world.start(0);
    until(|| packed(&world) == (Some(3), 1)).await;
    assert_eq!(floor(&world).await, 3);
    quiet(Duration::from_secs(5)).await;
    assert_eq!(packed(&world), (Some(3), 1));
    lane.finish().await;
}

/// Ten events, of which a window of four has forgotten what it can.
async fn forgotten(policy: Policy, stale: Stale) -> World {
    let mut world = world(policy);
    world.settings.policies.stale = Some(stale);
    world.broker.produce(0, ids(10));
    let lane = world.start(0);
    world.worked(0, 10).await;
    until(|| packed(&world) == (Some(6), 4)).await;
    lane.finish().await;
    assert_eq!(floor(&world).await, 6);
    world
}

#[tokio::test(start_paused = true)]
async fn an_old_delivery_below_the_floor_is_stale_and_passes() {
    let world = forgotten(keeping(4), Stale::Skip).await;
    world.again_from(0, 0).await;
    assert_eq!((world.bills(), world.letters().len()), (ids(10), 0));
    assert_eq!((world.counts().stale, world.counts().duplicates), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn an_old_delivery_below_the_floor_is_a_dead_letter_that_a_replay_works() {
    let mut world = forgotten(keeping(4), Stale::DeadLetter).await;
    world.settings.max_batch = 4;
    // From now on everything is kept, which the letters would push out otherwise.
    let mut bill = Registered::of::<Bill>();
    bill.policy = PACKED;
    world.set_handlers(vec![bill]);
    world.again_from(0, 0).await;
    assert_eq!((world.bills(), world.counts().dead_lettered), (ids(10), 6));
    let classes: Vec<_> = world.letters().into_iter().map(|it| it.3.unwrap()).collect();
    assert_eq!(classes, [FailureClass::Stale; 6]);
    // Whoever replays one says that it is to be worked, and it is known from then on.
    let filter = LetterFilter::new().key("e2");
    assert_eq!(world.replay().run(&filter).await.unwrap().processed, 1);
    world.again_from(0, 0).await;
    assert_eq!(world.bills()[10..], ["e2"]);
    assert_eq!(world.letters().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_old_delivery_below_the_floor_stops_the_lane_at_it() {
    let mut world = forgotten(keeping(4), Stale::Stop).await;
    world.broker.reset(0, 4);
    world.settings.max_batch = 100;
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Stopped);
    let text = error.to_string();
    assert!(text.contains("offset 4") && text.contains("below the floor"), "{text}");
    assert_eq!((world.bills(), world.position(0)), (ids(10), 4));
    world.settings.policies.stale = Some(Stale::Skip);
    world.drain(0).await;
    assert_eq!((world.bills(), world.counts().stale), (ids(10), 2));
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_that_is_seen_later_keeps_its_key() {
    for in_one_batch in [true, false] {
        let mut world = world(keeping(4));
        world.settings.policies.stale = Some(Stale::Skip);
        if in_one_batch {
            world.settings.max_batch = 100;
        }
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        world.broker.produce(0, ["a", "b", "c", "a"]);
        world.worked(0, 4).await;
        for n in 0..3 {
            world.broker.produce(0, [format!("e{n}")]);
            world.worked(0, 5 + n).await;
        }
        until(|| packed(&world).1 <= 8).await;
        quiet(Duration::from_secs(1)).await;
        world.broker.produce(0, ["a"]);
        world.worked(0, 8).await;
        lane.finish().await;
        world.broker.produce(0, ["a"]);
        world.drain(0).await;
        assert_eq!(world.bills(), ["a", "b", "c", "e0", "e1", "e2"], "{in_one_batch}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_beside_its_first_is_known_for_as_long_as_kafka_can_deliver_it() {
    // Also where the first of them is a duplicate itself, which is written nowhere.
    for first_is_known in [false, true] {
        let mut world = World::with(keeping(0));
        if first_is_known {
            world.broker.produce(0, ["a"]);
            world.drain(0).await;
            world.broker.produce(0, ["b", "c", "a"]);
            world.broker.reset(0, 0);
        } else {
            world.broker.produce(0, ["a", "b", "c", "a"]);
        }
        world.drain(0).await;
        until(|| world.position(0) == 4).await;
        world.broker.trim(0, 3);
        world.settings.tend_interval = Duration::from_millis(100);
        let lane = world.start(0);
        quiet(Duration::from_secs(5)).await;
        lane.finish().await;
        world.again_from(0, 3).await;
        assert_eq!(world.bills(), ["a", "b", "c"], "{first_is_known}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_event_is_no_duplicate_of_one_that_was_stale() {
    let mut world = forgotten(keeping(4), Stale::Skip).await;
    world.broker.produce(0, ["e0", "e10", "e0"]);
    world.settings.max_batch = 100;
    world.settings.tend_interval = Duration::from_secs(3600);
    world.again_from(0, 0).await;
    assert_eq!(world.bills()[10..], ["e0", "e10"]);
    assert_eq!((world.counts().stale, world.counts().duplicates), (6, 5));
    world.again_from(0, 6).await;
    assert_eq!(world.bills().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn an_old_delivery_does_not_wait_behind_a_parked_key_to_be_worked_again() {
    let policy = keeping(2).retry(Retry::never()).on_failure(OnFailure::ParkKey { limit: 9 });
    for stale in [Stale::Skip, Stale::DeadLetter] {
        let mut world = world(policy);
        world.settings.policies.stale = Some(stale);
        world.script.always("bill", "e9", Do::Fail);
        let events = ["e0", "e1", "e2", "e3", "e9"].map(|id| ("k", id));
        world.broker.produce_keyed(0, events);
        let lane = world.start(0);
        world.worked(0, 5).await;
        until(|| packed(&world).1 == 2).await;
        lane.finish().await;
        world.again_from(0, 0).await;
        assert_eq!(world.letters_in(LetterState::Waiting), [""; 0], "{stale:?}");
        assert_eq!(world.letters_in(LetterState::Parked), ["e9"]);
        world.script.mend();
        let parked = LetterFilter::new().state(LetterState::Parked);
        assert_eq!(world.replay().run(&parked).await.unwrap().processed, 1);
        let lane = world.start(0);
        quiet(Duration::from_secs(5)).await;
        lane.finish().await;
        assert_eq!(world.bills(), ["e0", "e1", "e2", "e3", "e9"], "{stale:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_given_up_on_is_known_when_everything_else_is_forgotten() {
    // The owner forgets them as well.
    let nothing = Window::time(Duration::ZERO).events(0);
    let mut world = world(PACKED.window(nothing).retry(Retry::never()));
    world.settings.policies.stale = Some(Stale::Skip);
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    let lane = world.start(0);
    world.worked(0, 3).await;
    until(|| world.packs("bill").is_empty()).await;
    // Known to the owner that gave it up, and to one that has nothing but its marker to load.
    world.broker.produce(0, ["e1"]);
    world.worked(0, 4).await;
    until(|| world.packs("bill").is_empty()).await;
    lane.finish().await;
    assert_eq!(world.script.attempts("e1"), [1]);
    world.script.mend();
    let corrected = r#"{"id":"e1","corrected":true}"#.to_owned();
    world.broker.produce_raw(0, [corrected]);
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "e2"]);
    let classes: Vec<_> = world.letters().into_iter().map(|it| it.3.unwrap()).collect();
    assert_eq!(classes, [FailureClass::Handler, FailureClass::Correction]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_that_the_lane_reads_again() {
    let mut world = world(keeping(4));
    world.broker.produce(0, ids(10));
    world.drain(0).await;
    assert_eq!(packed(&world), (Some(0), 10));
    world.settings.policies.stale = Some(Stale::Skip);
    let pause = world.store.faults().pause(Point::Pack);
    world.broker.reset(0, 0);
    let lane = world.start(0);
    pause.reached().await;
    // The lane is before all of them, and knows them.
    quiet(Duration::from_secs(5)).await;
    assert_eq!(packed(&world), (Some(0), 10));
    pause.release();
    until(|| packed(&world) == (Some(6), 4)).await;
    assert_eq!((world.bills(), world.counts().stale), (ids(10), 0));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_is_held_up_keeps_the_floor_below_its_event() {
    let mut world = world(keeping(1).slices(SLICES).retry(Retry::forever()));
    world.settings.policies.stale = Some(Stale::Skip);
    world.script.always("bill", "stuck", Do::Fail);
    world.broker.produce_keyed(0, [(key(0), "stuck")]);
    let lane = world.start(0);
    until(|| world.counts().retried > 0).await;
    world.broker.produce_keyed(0, (0..20).map(|n| (key(1), format!("e{n}"))));
    until(|| world.bills().len() == 20).await;
    quiet(Duration::from_secs(10)).await;
    lane.kill().await;
    world.script.mend();
    world.drain(0).await;
    assert_eq!((world.bills().len(), world.counts().stale), (21, 0), "it was never processed");
}

#[tokio::test(start_paused = true)]
async fn a_fail_over_that_lost_a_join_and_nothing_else_costs_no_row_its_digests() {
    let mut world = world(PACKED.window(Window::time(Duration::from_secs(10))));
    world.settings.policies.stale = Some(Stale::Skip);
    world.settings.portions = PORTIONS;
    let pause = world.store.faults().pause(Point::Repack);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ids(3));
    pause.reached().await;
    world.worked(0, 3).await;
    let earlier = world.store.snapshot();
    pause.release();
    until(|| world.packs("bill").len() == 1).await;
    world.store.restore(&earlier);
    quiet(Duration::from_secs(9)).await;
    // Its row gets the number that the joined one had.
    world.broker.produce(0, ["new"]);
    world.worked(0, 4).await;
    quiet(Duration::from_secs(3)).await;
    lane.finish().await;
    world.again_from(0, 3).await;
    assert_eq!(world.bills(), ["e0", "e1", "e2", "new"]);
    assert_eq!(world.counts().went_back, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_in_other_slices_is_known_while_the_lane_reads_it_again() {
    const TIME: Duration = Duration::from_secs(3);
    let policy = PACKED.window(Window::time(TIME));
    let with = |slices: u16| {
        let mut bill = Registered::of::<Bill>();
        bill.policy = policy.slices(slices);
        vec![bill]
    };
    let mut world = World::of(with(SLICES), 1);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.tend_interval = Duration::from_secs(3600);
    produce(&world, 0, 4);
    world.drain(0).await;
    world.set_handlers(with(1));
    produce(&world, 4, 12);
    world.drain(0).await;
    world.set_handlers(with(SLICES));
    quiet(TIME * 2).await;
    world.broker.trim(0, 4);
    world.broker.reset(0, 4);
    world.settings.tend_interval = Duration::from_millis(100);
    // Each slice is about to look, when what it has is tended to.
    let pauses: Vec<_> = (0..SLICES).map(|_| world.store.faults().pause(Point::Begin)).collect();
    let forgets = world.store.counts().forgets;
    let lane = world.start(0);
    until(|| pauses.iter().all(Pause::is_reached)).await;
    until(|| world.store.counts().forgets == forgets + usize::from(SLICES)).await;
    drop(pauses);
    until(|| lane.resolved() == Some(12)).await;
    lane.finish().await;
    assert_eq!(world.bills().len(), 12, "what Kafka can still deliver is known");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_committed_after_one_with_a_higher_number_is_forgotten_as_any() {
    let mut world = world(keeping(0));
    world.settings.portions = PORTIONS;
    let join = world.store.faults().pause(Point::Repack);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ids(3));
    join.reached().await;
    world.worked(0, 3).await;
    let seal = world.store.faults().pause(Point::Seal);
    world.broker.produce(0, ["e3"]);
    seal.reached().await;
    join.release();
    until(|| world.packs("bill").len() == 1).await;
    seal.release();
    world.broker.produce(0, ["e4"]);
    world.worked(0, 5).await;
    world.broker.trim(0, 4);
    until(|| packed(&world) == (Some(4), 1)).await;
    lane.finish().await;
}
