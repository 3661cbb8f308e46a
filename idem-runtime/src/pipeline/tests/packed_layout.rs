//! Packed markers where a key may be somewhere else than it was: partitions that are added, slices that
//! change, and scopes that begin to keep their markers in another form.

use super::handlers::{Bill, Do};
use super::harness::{World, ids, until};
use super::packed::PACKED;
use super::slices::{SLICES, key, produce};
use crate::Store as _;
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::key::Key;
use crate::memory::Memory;
use crate::packed::WindowId;
use crate::pipeline::policy::{LayoutChanged, Stale};
use crate::policy::{Markers, Policy, Retry, Window};
use crate::store::PackedMarkers as _;
use crate::store::{Claim, Writer};

pub(super) fn bill(policy: Policy) -> Vec<Registered<Memory>> {
    let mut bill = Registered::of::<Bill>();
    bill.policy = policy;
    vec![bill]
}

/// Two partitions that are drained; then there are three.
async fn grown(layout_changed: LayoutChanged) -> World {
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = layout_changed;
    world.broker.produce(0, ["a", "b"]);
    world.broker.produce(1, ["c"]);
    world.drain(0).await;
    world.drain(1).await;
    world.broker.add_partitions(1);
    world
}

#[tokio::test(start_paused = true)]
async fn a_topic_with_more_partitions_than_before_stops_every_lane_with_an_explanation() {
    let world = grown(LayoutChanged::Stop).await;
    world.broker.produce(2, ["a"]);
    for partition in 0..3 {
        let error = world.start(partition).stopped().await;
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::LayoutChanged, "{text}");
        for part in ["partitions of the topic was 2 and is 3", "scope bill", "LayoutChanged::Widen"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(world.bills(), ["a", "b", "c"]);
    assert_eq!(world.position(2), 0, "nothing was skipped");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_moved_to_another_partition_is_found_where_windows_are_widened() {
    let world = grown(LayoutChanged::Widen).await;
    world.broker.produce(2, ["a", "c", "d"]);
    world.broker.produce(0, ["c", "e"]);
    for _ in 0..2 {
        for partition in 0..3 {
            world.drain(partition).await;
        }
    }
    for partition in 0..3 {
        world.again_from(partition, 0).await;
    }
    let mut bills = world.bills();
    bills.sort();
    assert_eq!(bills, ["a", "b", "c", "d", "e"]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_added_is_noticed_by_lanes_that_run() {
    for widens in [true, false] {
        let mut world = World::of(bill(PACKED), 2);
        if widens {
            world.settings.policies.layout_changed = LayoutChanged::Widen;
        }
        let lane = world.start(0);
        let watch = world.watch(&[&lane]);
        world.broker.produce(0, ["a", "b"]);
        world.worked(0, 2).await;
        let token = world.row(0).token;
        world.broker.add_partitions(1);
        match widens {
            true => {
                until(|| world.row(0).token != token).await;
                world.broker.produce(0, ["a", "c"]);
                world.worked(0, 4).await;
                assert_eq!(world.bills(), ["a", "b", "c"]);
                assert_eq!(world.packs("bill").last().unwrap().partitions, 3);
                lane.finish().await;
            }
            false => assert_eq!(lane.stopped().await.kind(), ErrorKind::LayoutChanged),
        }
        watch.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn another_number_of_slices_stops_the_lane_or_is_widened() {
    for (before, now) in [(1, SLICES), (SLICES, 1), (SLICES, 2)] {
        let mut world = World::of(bill(PACKED.slices(before)), 1);
        produce(&world, 0, 8);
        world.drain(0).await;
        world.set_handlers(bill(PACKED.slices(now)));
        let error = world.start(0).stopped().await;
        assert_eq!(error.kind(), ErrorKind::LayoutChanged);
        assert!(error.to_string().contains("slices of the lane"), "{error}");
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        produce(&world, 0, 12);
        world.drain(0).await;
        world.again_from(0, 0).await;
        world.assert_sums(ids(12));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_in_other_slices_ages_out_like_anything_else() {
    for (before, now) in [(SLICES, 1), (1, SLICES), (SLICES, 2)] {
        let policy = PACKED.window(Window::DEFAULT.events(0));
        let mut world = World::of(bill(policy.slices(before)), 1);
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        produce(&world, 0, 8);
        world.drain(0).await;
        world.set_handlers(bill(policy.slices(now)));
        let end = world.broker.high(0);
        world.broker.trim(0, end);
        let lane = world.start(0);
        until(|| world.packs("bill").is_empty()).await;
        lane.finish().await;
        // Nobody has to widen any more.
        world.settings.policies.layout_changed = LayoutChanged::Stop;
        produce(&world, 8, 12);
        world.drain(0).await;
        world.assert_sums(ids(12).into_iter().skip(8));
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_stays_known_and_has_a_floor_of_its_own() {
    let mut world = World::of(bill(PACKED.window(Window::DEFAULT.events(2))), 1);
    world.settings.policies.log_changed = crate::LogChanged::Earliest;
    world.settings.policies.stale = Some(Stale::Skip);
    world.settings.max_batch = 1;
    world.broker.produce(0, ids(6));
    world.drain(0).await;
    let lane = world.start(0);
    until(|| world.packs("bill").len() == 2).await;
    lane.finish().await;
    let number = world.row(0).number;
    let id = WindowId { lane: number, scope: "bill", slice: None };
    assert_eq!(world.store.window(&id).await.unwrap().floor, 4);
    world.broker.recreate();
    // One that is known, and one at an offset below the floor of the log before.
    world.broker.produce(0, ["e5", "new"]);
    world.drain(0).await;
    assert_eq!(world.store.window(&id).await.unwrap().floor, 0);
    assert_eq!(world.bills().last().unwrap(), "new");
    assert_eq!((world.bills().len(), world.counts().stale), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_changes_the_form_of_its_markers_knows_what_it_had() {
    for slices in [1, SLICES] {
        let rows = Policy::new().markers(Markers::Rows).slices(slices).retry(Retry::never());
        let packed = rows.markers(Markers::Packed);
        let mut world = World::of(bill(rows), 1);
        let event = |n: u16| (key(n % 4), format!("e{n}"));
        world.register().await;
        world.script.always("bill", "e1", Do::Fail);
        world.broker.produce_keyed(0, (0..3).map(event));
        world.drain(0).await;

        world.set_handlers(bill(packed));
        world.register().await;
        world.script.always("bill", "e4", Do::Fail);
        world.broker.produce_keyed(0, (0..6).map(event));
        world.drain(0).await;
        world.again_from(0, 0).await;

        world.set_handlers(bill(rows));
        world.register().await;
        world.broker.produce_keyed(0, (0..8).map(event));
        world.drain(0).await;
        world.again_from(0, 0).await;

        world.script.mend();
        let report = world.replay().run(&crate::LetterFilter::new()).await.unwrap();
        assert_eq!(report.processed, 2);
        world.again_from(0, 0).await;
        let mut bills = world.bills();
        bills.sort();
        assert_eq!(bills, ids(8), "{slices} slices");
        assert_eq!(world.letters().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_packed_markers_forgot_is_stale_for_rows_too() {
    for kept in [2, 0] {
        let mut world = World::of(bill(PACKED.window(Window::DEFAULT.events(kept))), 1);
        world.settings.policies.stale = Some(Stale::Skip);
        world.settings.max_batch = 1;
        world.register().await;
        world.broker.produce(0, ids(6));
        world.drain(0).await;
        let lane = world.start(0);
        until(|| world.packs("bill").len() as u64 == kept).await;
        lane.finish().await;
        world.set_handlers(bill(Policy::new().markers(Markers::Rows)));
        world.register().await;
        world.again_from(0, 0).await;
        assert_eq!((world.bills(), world.counts().stale), (ids(6), 6 - kept));
        world.broker.produce(0, ["e6"]);
        world.drain(0).await;
        world.again_from(0, 0).await;
        assert_eq!((world.bills(), world.counts().stale), (ids(7), 2 * (6 - kept)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_kafka_is_refused_where_it_would_not_be_seen() {
    let world = World::of(bill(PACKED), 1);
    world.register().await;
    let key = Key::new("e0").unwrap();
    let writer = Writer::Direct { attempt: uuid::Uuid::new_v4() };
    let mut tx = world.store.begin(&writer, &crate::store::Terms::default()).await.unwrap();
    let claim = world.store.claim(&mut tx, &writer, &[Claim::new("bill", &key)]).await;
    let error = claim.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Scope);
    assert!(error.to_string().contains("scope `bill`"), "{error}");
}
