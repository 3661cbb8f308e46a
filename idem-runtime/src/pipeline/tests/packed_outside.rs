//! Packed markers of events that were delivered long before they are worked: letters that are replayed,
//! events that are released, and keys that were given up on. What was packed of them may be out of date,
//! and the layout another one since.

use std::time::Duration;

use super::handlers::Do;
use super::harness::{World, ids, quiet, until};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::slices::SLICES;
use crate::dead_letter::{LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::memory::Point;
use crate::packed::WindowId;
use crate::pipeline::policy::{LayoutChanged, LogChanged};
use crate::policy::{OnFailure, Policy, Retry, Window};
use crate::replay::ReplayReport;
use crate::store::PackedMarkers as _;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NEVER: Duration = Duration::from_secs(1 << 30);

const DAILY: Policy = PACKED.window(Window::time(DAY)).retry(Retry::never());
const PARKING: Policy = DAILY.on_failure(OnFailure::ParkKey { limit: 9 });

/// Two partitions, whose windows are widened.
async fn two(policy: Policy) -> World {
    let mut world = World::of(bill(policy), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.tend_interval = Duration::from_millis(100);
    world.register().await;
    world
}

/// A letter of partition 0 that had no key and has the key `e9` now, after these events. Nobody tends.
async fn without_a_key(others: &[&str]) -> World {
    let mut world = two(DAILY).await;
    world.settings.tend_interval = NEVER;
    world.broker.produce(0, others.iter().copied().chain([""]));
    for partition in 0..2 {
        world.drain(partition).await;
    }
    world.dead_letters().edit(1, Some(br#"{"id":"e9"}"#), "its id was missing").await.unwrap();
    world
}

async fn replay(world: &World) -> ReplayReport {
    world.replay().run(&LetterFilter::new()).await.unwrap()
}

fn billed(world: &World, id: &str) -> usize {
    world.bills().iter().filter(|it| *it == id).count()
}

/// All that partition 0 has packed is out of date, and forgotten.
async fn forget_all(world: &World) {
    world.store.age_packs("bill", DAY * 2);
    let end = world.broker.high(0);
    world.broker.trim(0, end);
    let lane = world.start(0);
    until(|| world.packs("bill").is_empty()).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_from_outside_is_known_in_partitions_that_come_later() {
    // Also where nothing else tells that there was another layout.
    for others in [&[][..], &["e0"]] {
        let world = without_a_key(others).await;
        assert_eq!(replay(&world).await.processed, 1);
        world.broker.add_partitions(1);
        for partition in [2, 1, 0] {
            world.broker.produce(partition, ["e9"]);
            world.drain(partition).await;
        }
        assert_eq!(billed(&world, "e9"), 1, "{others:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_from_outside_of_a_former_layout_stops_lanes_that_do_not_widen() {
    for others in [&[][..], &["e0"]] {
        let mut world = without_a_key(others).await;
        world.settings.policies.layout_changed = LayoutChanged::Stop;
        assert_eq!(replay(&world).await.processed, 1);
        world.drain(0).await;
        world.store.age_packs("bill", DAY * 2);
        world.broker.add_partitions(1);
        assert_eq!(world.start(2).stopped().await.kind(), ErrorKind::LayoutChanged);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_from_outside_is_known_at_once_where_a_former_layout_is_asked_for() {
    let world = without_a_key(&["e0"]).await;
    world.broker.add_partitions(1);
    let lane = world.start(2);
    until(|| lane.seat.held().is_some()).await;
    quiet(Duration::from_secs(1)).await;
    assert_eq!(replay(&world).await.processed, 1);
    world.broker.produce(2, ["e9", "e0", "e1"]);
    world.worked(2, 3).await;
    assert_eq!(world.bills(), ["e0", "e9", "e1"]);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_from_outside_that_another_partition_has_seen_since_is_superseded() {
    let world = without_a_key(&["e0"]).await;
    world.broker.add_partitions(1);
    world.broker.produce(2, ["e9"]);
    world.drain(2).await;
    let report = replay(&world).await;
    assert_eq!((report.processed, report.superseded), (0, 1));
    assert_eq!(billed(&world, "e9"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_from_outside_that_a_partition_has_seen_that_is_gone_is_superseded() {
    let mut world = two(DAILY).await;
    world.settings.tend_interval = NEVER;
    world.settings.policies.log_changed = LogChanged::Earliest;
    world.broker.produce(1, ["e9"]);
    world.drain(1).await;
    world.broker.recreate_with(1);
    world.broker.produce(0, [""]);
    world.drain(0).await;
    world.dead_letters().edit(1, Some(br#"{"id":"e9"}"#), "its id was missing").await.unwrap();
    replay(&world).await;
    assert_eq!(billed(&world, "e9"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_from_outside_is_known_a_moment_later_where_nothing_is_of_a_former_layout() {
    let mut world = without_a_key(&[]).await;
    world.settings.tend_interval = Duration::from_secs(1);
    world.broker.add_partitions(1);
    let lane = world.start(2);
    until(|| lane.seat.held().is_some()).await;
    assert_eq!(replay(&world).await.processed, 1);
    quiet(Duration::from_secs(2)).await;
    world.broker.produce(2, ["e9"]);
    world.worked(2, 1).await;
    assert_eq!(billed(&world, "e9"), 1);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_from_outside_that_is_forgotten_is_new_in_all_partitions() {
    let world = without_a_key(&[]).await;
    assert_eq!(replay(&world).await.processed, 1);
    world.broker.add_partitions(1);
    let lane = world.start(2);
    world.broker.produce(2, ["e9"]);
    world.worked(2, 1).await;
    assert_eq!(billed(&world, "e9"), 1);
    assert!(world.forget("e9").await);
    // The lane has its own row by now, so it is asked again for that alone; another one has none.
    world.broker.produce(2, ["e9"]);
    world.worked(2, 2).await;
    assert_eq!(billed(&world, "e9"), 2);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_only_has_a_key_of_another_in_mind_forgets_it() {
    let world = without_a_key(&[]).await;
    world.broker.add_partitions(1);
    // So that nothing is of a former layout but what nobody knows it of.
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    assert_eq!(replay(&world).await.processed, 1);
    let lane = world.start(2);
    until(|| lane.seat.held().is_some()).await;
    assert!(world.forget("e9").await);
    world.broker.produce(2, ["e9"]);
    world.worked(2, 1).await;
    assert_eq!(billed(&world, "e9"), 2);
    lane.finish().await;
}

/// `e1` was given up on in partition 0, and nothing is packed any more; then there are three partitions.
async fn given_up() -> World {
    let world = two(DAILY).await;
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    forget_all(&world).await;
    world.broker.add_partitions(1);
    world
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_given_up_on_is_known_in_partitions_that_come_later() {
    let world = given_up().await;
    let lane = world.start(2);
    world.broker.produce(2, ["e1"]);
    world.worked(2, 1).await;
    assert_eq!(world.script.attempts("e1"), [1]);
    world.script.mend();
    assert_eq!(replay(&world).await.processed, 1);
    world.broker.produce(2, ["e1"]);
    world.worked(2, 2).await;
    lane.finish().await;
    // By somebody to whom nothing says any more that it was given up on.
    for partition in [1, 2, 0] {
        world.broker.produce(partition, ["e1"]);
        world.drain(partition).await;
    }
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_replayed_while_a_lane_looks_what_was_given_up_on_is_missed_by_nobody() {
    let mut world = given_up().await;
    world.settings.tend_interval = NEVER;
    world.script.mend();
    let pause = world.store.faults().pause(Point::GivenUpKeys);
    let lane = world.start(2);
    pause.reached().await;
    assert_eq!(replay(&world).await.processed, 1);
    // Whoever looked for rows before, and tends now, does not find out either.
    world.store.faults().fail(Point::PacksElsewhere, ErrorKind::Connection);
    pause.release();
    world.broker.produce(2, ["e1"]);
    world.worked(2, 1).await;
    assert_eq!(billed(&world, "e1"), 1);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_given_up_on_and_is_forgotten_is_new_in_all_partitions() {
    let world = given_up().await;
    let lane = world.start(2);
    until(|| lane.seat.held().is_some()).await;
    world.script.mend();
    assert_eq!(world.dead_letters().discard(&LetterFilter::new(), "of no use").await.unwrap(), 1);
    assert!(world.forget("e1").await);
    world.broker.produce(2, ["e1"]);
    world.worked(2, 1).await;
    assert_eq!(billed(&world, "e1"), 1);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_on_under_the_former_layout_is_known_elsewhere_a_while_later() {
    let world = two(DAILY).await;
    world.script.always("bill", "e1", Do::Fail);
    // Nobody tells it that the topic has grown.
    let former = world.start(0);
    until(|| former.seat.held().is_some()).await;
    world.broker.add_partitions(1);
    let lane = world.start(2);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ids(3));
    world.worked(0, 3).await;
    world.store.age_packs("bill", DAY * 2);
    world.broker.trim(0, 3);
    until(|| world.packs("bill").is_empty()).await;
    quiet(Duration::from_secs(10)).await;
    world.broker.produce(2, ["e1"]);
    world.worked(2, 1).await;
    assert_eq!(world.script.attempts("e1"), [1]);
    former.finish().await;
    lane.finish().await;
}

/// `e0` is parked in partition 0 and `e1` waits behind it; nothing is packed any more.
async fn parked(policy: Policy) -> World {
    let world = two(policy).await;
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_keyed(0, [("k", "e0"), ("k", "e1")]);
    let lane = world.start(0);
    until(|| lane.resolved() == Some(2)).await;
    lane.finish().await;
    assert_eq!(world.letters_in(LetterState::Waiting), ["e1"]);
    forget_all(&world).await;
    world.script.mend();
    world
}

/// Replays what is parked, and waits until what waited is worked.
async fn release(world: &World) {
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    let filter = LetterFilter::new().state(LetterState::Parked);
    assert_eq!(world.replay().run(&filter).await.unwrap().processed, 1);
    until(|| world.bills().len() == 2).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_released_after_its_packed_marker_has_aged_out_has_one_again() {
    for slices in [1, SLICES] {
        let world = parked(PARKING.slices(slices)).await;
        release(&world).await;
        world.broker.produce_keyed(0, [("k", "e1"), ("k", "e0"), ("k", "e2")]);
        let lane = world.start(0);
        until(|| lane.resolved() == Some(5)).await;
        lane.finish().await;
        assert_eq!(world.bills(), ids(3), "{slices}");
        world.assert_sums(ids(3));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_released_is_known_for_as_long_as_the_window_and_no_longer() {
    let world = parked(PARKING).await;
    release(&world).await;
    let floor = async || {
        let id = WindowId { lane: world.row(0).number, scope: "bill", slice: None };
        world.store.window(&id).await.unwrap().floor
    };
    let lane = world.start(0);
    // Far below the position, and younger than the window.
    quiet(Duration::from_secs(5)).await;
    let rows = world.packs("bill");
    let places: Vec<_> = rows.iter().map(|row| (row.every_slice, row.last_offset)).collect();
    assert_eq!(places, [(true, 0), (true, 1)]);
    lane.finish().await;
    forget_all(&world).await;
    assert_eq!(floor().await, 2);
    world.broker.produce_keyed(0, [("k", "e1")]);
    world.drain(0).await;
    assert_eq!(billed(&world, "e1"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_released_under_another_layout_is_known_in_all_partitions() {
    for runs_before in [false, true] {
        let world = parked(PARKING).await;
        world.broker.add_partitions(1);
        let before = runs_before.then(|| world.start(2));
        quiet(Duration::from_secs(1)).await;
        release(&world).await;
        match before {
            Some(lane) => {
                world.broker.produce(2, ["e1", "e0"]);
                world.worked(2, 2).await;
                lane.finish().await;
            }
            None => {
                world.broker.produce(2, ["e1", "e0"]);
                world.drain(2).await;
            }
        }
        assert_eq!(world.bills(), ["e0", "e1"], "{runs_before}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_released_and_rolled_back_is_packed_by_nobody() {
    let world = parked(PARKING).await;
    world.script.always("bill", "e1", Do::Fail);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    let filter = LetterFilter::new().state(LetterState::Parked);
    assert_eq!(world.replay().run(&filter).await.unwrap().processed, 1);
    until(|| world.letters_in(LetterState::Parked) == ["e1"]).await;
    lane.finish().await;
    let rows = world.packs("bill");
    assert_eq!(rows.iter().map(|row| row.last_offset).collect::<Vec<_>>(), [0], "e0 was replayed");
    assert_eq!(world.bills(), ["e0"]);
    world.assert_sums(ids(2));
}
