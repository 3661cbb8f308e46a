//! Packed markers between two steps of somebody else.

use std::time::Duration;

use super::handlers::Do;
use super::harness::{World, ids, quiet, until};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::slices::{SLICES, key};
use crate::dead_letter::LetterFilter;
use crate::memory::Point;
use crate::packed::Budget;
use crate::pipeline::policy::{LayoutChanged, Portions, Stale};
use crate::policy::{Retry, Window};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(start_paused = true)]
async fn a_duplicate_that_stays_in_the_window_is_known_when_the_run_of_its_first_goes() {
    const N: u64 = 8000;
    let mut world = World::with(PACKED.window(Window::DEFAULT.events(N)));
    world.settings.policies.stale = Some(Stale::Skip);
    world.budget = Budget::new(200_000);
    world.settings.max_batch = 500;
    let portions = world.settings.portions;
    world.settings.portions = Portions { run: 3000, many: 1 << 30, ..portions };
    world.settings.tend_interval = Duration::from_millis(100);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    let mut all: Vec<String> = (0..11_498).map(|n| format!("e{n}")).collect();
    all.insert(1000, "a".into());
    all.insert(5600, "a".into());
    for (at, events) in (500..).step_by(500).zip(all.chunks(500)) {
        world.broker.produce(0, events);
        world.worked(0, at).await;
        quiet(Duration::from_millis(300)).await;
    }
    assert!(world.store.look(|view| view.runs()) > 0);
    world.broker.produce(0, ["a"]);
    world.worked(0, 11_501).await;
    assert_eq!(world.bills().iter().filter(|id| *id == "a").count(), 1);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_replayed_after_its_packed_marker_has_aged_out_has_one_again() {
    let mut world = World::with(PACKED.window(Window::time(DAY)).retry(Retry::never()));
    world.settings.tend_interval = Duration::from_millis(100);
    world.register().await;
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.store.age_packs("bill", DAY * 2);
    world.broker.trim(0, 3);
    let lane = world.start(0);
    until(|| world.packs("bill").is_empty()).await;
    world.script.mend();
    assert_eq!(world.replay().run(&LetterFilter::new()).await.unwrap().processed, 1);
    lane.finish().await;
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_grows_while_slices_are_loaded_is_noticed_by_all_of_them() {
    let mut world = World::of(bill(PACKED.slices(SLICES)), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    let all = || (0..4).map(|n| (key(n), format!("k{n}")));
    world.broker.produce_keyed(1, all());
    world.drain(1).await;
    let pause = world.store.faults().pause(Point::Packs);
    let lane = world.start(0);
    pause.reached().await;
    // The first slice has counted the partitions.
    world.broker.add_partitions(1);
    pause.release();
    until(|| lane.seat.held().is_some()).await;
    let watch = world.watch(&[&lane]);
    quiet(Duration::from_secs(1800)).await;
    world.broker.produce_keyed(0, all());
    until(|| lane.resolved() == Some(4)).await;
    assert_eq!(world.bills().len(), 4);
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_forgotten_while_another_lane_asks_for_it_is_new_there() {
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    world.broker.add_partitions(1);
    for partition in 1..3 {
        world.drain(partition).await;
    }
    let lane = world.start(2);
    until(|| lane.seat.held().is_some()).await;
    quiet(Duration::from_secs(1)).await;
    let pause = world.store.faults().pause(Point::Pack);
    world.broker.produce(2, ["e1"]);
    pause.reached().await;
    assert!(world.forget("e1").await);
    pause.release();
    world.worked(2, 1).await;
    assert_eq!(world.bills().iter().filter(|id| *id == "e1").count(), 2);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_one_slice_has_worked_does_not_age_what_every_slice_is_to_know() {
    let five = PACKED.window(Window::DEFAULT.events(5)).slices(SLICES).retry(Retry::never());
    let mut world = World::with(five);
    world.settings.policies.stale = Some(Stale::Skip);
    world.settings.max_batch = 1;
    world.settings.tend_interval = Duration::from_millis(100);
    world.register().await;
    world.broker.produce(0, [""]);
    world.drain(0).await;
    world.dead_letters().edit(1, Some(br#"{"id":"e9"}"#), "its id was missing").await.unwrap();
    assert_eq!(world.replay().run(&LetterFilter::new()).await.unwrap().processed, 1);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce_keyed(0, (0..20).map(|n| (key(1), format!("x{n}"))));
    until(|| lane.resolved() == Some(21)).await;
    quiet(Duration::from_secs(10)).await;
    lane.finish().await;
    // In slice 0 nothing has come since.
    world.broker.produce_keyed(0, [(key(0), "e9")]);
    world.drain(0).await;
    assert_eq!(world.bills().iter().filter(|id| *id == "e9").count(), 1);
    assert_eq!(world.counts().went_back, 0);
}
