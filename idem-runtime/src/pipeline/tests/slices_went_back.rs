use std::time::Duration;

use super::handlers::{Bill, Do};
use super::harness::{World, ids, quiet, until};
use super::slices::{SLICES, assert_in_order, key, produce, sliced, world};
use crate::group::Registered;
use crate::pipeline::policy::LayoutChanged;
use crate::policy::{Policy, Retry};

#[tokio::test(start_paused = true)]
async fn a_database_that_went_back_under_idle_slices_is_noticed_by_the_watch() {
    let world = world();
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    produce(&world, 0, 8);
    world.worked(0, 8).await;
    let earlier = world.store.snapshot();
    produce(&world, 8, 16);
    world.worked(0, 16).await;
    world.store.restore(&earlier);
    until(|| world.bills().len() == 16).await;
    world.worked(0, 16).await;
    assert_eq!(world.counts().went_back, 1);
    world.assert_sums(ids(16));
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_lost_what_slices_did_since_the_lane_was_moved_is_noticed() {
    let world = world();
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    produce(&world, 0, 8);
    world.worked(0, 8).await;
    // The lane's row is the same before and after: it is moved only now and then.
    let earlier = world.store.snapshot();
    produce(&world, 8, 16);
    until(|| world.bills().len() == 16).await;
    assert_eq!(world.position(0), 8);
    world.store.restore(&earlier);
    quiet(Duration::from_secs(30)).await;
    world.assert_sums(ids(16));
    world.worked(0, 16).await;
    assert_in_order(&world);
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_one_slice_lost_is_not_made_up_for_by_another() {
    let world = World::with(Policy::new().slices(SLICES).retry(Retry::forever()));
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    produce(&world, 0, 8);
    world.worked(0, 8).await;
    let earlier = world.store.snapshot();
    produce(&world, 8, 9);
    until(|| world.bills().len() == 9).await;
    world.store.restore(&earlier);
    // Another slice works a part of its batch, and is at the rest of it for a long time.
    world.script.always("bill", "bad", Do::Fail);
    let id = |n: usize| if n == 1 { "bad".to_owned() } else { format!("f{n}") };
    world.broker.produce_keyed(0, (0..3).map(|n| (key(1), id(n))));
    quiet(Duration::from_secs(60)).await;
    world.assert_sums(ids(9));
    world.script.mend();
    world.worked(0, 12).await;
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_leaves_a_database_that_went_back_skips_nothing() {
    let world = world();
    let lane = world.start(0);
    produce(&world, 0, 8);
    world.worked(0, 8).await;
    let earlier = world.store.snapshot();
    produce(&world, 8, 16);
    until(|| world.bills().len() == 16).await;
    world.store.restore(&earlier);
    lane.finish().await;
    world.drain(0).await;
    world.assert_sums(ids(16));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_went_back_to_before_it_was_divided_is_read_again() {
    let mut world = sliced(1);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    produce(&world, 0, 4);
    world.drain(0).await;
    let earlier = world.store.snapshot();
    let mut bill = Registered::of::<Bill>();
    bill.policy = Policy::new().slices(SLICES);
    world.set_handlers(vec![bill]);
    let lane = world.start(0);
    produce(&world, 4, 8);
    world.worked(0, 8).await;
    world.store.restore(&earlier);
    produce(&world, 8, 12);
    until(|| world.bills().len() == 12).await;
    world.assert_sums(ids(12));
    lane.finish().await;
}
