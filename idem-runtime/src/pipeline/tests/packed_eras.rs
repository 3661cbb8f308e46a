//! The times of packed markers, as memory has them: in eras, of which one that is packed twice within one
//! has one time.

use std::time::{Duration, SystemTime};

use super::harness::{Running, World, until};
use super::packed::PACKED;
use crate::packed::{Budget, WindowId};
use crate::pipeline::policy::{Portions, Stale};
use crate::policy::Window;
use crate::store::PackedMarkers as _;

const ERA: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(512 * 10);

async fn now(world: &World) -> SystemTime {
    let id = WindowId { lane: world.row(0).number, scope: "bill", slice: None };
    world.store.window(&id).await.unwrap().now
}

/// Rests until so much of an era has passed.
async fn until_within_era(world: &World, passed: Duration) {
    let since = now(world).await.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let micros = u64::try_from(since.as_micros() % ERA.as_micros()).unwrap();
    tokio::time::sleep(ERA + passed - Duration::from_micros(micros)).await;
}

async fn tend(world: &World, lane: &Running) {
    lane.seat.tend();
    // Whoever tends has done so.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.position(0) > 0);
}

/// `a` and two others, and so much later `a` again, at the time of which this answers. The row of the
/// first three is in a run, and not in memory; that of the duplicate in memory alone.
async fn seen_again(later: Duration) -> (World, Running) {
    let mut world = World::with(PACKED.window(Window::time(WINDOW)));
    world.settings.policies.stale = Some(Stale::Skip);
    world.settings.tend_interval = Duration::from_secs(1 << 30);
    let portions = world.settings.portions;
    world.settings.portions = Portions { least: 2, run: 3, many: 1 << 30, ..portions };
    world.budget = Budget::new(0);
    world.register().await;
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    until_within_era(&world, Duration::from_secs(1)).await;
    world.broker.produce(0, ["a", "b", "c"]);
    world.worked(0, 3).await;
    tokio::time::sleep(later).await;
    world.broker.produce(0, ["a"]);
    world.worked(0, 4).await;
    tend(&world, &lane).await;
    let runs: Vec<_> =
        world.packs("bill").iter().map(|row| (row.count, row.run.is_some())).collect();
    assert_eq!(runs, [(3, true), (1, false)]);
    assert_eq!(world.bills(), ["a", "b", "c"]);
    (world, lane)
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_again_in_the_era_of_a_run_is_known_until_that_is_out_of_date() {
    let later = Duration::from_secs(7);
    let (world, lane) = seen_again(later).await;
    // The first is older than the window, and the duplicate is not.
    tokio::time::sleep(WINDOW - later + Duration::from_secs(3)).await;
    tend(&world, &lane).await;
    world.broker.produce(0, ["a"]);
    world.worked(0, 5).await;
    assert_eq!(world.bills(), ["a", "b", "c"]);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_again_in_a_later_era_stays_in_memory_when_its_first_goes_into_a_run() {
    let later = ERA * 3;
    let (world, lane) = seen_again(later).await;
    // The first is gone with its run, and the duplicate is not out of date.
    tokio::time::sleep(WINDOW - ERA).await;
    tend(&world, &lane).await;
    let left: Vec<_> = world.packs("bill").iter().map(|row| row.count).collect();
    assert_eq!((left, world.store.look(|view| view.runs())), (vec![1], 0));
    world.broker.produce(0, ["a", "b"]);
    world.worked(0, 6).await;
    assert_eq!(world.bills(), ["a", "b", "c", "b"]);
    lane.finish().await;
}
