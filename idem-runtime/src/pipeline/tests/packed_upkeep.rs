//! Packed markers of what is gone: partitions, scopes, the key that digests were made with.

use std::time::Duration;

use uuid::Uuid;

use super::harness::{World, ids, quiet, until};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::slices::{SLICES, produce};
use crate::Store as _;
use crate::error::ErrorKind;
use crate::key::Key;
use crate::marker::MarkerMode;
use crate::packed::{NewPack, Pack};
use crate::pipeline::policy::{LayoutChanged, LogChanged};
use crate::policy::{Markers, Policy};
use crate::scope::Registration;
use crate::store::PackedMarkers as _;
use crate::store::{Terms, Writer};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[tokio::test(start_paused = true)]
async fn data_beside_another_digest_key_stops_its_lane_before_anything_is_worked() {
    for slices in [1, SLICES] {
        let world = World::with(PACKED.slices(slices));
        world.register().await;
        produce(&world, 0, 4);
        world.drain(0).await;
        let whole = world.store.snapshot();
        world.store.renew_digest_key();
        produce(&world, 0, 5);
        let error = world.start(0).stopped().await;
        assert_eq!(error.kind(), ErrorKind::Migration, "{error:?}");
        for part in ["orders", "scope bill", "table `store`", "digest_key_id"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(world.bills().len(), 4);
        // With the row of the store it goes on.
        world.store.restore(&whole);
        world.drain(0).await;
        world.assert_sums(ids(5));
        assert_eq!(world.bills().len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_packed_does_not_mind_another_digest_key() {
    let mut world = World::of(bill(Policy::new().markers(Markers::Rows)), 1);
    world.register().await;
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    world.store.renew_digest_key();
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
    // And when it packs, it is with the key that there is.
    world.set_handlers(bill(PACKED));
    world.register().await;
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    assert_eq!(world.bills(), ids(4));
}

/// Another release of the group, which has retired the scope.
async fn retire(world: &World) {
    let (scopes, retire) = ([("other", MarkerMode::Packed)], ["bill".to_owned()]);
    let registration = Registration {
        group: "g",
        scopes: &scopes,
        windows: &[],
        adopt: &[],
        retire: &retire,
        broadcast: None,
    };
    world.store.register(&registration).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_still_has_the_handler_of_a_forgotten_scope_stops_and_repeats_nothing() {
    for slices in [1, SLICES] {
        let world = World::with(PACKED.slices(slices));
        world.register().await;
        let lane = world.start(0);
        produce(&world, 0, 4);
        until(|| lane.resolved() == Some(4)).await;
        retire(&world).await;
        produce(&world, 0, 5);
        until(|| lane.resolved() == Some(9)).await;
        assert_eq!(world.store.forget_retired("g", Some(Duration::ZERO)).await.unwrap(), ["bill"]);
        produce(&world, 0, 6);
        let error = lane.stopped().await;
        assert_eq!(error.kind(), ErrorKind::Scope, "{error:?}");
        assert!(error.to_string().contains("scope bill was retired"), "{error}");
        assert_eq!(world.start(0).stopped().await.kind(), ErrorKind::Scope);
        assert_eq!(world.bills().len(), 5);
        // Registered again it is a new scope, from where the lane is.
        world.register().await;
        world.drain(0).await;
        assert_eq!(world.bills().len(), 11);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_another_lane_for_what_is_forgotten_stops_and_repeats_nothing() {
    let world = world_of(1);
    world.register().await;
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    world.broker.add_partitions(1);
    let lane = world.start(1);
    until(|| lane.seat.held().is_some()).await;
    retire(&world).await;
    assert_eq!(world.store.forget_retired("g", Some(Duration::ZERO)).await.unwrap(), ["bill"]);
    world.broker.produce(1, ["e1"]);
    assert_eq!(lane.stopped().await.kind(), ErrorKind::Scope);
    assert_eq!(world.bills(), ids(2));
}

#[tokio::test(start_paused = true)]
async fn who_keeps_rows_by_now_for_what_was_packed_and_is_forgotten_stops_and_repeats_nothing() {
    let mut world = World::of(bill(PACKED), 1);
    world.register().await;
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    world.set_handlers(bill(Policy::new().markers(Markers::Rows)));
    world.register().await;
    let lane = world.start(0);
    world.broker.produce(0, ids(1));
    world.worked(0, 3).await;
    retire(&world).await;
    assert_eq!(world.store.forget_retired("g", Some(Duration::ZERO)).await.unwrap(), ["bill"]);
    world.broker.produce(0, ids(2));
    assert_eq!(lane.stopped().await.kind(), ErrorKind::Scope);
    assert_eq!(world.bills(), ids(2));
}

/// A row for every slice in the lane of a partition, as a replay writes it.
async fn pack_direct(world: &World, partition: i32, key: &str) {
    let (store, writer) = (&world.store, Writer::Direct { attempt: Uuid::new_v4() });
    let digest = store.digest_key().await.unwrap().digest(&Key::new(key).unwrap());
    let data = Pack { entries: vec![(0, digest)], spans: Vec::new() }.encode();
    let pack = NewPack {
        scope: "bill",
        partitions: 0,
        first_offset: 0,
        last_offset: 0,
        count: 1,
        data: &data,
        every_slice: true,
    };
    let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
    let lane = world.row(partition).number;
    assert!(store.pack_direct(&mut tx, lane, 0, &pack, digest).await.unwrap());
    store.seal(&mut tx, &writer, None).await.unwrap();
    store.commit(tx).await.unwrap();
}

fn rows_of(world: &World, partition: i32) -> usize {
    let number = world.row(partition).number;
    world.packs("bill").iter().filter(|row| row.lane == number).count()
}

fn world_of(partitions: usize) -> World {
    let mut world = World::of(bill(PACKED), partitions);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.policies.log_changed = LogChanged::Earliest;
    world
}

#[tokio::test(start_paused = true)]
async fn what_a_partition_had_that_is_gone_is_known_until_it_is_out_of_date_and_then_forgotten() {
    let world = world_of(3);
    for partition in 1..3 {
        world.broker.produce(partition, [format!("e{partition}")]);
        world.drain(partition).await;
        pack_direct(&world, partition, &format!("d{partition}")).await;
    }
    world.broker.recreate_with(1);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    quiet(Duration::from_secs(3600)).await;
    assert_eq!((rows_of(&world, 1), rows_of(&world, 2)), (2, 2));
    assert!(world.store.look(|view| view.runs()) > 0);
    world.broker.produce(0, ["e1", "e2"]);
    world.worked(0, 2).await;
    assert_eq!(world.bills(), ["e1", "e2"]);
    world.store.age_packs("bill", WEEK * 2);
    quiet(Duration::from_secs(3600)).await;
    assert_eq!((rows_of(&world, 1), rows_of(&world, 2)), (0, 0));
    assert!(world.counts().packed_rows_forgotten >= 4);
    // Their runs are gone with them, and nobody asks for those any more.
    world.broker.produce(0, ["e3"]);
    world.worked(0, 3).await;
    assert_eq!(world.counts().packed_runs, 0);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_date_in_a_partition_that_is_there_is_its_own_lanes_to_forget() {
    const ERA: Duration = Duration::from_secs(1181); // of a week
    let world = world_of(3);
    for partition in 1..3 {
        world.broker.produce(partition, [format!("e{partition}")]);
        world.drain(partition).await;
    }
    // Fewer partitions than before, and one more than that.
    world.broker.recreate_with(1);
    world.broker.add_partitions(1);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    // As its own lane would: an era later than the window.
    world.store.age_packs("bill", WEEK);
    quiet(ERA - Duration::from_secs(300)).await;
    assert_eq!((rows_of(&world, 1), rows_of(&world, 2)), (1, 1));
    world.store.age_packs("bill", ERA);
    quiet(ERA).await;
    assert_eq!((rows_of(&world, 1), rows_of(&world, 2)), (1, 0));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_of_a_partition_that_may_only_seem_to_be_gone() {
    let world = world_of(2);
    world.broker.tells_identity(false);
    world.broker.produce(1, ["e1"]);
    world.drain(1).await;
    world.broker.recreate_with(1);
    world.broker.tells_identity(false);
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.store.age_packs("bill", WEEK * 2);
    quiet(Duration::from_secs(3600)).await;
    assert_eq!(rows_of(&world, 1), 1);
    lane.finish().await;
}
