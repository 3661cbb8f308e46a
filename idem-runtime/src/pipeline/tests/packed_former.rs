//! What was packed, after something else changed: the form of the markers, or the log, which lost its tail.

use std::time::Duration;

use uuid::Uuid;

use super::handlers::Do;
use super::harness::{World, ids, quiet, until};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::packed_merging::put_into_run;
use super::slices::{SLICES, produce};
use crate::Store as _;
use crate::dead_letter::LetterFilter;
use crate::error::ErrorKind;
use crate::key::Key;
use crate::memory::Point;
use crate::pipeline::policy::{LayoutChanged, LogChanged, Stale};
use crate::policy::{Markers, Policy, Retry, Window};
use crate::store::{Claim, Claimed, Terms, Writer};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const ROWS: Policy = Policy::new().markers(Markers::Rows);

/// A batch an event, and often tended to.
fn world(policy: Policy) -> World {
    let mut world = World::of(bill(policy), 1);
    world.settings.max_batch = 1;
    world.settings.tend_interval = Duration::from_millis(100);
    world
}

/// The next release keeps its markers so.
async fn switch(world: &mut World, policy: Policy) {
    world.set_handlers(bill(policy));
    world.register().await;
}

/// Until so many digests are in rows.
async fn until_packed(world: &World, count: u32) {
    until(|| world.packs("bill").iter().map(|row| row.count).sum::<u32>() == count).await;
}

/// What a call without Kafka under this key is told: whether it is new.
async fn call(world: &World, key: &str) -> crate::Result<bool> {
    let (key, writer) = (Key::new(key).unwrap(), Writer::Direct { attempt: Uuid::new_v4() });
    let mut tx = world.store.begin(&writer, &Terms::default()).await?;
    let claimed = world.store.claim(&mut tx, &writer, &[Claim::new("bill", &key)]).await;
    match claimed {
        Ok(claimed) => {
            world.store.seal(&mut tx, &writer, None).await?;
            world.store.commit(tx).await?;
            Ok(matches!(claimed, Claimed::Keys(new) if new == [true]))
        }
        Err(error) => {
            world.store.rollback(tx).await;
            Err(error)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_early_is_stale_also_after_the_log_lost_its_tail() {
    for (kept, stale) in [(4, 6), (0, 8)] {
        let mut world = world(PACKED.window(Window::DEFAULT.events(kept)));
        world.settings.policies.stale = Some(Stale::Skip);
        world.settings.policies.log_changed = LogChanged::Earliest;
        world.broker.produce(0, ids(10));
        let lane = world.start(0);
        world.worked(0, 10).await;
        until_packed(&world, u32::try_from(kept).unwrap()).await;
        lane.finish().await;
        world.broker.truncate(0, 8);
        let lane = world.start(0);
        until(|| lane.resolved() == Some(8)).await;
        // Others are where the tail was, perhaps below what the floor was.
        world.broker.produce(0, ids(13).split_off(10));
        world.worked(0, 11).await;
        lane.finish().await;
        assert_eq!((world.bills(), world.counts().stale), (ids(13), stale));
    }
}

#[tokio::test(start_paused = true)]
async fn what_kafka_can_still_deliver_is_kept_also_after_the_log_lost_its_tail() {
    let mut world = world(PACKED.window(Window::time(DAY)));
    world.settings.policies.log_changed = LogChanged::Earliest;
    world.broker.produce(0, ids(10));
    world.drain(0).await;
    world.store.age_packs("bill", DAY * 2);
    world.broker.truncate(0, 8);
    let begun = world.store.faults().pause(Point::Begin);
    let lane = world.start(0);
    begun.reached().await;
    quiet(Duration::from_secs(5)).await;
    begun.release();
    until(|| lane.resolved() == Some(8)).await;
    assert_eq!(world.bills(), ids(10));
    // What is gone from the log goes with it, as ever.
    world.broker.produce(0, ids(4));
    world.worked(0, 12).await;
    world.broker.trim(0, 12);
    world.store.age_packs("bill", DAY * 2);
    until(|| world.packs("bill").is_empty()).await;
    lane.finish().await;
    assert_eq!(world.bills(), ids(10));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_kafka_is_refused_for_as_long_as_something_is_packed() {
    let mut world = world(PACKED.window(Window::time(DAY)));
    world.register().await;
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    switch(&mut world, ROWS).await;
    for key in ["e0", "e1"] {
        assert_eq!(call(&world, key).await.unwrap_err().kind(), ErrorKind::Scope);
    }
    world.broker.trim(0, 1);
    world.store.age_packs("bill", DAY * 20);
    let lane = world.start(0);
    until(|| world.packs("bill").is_empty()).await;
    lane.finish().await;
    assert!(call(&world, "e1").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_got_a_key_that_was_packed_before_the_switch_is_superseded() {
    let mut world = world(PACKED.retry(Retry::never()));
    world.register().await;
    world.broker.produce(0, ["", "e0"]);
    world.drain(0).await;
    world.dead_letters().edit(1, Some(br#"{"id":"e0"}"#), "its id was missing").await.unwrap();
    switch(&mut world, ROWS.retry(Retry::never())).await;
    let report = world.replay().run(&LetterFilter::new()).await.unwrap();
    assert_eq!((report.processed, report.superseded), (0, 1));
    assert_eq!(world.bills(), ["e0"]);
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ["e0"]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_packs_is_told_that_its_scope_keeps_rows_from_now_on() {
    let mut world = world(PACKED);
    world.register().await;
    let old = world.start(0);
    until(|| old.seat.held().is_some()).await;
    // Another instance is of the next release. Nothing was packed yet, so that calls are let through.
    world.set_handlers(bill(ROWS));
    world.register().await;
    assert!(call(&world, "e0").await.unwrap());
    world.broker.produce(0, ["e0", "e1"]);
    world.worked(0, 2).await;
    old.finish().await;
    assert_eq!(world.bills(), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn rows_from_between_two_times_of_packing_are_found_when_they_are_delivered_again() {
    for packed_since in [false, true] {
        let packed = PACKED.window(Window::time(HOUR));
        let mut world = world(packed);
        world.register().await;
        world.broker.produce(0, ["e0", "e1"]);
        world.drain(0).await;
        switch(&mut world, ROWS).await;
        world.broker.produce(0, ["e2", "e3"]);
        world.drain(0).await;
        switch(&mut world, packed).await;
        if packed_since {
            world.broker.produce(0, ["e4"]);
            world.drain(0).await;
        }
        tokio::time::advance(HOUR * 3).await;
        world.again_from(0, 0).await;
        assert_eq!(world.bills(), ids(if packed_since { 5 } else { 4 }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_packs_asks_the_rows_of_another_that_keeps_rows_meanwhile() {
    let packed = PACKED.window(Window::time(HOUR));
    let mut world = world(packed);
    world.register().await;
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    switch(&mut world, ROWS).await;
    tokio::time::advance(HOUR * 3).await;
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    // An instance of the former release is still there, and has the partition now.
    world.set_handlers(bill(packed));
    world.broker.produce(0, ["e0", "e1", "e2"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ids(3));
}

#[tokio::test(start_paused = true)]
async fn what_is_worked_in_another_form_than_is_recorded_is_found_in_the_recorded_one() {
    // As where the database was put back to before the scope was switched.
    let mut world = World::of(bill(PACKED), 1);
    world.register().await;
    world.set_handlers(bill(ROWS));
    world.broker.produce(0, ["a"]);
    world.drain(0).await;
    world.set_handlers(bill(PACKED));
    world.broker.produce(0, ["a"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["a"]);

    let mut world = World::of(bill(ROWS), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.register().await;
    world.set_handlers(bill(PACKED));
    world.broker.produce(0, ["a"]);
    world.drain(0).await;
    world.set_handlers(bill(ROWS));
    world.broker.add_partitions(1);
    world.broker.produce(2, ["a"]);
    world.drain(2).await;
    assert_eq!(world.bills(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_early_is_not_new_when_its_handler_keeps_rows_and_says_nothing_of_it() {
    let mut world = world(PACKED.window(Window::DEFAULT.events(0)));
    world.settings.policies.stale = Some(Stale::Skip);
    world.register().await;
    world.broker.produce(0, ids(6));
    let lane = world.start(0);
    world.worked(0, 6).await;
    until_packed(&world, 0).await;
    lane.finish().await;
    switch(&mut world, ROWS).await;
    world.settings.policies.stale = None;
    world.broker.produce(0, ["e6"]);
    world.drain(0).await;
    world.broker.reset(0, 2);
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    assert_eq!(world.bills(), ids(7));
}

#[tokio::test(start_paused = true)]
async fn a_window_stays_as_long_as_it_was_when_its_handler_keeps_rows_and_has_none() {
    let mut world = world(PACKED.window(Window::time(DAY * 30)));
    world.register().await;
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    world.broker.trim(0, 1);
    switch(&mut world, ROWS).await;
    for (days, packed) in [(10, 1), (21, 0)] {
        world.store.age_packs("bill", DAY * days);
        let lane = world.start(0);
        quiet(Duration::from_secs(5)).await;
        assert_eq!(world.packs("bill").len(), packed, "{days}");
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_before_a_scope_packed_is_packed_when_it_is_replayed() {
    let mut world = world(ROWS.retry(Retry::never()));
    world.register().await;
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ["e0", "e1"]);
    world.drain(0).await;
    switch(&mut world, PACKED.window(Window::time(HOUR)).retry(Retry::never())).await;
    tokio::time::advance(HOUR * 3).await;
    world.broker.produce(0, ["e9"]);
    world.drain(0).await;
    world.script.mend();
    assert_eq!(world.replay().run(&LetterFilter::new()).await.unwrap().processed, 1);
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "e9", "e1"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_window_by_count_has_forgotten_is_in_memory_no_more() {
    let mut world = world(PACKED.window(Window::DEFAULT.events(4)));
    world.settings.policies.stale = Some(Stale::Skip);
    world.settings.portions.spare = 0;
    let lane = world.start(0);
    for n in 0..30 {
        world.broker.produce(0, [format!("e{n}")]);
        world.worked(0, n + 1).await;
        tokio::time::advance(HOUR).await;
    }
    until_packed(&world, 4).await;
    until(|| world.counts().packed_digests <= 5).await;
    world.broker.produce(0, ids(30).split_off(26));
    world.worked(0, 34).await;
    lane.finish().await;
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ids(30));
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_in_slices_that_is_moved_from_outside_is_taken_again_when_it_looks() {
    let world = World::with(PACKED.slices(SLICES));
    world.register().await;
    produce(&world, 0, 8);
    let lane = world.start(0);
    world.worked(0, 8).await;
    let token = || lane.seat.held().map(|(held, _)| held.token);
    let before = token();
    lane.seat.look();
    quiet(Duration::from_secs(10)).await;
    assert_eq!(token(), before, "nothing happened");
    assert!(world.forget("e1").await);
    lane.seat.look();
    until(|| token() != before).await;
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_put_into_runs_stays_in_memory_when_older_rows_are_forgotten_by_count() {
    let mut world = world(PACKED.window(Window::DEFAULT.events(4)));
    world.settings.policies.stale = Some(Stale::Skip);
    world.settings.portions.spare = 0;
    let lane = world.start(0);
    for n in 0..6 {
        if n == 4 {
            // By who widens: the lane does not ask these runs.
            for row in world.packs("bill") {
                put_into_run(&world, &world.row(0).held(), &row, 0).await;
            }
        }
        world.broker.produce(0, [format!("e{n}")]);
        world.worked(0, n + 1).await;
        tokio::time::advance(HOUR).await;
        quiet(Duration::from_secs(1)).await;
    }
    until_packed(&world, 4).await;
    world.broker.produce(0, ids(6).split_off(2));
    world.worked(0, 10).await;
    lane.finish().await;
    assert_eq!(world.bills(), ids(6));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_got_the_key_of_another_one_is_worked_in_its_place() {
    for rows_by_now in [false, true] {
        let mut world = world(PACKED.retry(Retry::never()));
        world.register().await;
        world.script.always("bill", "e1", Do::Fail);
        world.broker.produce(0, ["", "e1"]);
        world.drain(0).await;
        world.dead_letters().edit(1, Some(br#"{"id":"e1"}"#), "its id was missing").await.unwrap();
        if rows_by_now {
            switch(&mut world, ROWS.retry(Retry::never())).await;
        }
        world.script.mend();
        let report = world.replay().run(&LetterFilter::id(1)).await.unwrap();
        assert_eq!((report.processed, report.superseded), (1, 0));
        let report = world.replay().run(&LetterFilter::id(2)).await.unwrap();
        assert_eq!((report.processed, report.superseded), (0, 1));
        world.again_from(0, 0).await;
        assert_eq!(world.bills(), ["e1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_after_a_switch_disturbs_no_lane_when_it_is_replayed() {
    let mut world = world(ROWS.retry(Retry::never()));
    world.register().await;
    world.broker.produce(0, ["e0"]);
    world.drain(0).await;
    switch(&mut world, PACKED.retry(Retry::never())).await;
    tokio::time::advance(HOUR).await;
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    world.script.mend();
    tokio::time::advance(HOUR).await;
    let before = world.row(0).revision;
    assert_eq!(world.replay().run(&LetterFilter::new()).await.unwrap().processed, 1);
    assert_eq!(world.row(0).revision, before);
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ["e0", "e1"]);
}
