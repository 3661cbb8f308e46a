//! Packed markers that do not fit into memory: the oldest are in runs, in the database.

use std::time::Duration;

use super::client::Client;
use super::handlers::Bill;
use super::harness::{World, ids, quiet, until};
use super::packed::PACKED;
use super::slices::{SLICES, key, produce};
use crate::dead_letter::LetterFilter;
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::logged::Log;
use crate::memory::Point;
use crate::packed::Budget;
use crate::pipeline::policy::LayoutChanged;
use crate::policy::{Policy, Retry, Window};

/// There is no memory for windows at all, so that whatever was committed is put into runs.
fn world(policy: Policy) -> World {
    let mut world = World::with(policy);
    world.budget = Budget::new(0);
    world.settings.max_batch = 4;
    world.settings.tend_interval = Duration::from_millis(100);
    world
}

fn runs(world: &World) -> usize {
    world.store.look(|view| view.runs())
}

/// Whether all that is packed is in runs.
fn is_cool(world: &World) -> bool {
    world.packs("bill").iter().all(|row| row.run.is_some())
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_memory_is_known_also_after_a_restart() {
    for slices in [1, SLICES] {
        let mut world = world(PACKED.slices(slices));
        produce(&world, 0, 40);
        let lane = world.start(0);
        until(|| lane.resolved() == Some(40)).await;
        until(|| is_cool(&world)).await;
        assert!(runs(&world) >= usize::from(slices));
        produce(&world, 0, 44);
        until(|| lane.resolved() == Some(84)).await;
        assert_eq!(world.counts().processed, 44);
        lane.kill().await;
        world.again_from(0, 0).await;
        // Also by one that has memory, which loads what is in no run.
        world.budget = Budget::new(1 << 20);
        world.again_from(0, 0).await;
        world.assert_sums(ids(44));
        assert_eq!(world.counts().processed, 44);
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_does_not_fit_is_put_into_runs_while_it_is_loaded() {
    let mut world = World::with(PACKED);
    world.settings.max_batch = 4;
    world.broker.produce(0, ids(40));
    world.drain(0).await;
    assert_eq!(runs(&world), 0);
    world.budget = Budget::new(0);
    world.settings.tend_interval = Duration::from_secs(3600);
    world.again_from(0, 0).await;
    assert!(runs(&world) > 0);
    assert_eq!((world.bills(), world.counts().duplicates), (ids(40), 40));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_forgotten_is_taken_out_of_its_run() {
    let world = world(PACKED);
    world.broker.produce(0, ids(20));
    let lane = world.start(0);
    world.worked(0, 20).await;
    until(|| is_cool(&world)).await;
    assert!(world.forget("e7").await);
    world.broker.produce(0, ids(20));
    world.worked(0, 40).await;
    lane.finish().await;
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), [ids(20), vec!["e7".to_owned()]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_written_or_cannot_be_asked_loses_nothing() {
    for point in [Point::AddRun, Point::InRuns, Point::Runs] {
        let world = world(PACKED);
        world.broker.produce(0, ids(20));
        let lane = world.start(0);
        world.worked(0, 20).await;
        until(|| is_cool(&world)).await;
        for _ in 0..3 {
            world.store.faults().fail(point, ErrorKind::Connection);
        }
        world.broker.produce(0, ids(30));
        world.worked(0, 50).await;
        until(|| is_cool(&world)).await;
        lane.finish().await;
        world.again_from(0, 0).await;
        assert_eq!((world.bills(), world.counts().duplicates), (ids(30), 70), "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_dies_while_a_run_is_written_leaves_its_rows_or_the_run() {
    let world = world(PACKED);
    let pause = world.store.faults().pause(Point::AddRun);
    world.broker.produce(0, ids(20));
    let lane = world.start(0);
    pause.reached().await;
    world.worked(0, 20).await;
    lane.kill().await;
    pause.release();
    world.again_from(0, 0).await;
    assert_eq!((world.bills(), world.counts().duplicates), (ids(20), 20));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_forgotten_with_the_last_of_its_rows() {
    let world = world(PACKED.window(Window::DEFAULT.events(0)));
    world.broker.produce(0, ids(20));
    let lane = world.start(0);
    world.worked(0, 20).await;
    until(|| is_cool(&world) && runs(&world) > 0).await;
    world.broker.trim(0, 20);
    until(|| runs(&world) == 0 && world.packs("bill").is_empty()).await;
    // What is new is found out without the run.
    world.broker.produce(0, ["e20", "e20"]);
    world.worked(0, 22).await;
    assert_eq!(world.bills(), ids(21));
    assert_eq!(world.counts().went_back, 0, "nobody asks for it any more");
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_fail_over_that_lost_a_run_and_nothing_else_is_noticed() {
    for slices in [1, SLICES] {
        let world = world(PACKED.slices(slices));
        let pause = world.store.faults().pause(Point::AddRun);
        produce(&world, 0, 20);
        let lane = world.start(0);
        pause.reached().await;
        until(|| lane.resolved() == Some(20)).await;
        world.worked(0, 20).await;
        let earlier = world.store.snapshot();
        pause.release();
        until(|| is_cool(&world)).await;
        world.store.restore(&earlier);
        assert_eq!(runs(&world), 0, "the lane has put out of its memory what is in no run");
        // The number of the lost run is given to another one, too.
        produce(&world, 0, 24);
        until(|| lane.resolved() == Some(44)).await;
        until(|| is_cool(&world)).await;
        produce(&world, 0, 24);
        until(|| lane.resolved() == Some(68)).await;
        world.assert_sums(ids(24));
        assert_eq!(world.counts().processed, 24);
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_replay_packed_for_every_slice_is_put_into_no_run() {
    for slice in 0..SLICES {
        let mut world = world(PACKED.retry(Retry::never()));
        world.register().await;
        world.broker.produce(0, [""]);
        world.drain(0).await;
        world.dead_letters().edit(1, Some(br#"{"id":"e9"}"#), "its id was missing").await.unwrap();
        assert_eq!(world.replay().run(&LetterFilter::new()).await.unwrap().processed, 1);
        produce(&world, 0, 4);
        let lane = world.start(0);
        until(|| runs(&world) > 0).await;
        quiet(Duration::from_secs(1)).await;
        lane.finish().await;
        // Slices that the lane has only now load it, too.
        let mut bill = Registered::of::<Bill>();
        bill.policy = PACKED.slices(SLICES);
        world.set_handlers(vec![bill]);
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        world.budget = Budget::new(1 << 20);
        world.broker.produce_keyed(0, [(key(slice), "e9")]);
        world.drain(0).await;
        assert_eq!(world.bills().iter().filter(|id| *id == "e9").count(), 1, "slice {slice}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_lane_puts_nothing_into_runs_while_the_next_owner_loads() {
    let world = world(PACKED);
    let run = world.store.faults().pause(Point::AddRun);
    world.broker.produce(0, ids(20));
    let lane = world.start(0);
    run.reached().await;
    world.worked(0, 20).await;
    // The next owner has read which runs there are, and reads what is in none of them.
    let rows = world.store.faults().pause(Point::Packs);
    let other = world.start_on("b", 0, &Client::new(&world.broker));
    rows.reached().await;
    run.release();
    quiet(Duration::from_millis(5)).await;
    rows.release();
    world.broker.produce(0, ids(20));
    world.worked(0, 40).await;
    assert_eq!(world.bills(), ids(20));
    lane.finish().await;
    other.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_is_asked_for_as_long_as_one_of_its_rows_is_there() {
    let world = world(PACKED.window(Window::DEFAULT.events(0)));
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ids(12));
    world.worked(0, 12).await;
    until(|| is_cool(&world)).await;
    assert_eq!((runs(&world), world.packs("bill").len()), (1, 3));
    world.broker.trim(0, 4);
    until(|| world.packs("bill").len() == 2).await;
    world.broker.produce(0, ids(12).split_off(4));
    world.worked(0, 20).await;
    lane.finish().await;
    assert_eq!((world.bills(), world.counts().duplicates), (ids(12), 8));
}

#[tokio::test(start_paused = true)]
async fn too_little_memory_for_filters_is_said_once_with_what_is_needed() {
    let log = Log::keep(tracing::Level::WARN);
    let world = world(PACKED);
    world.broker.produce(0, ids(40));
    let lane = world.start(0);
    world.worked(0, 40).await;
    until(|| is_cool(&world)).await;
    quiet(Duration::from_secs(60)).await;
    lane.finish().await;
    let said = log.with("is too little");
    let [said] = &said[..] else { panic!("{said:?}") };
    assert!(said.contains("packed_memory=0 needed="), "{said}");
}
