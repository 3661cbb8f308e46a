//! Packed markers in many runs, which are merged.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::harness::{Running, World, ids, quiet, until};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::slices::{SLICES, produce};
use crate::Store as _;
use crate::error::ErrorKind;
use crate::lane::{Held, Owner};
use crate::memory::{Pause, Point};
use crate::packed::{Budget, Merged, NewRun, Pack, PackRow, RunPart, WindowId};
use crate::pipeline::policy::{LayoutChanged, Portions};
use crate::policy::{Policy, Window};
use crate::store::PackedMarkers as _;

/// There is no memory for windows: what was committed is put into runs of a few digests, of which three
/// are merged.
fn world(policy: Policy) -> World {
    let mut world = World::with(policy);
    furnish(&mut world);
    world
}

fn furnish(world: &mut World) {
    world.budget = Budget::new(0);
    world.settings.max_batch = 4;
    world.settings.tend_interval = Duration::from_millis(100);
    let portions = Portions { least: 1, run: 4, many: 1 << 30, ..Portions::default() };
    world.settings.portions = Portions { runs: 3, merged: 1000, part: 1, step: 3, ..portions };
}

fn runs(world: &World) -> usize {
    world.store.look(|view| view.runs())
}

fn merges(world: &World) -> usize {
    world.store.counts().merges
}

fn unfinished(world: &World) -> usize {
    world.store.look(|view| view.unfinished_runs())
}

/// Whether all that is packed is in runs, and none of them is to be merged or deleted any more.
fn is_merged(world: &World) -> bool {
    let rows = world.packs("bill");
    rows.iter().all(|row| row.run.is_some()) && unfinished(world) == 0 && merges(world) > 0
}

/// A lane that has so many events in runs, each of four digests.
async fn with_runs(world: &World, count: usize) -> Running {
    let lane = world.start(0);
    world.broker.produce(0, ids(count));
    world.worked(0, i64::try_from(count).unwrap()).await;
    lane
}

#[tokio::test(start_paused = true)]
async fn many_runs_become_few_and_what_was_in_them_is_known_also_after_a_restart() {
    for slices in [1, SLICES] {
        let mut world = world(PACKED.slices(slices));
        produce(&world, 0, 80);
        let lane = world.start(0);
        until(|| lane.resolved() == Some(80)).await;
        until(|| is_merged(&world)).await;
        quiet(Duration::from_secs(1)).await;
        assert!(runs(&world) <= usize::from(slices) * 6, "{}", runs(&world));
        produce(&world, 0, 84);
        until(|| lane.resolved() == Some(164)).await;
        assert_eq!(world.counts().processed, 84);
        lane.kill().await;
        world.again_from(0, 0).await;
        world.budget = Budget::new(1 << 20);
        world.again_from(0, 0).await;
        world.assert_sums(ids(84));
        assert_eq!(world.counts().processed, 84);
    }
}

/// A lane that has worked 16 events, and has come to this point with merging the runs of their keys.
async fn amid_a_merge(point: Point) -> (World, Running, Pause) {
    let world = world(PACKED);
    let lane = with_runs(&world, 8).await;
    until(|| runs(&world) == 2 && unfinished(&world) == 0).await;
    quiet(Duration::from_secs(1)).await;
    let pause = world.store.faults().pause(point);
    world.broker.produce(0, ids(16).split_off(8));
    pause.reached().await;
    world.worked(0, 16).await;
    (world, lane, pause)
}

#[tokio::test(start_paused = true)]
async fn a_merged_run_has_a_part_of_what_is_in_runs_and_no_more_than_is_said() {
    // Six runs of four digests each, of which three would be merged.
    for (merged, part, any) in [(1000, 1, true), (1000, 4, false), (6, 1, false)] {
        let mut world = world(PACKED);
        world.settings.portions = Portions { merged, part, ..world.settings.portions };
        let lane = with_runs(&world, 24).await;
        until(|| world.packs("bill").iter().all(|row| row.run.is_some())).await;
        quiet(Duration::from_secs(5)).await;
        assert_eq!(merges(&world) > 0, any, "{merged}, {part}");
        lane.finish().await;
    }
    let Portions { runs, merged, part, .. } = Portions::default();
    assert_eq!((runs, merged, part), (8, 20_000_000, 4));
}

#[tokio::test(start_paused = true)]
async fn who_dies_while_runs_are_merged_leaves_the_others_or_the_new_one() {
    for point in [Point::RunBlocks, Point::ExtendRun, Point::MergeRuns, Point::SweepRuns] {
        let (world, lane, pause) = amid_a_merge(point).await;
        lane.kill().await;
        pause.release();
        let lane = world.start(0);
        world.broker.produce(0, ids(16));
        world.worked(0, 32).await;
        // Whatever was left is deleted.
        until(|| is_merged(&world)).await;
        lane.finish().await;
        world.again_from(0, 0).await;
        assert_eq!((world.bills(), world.counts().duplicates), (ids(16), 48), "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_merge_that_fails_is_done_another_time() {
    for point in [Point::RunBlocks, Point::ExtendRun, Point::MergeRuns, Point::SweepRuns] {
        let world = world(PACKED);
        for _ in 0..3 {
            world.store.faults().fail(point, ErrorKind::Connection);
        }
        let lane = with_runs(&world, 40).await;
        until(|| is_merged(&world)).await;
        world.broker.produce(0, ids(40));
        world.worked(0, 80).await;
        lane.finish().await;
        assert_eq!((world.bills(), world.counts().duplicates), (ids(40), 40), "{point:?}");
        assert_eq!(world.counts().went_back, 0, "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_forgotten_while_runs_are_merged_is_new() {
    for point in [Point::RunBlocks, Point::ExtendRun, Point::MergeRuns, Point::SweepRuns] {
        let (world, lane, pause) = amid_a_merge(point).await;
        assert!(world.forget("e3").await);
        pause.release();
        world.broker.produce(0, ids(16));
        world.worked(0, 32).await;
        until(|| is_merged(&world)).await;
        lane.finish().await;
        world.again_from(0, 0).await;
        let bills = [ids(16), vec!["e3".to_owned()]].concat();
        assert_eq!(world.bills(), bills, "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_asks_runs_which_are_merged_meanwhile_asks_again() {
    let world = world(PACKED);
    let merge = world.store.faults().pause(Point::MergeRuns);
    let lane = with_runs(&world, 40).await;
    merge.reached().await;
    // It has decided which runs to ask.
    let ask = world.store.faults().pause(Point::InRuns);
    world.broker.produce(0, ids(4));
    ask.reached().await;
    merge.release();
    until(|| merges(&world) > 0).await;
    assert_eq!(world.counts().repeated, 0);
    ask.release();
    world.worked(0, 44).await;
    assert!(world.counts().repeated > 0, "it was told to look again");
    lane.finish().await;
    assert_eq!((world.bills(), world.counts().duplicates), (ids(40), 4));
    assert_eq!(world.counts().went_back, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fail_over_that_lost_a_merge_and_nothing_else_is_noticed() {
    let world = world(PACKED);
    let pause = world.store.faults().pause(Point::MergeRuns);
    let lane = with_runs(&world, 40).await;
    pause.reached().await;
    until(|| world.packs("bill").iter().all(|row| row.run.is_some())).await;
    let earlier = world.store.snapshot();
    let merged = merges(&world);
    pause.release();
    until(|| merges(&world) > merged && unfinished(&world) == 0).await;
    world.store.restore(&earlier);
    world.broker.produce(0, ids(40));
    world.worked(0, 80).await;
    assert!(world.counts().went_back > 0);
    lane.finish().await;
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ids(40));
}

#[tokio::test(start_paused = true)]
async fn a_merged_run_is_asked_for_as_long_as_one_of_its_rows_is_there() {
    let world = world(PACKED.window(Window::DEFAULT.events(0)));
    let lane = with_runs(&world, 40).await;
    until(|| is_merged(&world)).await;
    quiet(Duration::from_secs(1)).await;
    for low in [4, 12, 28, 36] {
        world.broker.trim(0, low);
        until(|| world.packs("bill").iter().all(|row| row.first_offset >= low)).await;
        let end = world.end(0);
        let left = ids(40).split_off(usize::try_from(low).unwrap());
        let count = i64::try_from(left.len()).unwrap();
        world.broker.produce(0, left);
        world.worked(0, end + count).await;
        assert_eq!(world.bills(), ids(40));
    }
    let end = world.end(0);
    world.broker.trim(0, end);
    until(|| runs(&world) == 0 && unfinished(&world) == 0).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_ask_for_is_not_merged() {
    let mut world = World::of(bill(PACKED), 2);
    furnish(&mut world);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    // As it is without merging.
    world.settings.portions.runs = usize::MAX;
    world.broker.produce(0, ids(40));
    world.drain(0).await;
    world.broker.add_partitions(1);
    furnish(&mut world);
    let lane = world.start(0);
    until(|| world.packs("bill").iter().all(|row| row.run.is_some())).await;
    let before = runs(&world);
    quiet(Duration::from_secs(2)).await;
    assert_eq!((runs(&world), merges(&world)), (before, 0));
    lane.finish().await;
}

/// Takes the lane of partition 0.
async fn take(world: &World) -> Held {
    let owner = Owner { id: Uuid::new_v4(), name: "x".into(), dead_after: Duration::from_secs(9) };
    world.store.take(&world.id(0), &owner).await.unwrap().unwrap().held()
}

/// Merges all runs of the lane of partition 0.
async fn merge_runs(world: &World, held: &Held) {
    let window = WindowId { lane: held.number, scope: "bill", slice: None };
    let of: Vec<_> = world.store.runs(&window, &[], 100).await.unwrap();
    let mut digests = BTreeSet::new();
    for run in &of {
        for block in world.store.run_blocks(run.id, None, 100).await.unwrap() {
            digests.extend(block.data.as_chunks::<16>().0.iter().copied());
        }
    }
    let digests: Vec<u8> = digests.into_iter().flatten().collect();
    let id = NewRun::unused();
    let part = RunPart { id, window, had: 0, digests: &digests };
    assert!(world.store.extend_run(held, &part).await.unwrap());
    let of: Vec<_> = of.iter().map(|run| (run.id, run.count)).collect();
    let count = digests.len() as u64 / 16;
    let merged = Merged { id, window, count, filter: b"no filter", of: &of };
    assert!(world.store.merge_runs(held, &merged).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_asks_a_run_of_a_former_layout_that_was_merged_looks_again() {
    let mut world = World::of(bill(PACKED), 2);
    furnish(&mut world);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.portions.runs = usize::MAX;
    world.broker.produce(0, ids(20));
    world.drain(0).await;
    world.broker.add_partitions(1);
    let lane = world.start(2);
    world.broker.produce(2, ["e3", "new"]);
    world.worked(2, 2).await;
    assert!(runs(&world) > 2);
    merge_runs(&world, &take(&world).await).await;
    world.broker.produce(2, ids(20));
    world.worked(2, 22).await;
    assert!(world.counts().repeated > 0);
    lane.finish().await;
    assert_eq!(world.bills(), [ids(20), vec!["new".to_owned()]].concat());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_before_it_is_known_whether_a_merge_is_there() {
    let mut world = world(PACKED.window(Window::DEFAULT.events(0)));
    world.settings.portions.runs = usize::MAX;
    let lane = with_runs(&world, 40).await;
    until(|| world.packs("bill").iter().all(|row| row.run.is_some())).await;
    lane.finish().await;
    world.settings.portions.runs = 3;
    world.budget = Budget::new(1 << 20);
    let pause = world.store.faults().pause(Point::MergeRuns);
    let lane = world.start(0);
    pause.reached().await;
    // It lands, and its answer is lost, as is the next one: which rows there are.
    merge_runs(&world, &world.row(0).held()).await;
    world.broker.trim(0, 8);
    world.store.faults().fail(Point::Packs, ErrorKind::Connection);
    pause.release();
    until(|| world.packs("bill").iter().all(|row| row.first_offset >= 8)).await;
    world.broker.produce(0, ids(40).split_off(20));
    world.worked(0, 60).await;
    assert_eq!(world.bills(), ids(40));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_rows_were_deleted_by_hand_costs_nothing() {
    let world = world(PACKED);
    with_runs(&world, 8).await.finish().await;
    let held = take(&world).await;
    let window = WindowId { lane: held.number, scope: "bill", slice: None };
    let new = NewRun { id: NewRun::unused(), window, count: 0, filter: b"", digests: &[] };
    assert!(world.store.add_run(&held, &[], &new).await.unwrap());
    let lane = world.start(0);
    world.broker.produce(0, ids(8));
    world.worked(0, 16).await;
    quiet(Duration::from_secs(60)).await;
    assert_eq!(world.counts().went_back, 0, "nothing is lost");
    assert!(world.store.runs_of(&[new.id]).await.unwrap().is_empty(), "it is deleted");
    lane.finish().await;
    assert_eq!(world.bills(), ids(8));
}

#[tokio::test(start_paused = true)]
async fn what_merges_that_fail_have_written_is_deleted_and_does_not_pile_up() {
    let world = world(PACKED);
    let mut pause = world.store.faults().pause(Point::MergeRuns);
    let lane = with_runs(&world, 40).await;
    for _ in 0..4 {
        pause.reached().await;
        assert_eq!(unfinished(&world), 1);
        world.store.faults().fail(Point::MergeRuns, ErrorKind::Connection);
        let next = world.store.faults().pause(Point::MergeRuns);
        pause.release();
        pause = next;
    }
    pause.release();
    until(|| is_merged(&world)).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_of_which_rows_were_forgotten_is_not_merged() {
    // What is forgotten of it would be known for as long as the youngest of the merged run.
    for (low, merged) in [(0, true), (4, false)] {
        let mut world = world(PACKED.window(Window::DEFAULT.events(0)));
        world.settings.portions = Portions { run: 8, runs: usize::MAX, ..world.settings.portions };
        let lane = with_runs(&world, 24).await;
        until(|| world.packs("bill").iter().all(|row| row.run.is_some())).await;
        world.broker.trim(0, low);
        until(|| world.packs("bill").iter().all(|row| row.first_offset >= low)).await;
        lane.finish().await;
        assert_eq!(runs(&world), 3);
        world.settings.portions.runs = 3;
        let lane = world.start(0);
        quiet(Duration::from_secs(5)).await;
        assert_eq!(merges(&world) > 0, merged);
        lane.finish().await;
    }
}

/// Puts a row into a run that lacks the first digests of it, so many.
pub(super) async fn put_into_run(world: &World, held: &Held, row: &PackRow, lacking: usize) {
    let mut digests = Pack::decode(row).unwrap().entries;
    digests.sort_unstable_by_key(|(_, digest)| *digest);
    let there: Vec<u8> =
        digests.iter().skip(lacking).flat_map(|(_, digest)| digest.to_bytes()).collect();
    let window = WindowId { lane: held.number, scope: "bill", slice: None };
    let (id, count) = (NewRun::unused(), digests.len() as u64);
    let run = NewRun { id, window, count, filter: b"none", digests: &there };
    assert!(world.store.add_run(held, &[row.id], &run).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn runs_are_not_merged_while_their_digests_are_in_memory_too() {
    // Nobody would let go of them any more.
    let mut world = world(PACKED);
    world.budget = Budget::new(1 << 20);
    with_runs(&world, 12).await.finish().await;
    let page = world.store.faults().pause(Point::Packs);
    let lane = world.start(0);
    page.reached().await;
    let last = world.store.faults().pause(Point::Packs);
    page.release();
    last.reached().await;
    // All rows are read: whoever widens puts them into runs.
    for row in world.packs("bill") {
        put_into_run(&world, &world.row(0).held(), &row, 0).await;
    }
    last.release();
    quiet(Duration::from_secs(5)).await;
    assert_eq!((runs(&world), merges(&world)), (3, 0));
    lane.finish().await;
    let lane = world.start(0);
    until(|| is_merged(&world)).await;
    world.broker.produce(0, ids(12));
    world.worked(0, 24).await;
    lane.finish().await;
    assert_eq!((world.bills(), world.counts().duplicates), (ids(12), 12));
}

#[tokio::test(start_paused = true)]
async fn a_run_of_which_something_is_missing_is_not_merged() {
    let mut world = world(PACKED);
    world.budget = Budget::new(1 << 20);
    with_runs(&world, 12).await.finish().await;
    let (held, rows) = (take(&world).await, world.packs("bill"));
    assert_eq!(rows.len(), 3);
    for (row, lacking) in rows.iter().zip([0, 1, 0]) {
        put_into_run(&world, &held, row, lacking).await;
    }
    let lane = world.start(0);
    quiet(Duration::from_secs(5)).await;
    assert_eq!((runs(&world) - unfinished(&world), merges(&world)), (3, 0));
    lane.finish().await;
}
