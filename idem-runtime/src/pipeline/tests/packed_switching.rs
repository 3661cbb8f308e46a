//! Scopes that go from rows to packed markers, or back, together with something else.

use std::time::Duration;

use super::harness::{World, ids};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::slices::{SLICES, produce};
use crate::error::ErrorKind;
use crate::packed::Budget;
use crate::pipeline::policy::{LayoutChanged, Portions};
use crate::policy::{Markers, Policy, Window};

const ROWS: Policy = Policy::new().markers(Markers::Rows);

#[tokio::test(start_paused = true)]
async fn what_a_row_says_is_found_when_it_is_delivered_again_however_late() {
    const HOUR: Duration = Duration::from_secs(3600);
    for small in [false, true] {
        let mut world = World::of(bill(ROWS), 1);
        world.register().await;
        world.broker.produce(0, ids(4));
        world.drain(0).await;
        world.set_handlers(bill(PACKED.window(Window::time(HOUR))));
        if small {
            // What was packed is in runs.
            world.budget = Budget::new(0);
        }
        world.register().await;
        world.broker.produce(0, ["e4"]);
        world.drain(0).await;
        tokio::time::advance(HOUR * 3).await;
        world.again_from(0, 0).await;
        assert_eq!(world.bills(), ids(5));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_packed_in_other_slices_or_partitions_is_found_by_a_handler_that_keeps_rows() {
    for now in [1, 2] {
        let mut world = World::of(bill(PACKED.slices(SLICES)), 1);
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        world.register().await;
        produce(&world, 0, 8);
        world.drain(0).await;
        world.set_handlers(bill(ROWS.slices(now)));
        world.register().await;
        produce(&world, 0, 8);
        world.drain(0).await;
        world.assert_sums(ids(8));
    }
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.register().await;
    world.broker.produce(0, ["a", "b"]);
    world.drain(0).await;
    world.set_handlers(bill(ROWS));
    world.register().await;
    world.broker.add_partitions(1);
    world.broker.produce(2, ["a"]);
    world.drain(2).await;
    assert_eq!(world.bills(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_keeps_rows_again_stops_at_what_was_packed_under_another_layout() {
    let mut world = World::of(bill(PACKED.slices(SLICES)), 1);
    world.settings.policies.layout_changed = LayoutChanged::Stop;
    world.register().await;
    produce(&world, 0, 8);
    world.drain(0).await;
    world.set_handlers(bill(ROWS));
    world.register().await;
    let lane = world.start(0);
    assert_eq!(lane.stopped().await.kind(), ErrorKind::LayoutChanged);
    world.assert_sums(ids(8));
}

#[tokio::test(start_paused = true)]
async fn a_few_digests_too_many_are_no_run() {
    let mut world = World::with(PACKED);
    world.budget = Budget::new(0);
    world.settings.portions = Portions { least: 10, ..Portions::default() };
    world.settings.tend_interval = Duration::from_secs(1);
    let lane = world.start(0);
    for (events, runs) in [(9, 0), (10, 1)] {
        let from = world.end(0);
        world.broker.produce(0, (from..events).map(|n| format!("e{n}")).collect::<Vec<_>>());
        world.worked(0, events).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.store.look(|view| view.runs()), runs, "{events}");
    }
    lane.finish().await;
}
