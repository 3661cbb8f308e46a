//! Packed markers: what is counted of them.

use std::time::Duration;

use super::harness::{World, ids, until};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::slices::{SLICES, produce};
use crate::packed::Budget;
use crate::pipeline::policy::{LayoutChanged, Stale};
use crate::policy::Window;

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_is_counted_and_is_nothing_when_the_lanes_have_left() {
    for slices in [1, SLICES] {
        let world = World::with(PACKED.slices(slices));
        produce(&world, 0, 40);
        let lane = world.start(0);
        until(|| lane.resolved() == Some(40)).await;
        let counts = world.counts();
        assert_eq!((counts.packed_digests, counts.packed_runs), (40, 0));
        assert_eq!((counts.packed_asked, counts.packed_found), (0, 0));
        assert!(counts.packed_bytes >= 40 * 18, "{counts:?}");
        assert_eq!(counts.packed_bytes_limit, 256 << 20);
        produce(&world, 20, 44);
        until(|| lane.resolved() == Some(64)).await;
        assert_eq!(world.counts().packed_digests, 44, "a duplicate is no other digest");
        lane.finish().await;
        let counts = world.counts();
        assert_eq!((counts.packed_digests, counts.packed_bytes), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_the_database_is_counted_with_what_was_found() {
    // Without room for a filter, and with it.
    for (limit, unfiltered) in [(0, 1), (1 << 20, 0)] {
        let mut world = World::with(PACKED);
        world.budget = Budget::new(0);
        world.settings.tend_interval = Duration::from_millis(100);
        world.broker.produce(0, ids(40));
        let lane = world.start(0);
        world.worked(0, 40).await;
        until(|| world.counts().packed_runs == 1).await;
        assert_eq!((world.counts().packed_digests, world.counts().packed_runs_written), (0, 1));
        lane.finish().await;
        assert_eq!(world.counts().packed_runs, 0);

        world.budget = Budget::new(limit);
        world.settings.tend_interval = Duration::from_secs(3600);
        let before = world.counts();
        let lane = world.start(0);
        until(|| world.counts().packed_runs == 1).await;
        assert_eq!(world.counts().packed_runs_unfiltered, unfiltered);
        world.broker.produce(0, ids(44).split_off(30));
        world.worked(0, 54).await;
        let asked = world.counts().packed_asked - before.packed_asked;
        assert_eq!(world.counts().packed_found - before.packed_found, 10);
        match unfiltered {
            0 => assert!((10..14).contains(&asked), "{asked}"),
            _ => assert_eq!(asked, 14),
        }
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_several_lanes_ask_is_counted_once() {
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.broker.produce(0, ids(8));
    world.drain(0).await;
    world.broker.add_partitions(2);
    let lanes: Vec<_> = (1..4).map(|partition| world.start(partition)).collect();
    for lane in &lanes {
        until(|| lane.seat.held().is_some() && lane.seat.partitions().is_some()).await;
    }
    let counts = world.counts();
    assert_eq!((counts.packed_runs, counts.packed_runs_written), (1, 1));
    for lane in lanes {
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_joined_and_forgotten_are_counted() {
    let mut world = World::with(PACKED.window(Window::DEFAULT.events(10)));
    world.settings.max_batch = 1;
    world.settings.tend_interval = Duration::from_millis(100);
    world.settings.policies.stale = Some(Stale::Skip);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ids(20));
    world.worked(0, 20).await;
    until(|| world.packs("bill").len() == 10).await;
    until(|| world.counts().packed_rows_forgotten == 10).await;
    lane.finish().await;

    let mut world = World::with(PACKED);
    world.settings.max_batch = 1;
    world.settings.tend_interval = Duration::from_secs(10);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ids(40));
    world.worked(0, 40).await;
    until(|| world.packs("bill").len() == 1).await;
    until(|| world.counts().packed_rows_joined == 40).await;
    lane.finish().await;
}
