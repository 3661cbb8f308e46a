//! Packed markers: what a lane knows by its window, and what keeps that true.

use super::client::Client;
use super::handlers::{Audit, Bill, Count, Do, Gate};
use super::harness::{World, ids, is_packed, until};
use super::slices::{SLICES, produce};
use crate::Store as _;
use crate::dead_letter::{FailureClass, LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::key::Key;
use crate::memory::{Memory, Point};
use crate::policy::{Markers, OnFailure, Policy, Retry};

pub(super) const PACKED: Policy = Policy::new().markers(Markers::Packed);

fn of(mut handler: Registered<Memory>, markers: Markers) -> Registered<Memory> {
    handler.policy.markers = Some(markers);
    handler
}

fn all() -> LetterFilter {
    LetterFilter::new()
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_found_in_its_batch_in_a_later_one_and_by_whoever_has_the_lane_next() {
    let mut world = World::with(PACKED);
    world.settings.max_batch = 3;
    let lane = world.start(0);
    until(|| lane.seat.held().is_some()).await;
    world.broker.produce(0, ["a", "b", "a", "c", "b"]);
    world.worked(0, 5).await;
    world.broker.produce(0, ["a", "d"]);
    world.worked(0, 7).await;
    lane.finish().await;
    let lane = world.start(0);
    world.broker.produce(0, ["c", "e"]);
    world.worked(0, 9).await;
    lane.kill().await;
    let lane = world.start(0);
    world.broker.produce(0, ["e", "f"]);
    world.worked(0, 11).await;
    let other = world.start_on("b", 0, &Client::new(&world.broker));
    world.broker.produce(0, ["f", "g"]);
    world.worked(0, 13).await;
    assert_eq!(world.bills(), ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!((world.counts().processed, world.counts().duplicates), (7, 6));
    assert_eq!(world.store.look(|view| view.keys("bill").len()), 0, "there are no rows of keys");
    lane.finish().await;
    other.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_window_is_out_of_date_commits_nothing() {
    let world = World::with(PACKED);
    world.broker.produce(0, ids(2));
    let lane = world.start(0);
    world.worked(0, 2).await;
    // Its window has answered, when another owner does the same events.
    let pause = world.store.faults().pause(Point::Pack);
    world.broker.produce(0, ["e2", "e1"]);
    pause.reached().await;
    let other = world.start_on("b", 0, &Client::new(&world.broker));
    world.worked(0, 4).await;
    pause.release();
    until(|| world.counts().fenced == 1).await;
    assert_eq!(world.bills(), ids(3));
    assert_eq!(world.script.ids(), ids(3), "the late one did not run its handler");
    lane.finish().await;
    other.finish().await;
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ids(3));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_learnt_from_when_the_commit_landed_and_only_then() {
    for landed in [true, false] {
        let world = World::with(PACKED);
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        let token = world.row(0).token;
        let faults = world.store.faults();
        match landed {
            true => faults.lose_the_answer_of_a_commit(),
            false => faults.fail(Point::Commit, ErrorKind::UnknownCommit),
        }
        world.broker.produce(0, ids(3));
        until(|| lane.resolved() == Some(3)).await;
        world.broker.produce(0, ids(4));
        until(|| lane.resolved() == Some(7)).await;
        assert_eq!(world.bills(), ids(4), "landed: {landed}");
        assert_eq!((world.counts().processed, world.counts().duplicates), (4, 3));
        assert_eq!(world.row(0).token, token, "the lane was taken once");
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_was_undone_has_taught_the_window_nothing() {
    for point in [Point::Pack, Point::Seal, Point::Commit] {
        let world = World::with(PACKED);
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        world.store.faults().fail(point, ErrorKind::Transient);
        world.script.on("e1", [Do::Fail, Do::FailStatement, Do::Panic]);
        world.broker.produce(0, ids(3));
        world.worked(0, 3).await;
        assert_eq!(world.bills(), ids(3), "{point:?}");
        assert_eq!((world.counts().processed, world.counts().duplicates), (3, 0), "{point:?}");
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_goes_back_with_its_database() {
    let world = World::with(PACKED);
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    world.broker.produce(0, ids(3));
    world.worked(0, 3).await;
    let earlier = world.store.snapshot();
    world.broker.produce(0, ["e3", "e4", "e0"]);
    world.worked(0, 6).await;
    world.store.restore(&earlier);
    until(|| world.counts().went_back == 1).await;
    world.worked(0, 6).await;
    assert_eq!(world.bills(), ids(5), "what the database lost is done again, and nothing else");
    watch.abort();
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_rewind_and_a_replay_of_the_whole_topic_are_duplicates() {
    let mut world = World::with(PACKED);
    world.settings.max_batch = 4;
    world.broker.produce(0, ids(10));
    world.drain(0).await;
    let rows = world.packs("bill").len();
    world.again_from(0, 0).await;
    assert_eq!(world.packs("bill").len(), rows, "what is at its own place is not written again");
    world.broker.produce(0, ids(10));
    world.drain(0).await;
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ids(10));
    assert_eq!((world.counts().processed, world.counts().duplicates), (10, 10 + 10 + 20));
}

/// `e1` of three is a dead letter, and its handler works now.
async fn dead() -> World {
    let world = World::with(PACKED.retry(Retry::never()));
    world.register().await;
    world.script.always("bill", "e1", Do::Fail);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.script.mend();
    world
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_dead_event_is_known_whatever_becomes_of_its_letter() {
    for settled in ["not", "replayed", "dropped"] {
        let world = dead().await;
        match settled {
            "replayed" => assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1),
            "dropped" => {
                let dropped = world.dead_letters().discard(&all(), "no").await.unwrap();
                assert_eq!(dropped, 1);
            }
            _ => {}
        }
        let before = world.bills();
        world.again_from(0, 0).await;
        world.broker.produce(0, ids(3));
        world.drain(0).await;
        assert_eq!(world.bills(), before, "{settled}");
        assert_eq!(world.script.attempts("e1").len(), 1 + usize::from(settled == "replayed"));
        assert_eq!(world.letters().len(), 1, "{settled}");
        world.assert_sums(ids(3));
    }
}

#[tokio::test(start_paused = true)]
async fn another_payload_under_the_key_of_a_dead_event_is_kept_beside_its_letter() {
    let world = dead().await;
    let corrected = r#"{"id":"e1","corrected":true}"#.to_owned();
    // Once by the owner that gave it up or one that loaded it, and once in one batch with a copy.
    world.broker.produce_raw(0, [corrected.clone()]);
    world.drain(0).await;
    world.broker.produce_raw(0, [corrected.clone(), corrected]);
    world.broker.produce(0, ["e1"]);
    world.drain(0).await;
    let classes: Vec<_> = world.letters().into_iter().map(|it| it.3.unwrap()).collect();
    assert_eq!(classes, [FailureClass::Handler, FailureClass::Correction]);
    assert_eq!(world.bills(), ["e0", "e2"]);
}

#[tokio::test(start_paused = true)]
async fn parked_events_are_worked_once_after_their_release_and_known_from_then_on() {
    let policy = PACKED.retry(Retry::never()).on_failure(OnFailure::ParkKey { limit: 10 });
    let world = World::with(policy);
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_keyed(0, [("k", "e0"), ("k", "e1"), ("x", "e2")]);
    let lane = world.start(0);
    world.worked(0, 3).await;
    // What waits is a duplicate when it comes again, and so is what it waits for.
    world.broker.produce_keyed(0, [("k", "e1"), ("k", "e0"), ("k", "e3")]);
    world.worked(0, 6).await;
    assert_eq!(world.letters_in(LetterState::Waiting), ["e1", "e3"]);
    world.script.mend();
    assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1);
    until(|| world.bills().len() == 4).await;
    assert_eq!(world.bills(), ["e2", "e0", "e1", "e3"]);
    world.broker.produce_keyed(0, (0..4).map(|n| ("k", format!("e{n}"))));
    world.worked(0, 10).await;
    lane.finish().await;
    world.again_from(0, 0).await;
    assert_eq!(world.bills().len(), 4);
    world.assert_sums(ids(4));
}

/// A dead letter without a key, to which somebody gave the key `e9`; and `e0` that was processed.
async fn without_a_key() -> World {
    let world = World::with(PACKED.retry(Retry::never()));
    world.register().await;
    world.broker.produce(0, ["", "e0"]);
    world.drain(0).await;
    let letter = &world.store.look(|view| view.letters())[0];
    assert_eq!((letter.key.as_ref(), letter.id), (None, 1));
    world.dead_letters().edit(1, Some(br#"{"id":"e9"}"#), "its id was missing").await.unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_got_its_key_later_is_superseded_by_an_event_that_was_processed_with_it() {
    let world = without_a_key().await;
    world.broker.produce(0, ["e9"]);
    world.drain(0).await;
    let report = world.replay().run(&all()).await.unwrap();
    assert_eq!((report.processed, report.superseded), (0, 1));
    assert_eq!(world.bills(), ["e0", "e9"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_with_the_key_that_a_letter_was_replayed_with_is_a_duplicate() {
    for running in [true, false] {
        let world = without_a_key().await;
        let lane = world.start(0);
        until(|| lane.seat.held().is_some()).await;
        // Nothing tells the owner; it must find out when it commits.
        let lane = match running {
            true => Some(lane),
            false => {
                lane.finish().await;
                None
            }
        };
        assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1);
        world.broker.produce(0, ["e9", "e1"]);
        match lane {
            Some(lane) => {
                world.worked(0, 4).await;
                lane.finish().await;
            }
            None => world.drain(0).await,
        }
        assert_eq!(world.bills(), ["e0", "e9", "e1"], "running: {running}");
        assert_eq!(world.counts().duplicates, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_forgotten_while_a_batch_is_open_is_new_from_then_on() {
    for slices in [1, SLICES] {
        let world = World::with(PACKED.slices(slices));
        let gate = Gate::new();
        world.broker.produce_keyed(0, [("k", "a"), ("k", "b")]);
        let lane = world.start(0);
        world.worked(0, 2).await;
        world.script.on("c", [Do::Wait(gate.clone())]);
        world.broker.produce_keyed(0, [("k", "c"), ("k", "a")]);
        gate.reached().await;
        assert!(world.forget("a").await);
        assert!(!world.forget("a").await, "it is not known any more");
        gate.open();
        until(|| lane.resolved() == Some(4)).await;
        // The open batch had found it known, and was not committed so.
        assert_eq!(world.bills(), ["a", "b", "c", "a"], "{slices}");
        world.broker.produce_keyed(0, [("k", "a"), ("k", "c")]);
        until(|| lane.resolved() == Some(6)).await;
        lane.finish().await;
        world.again_from(0, 0).await;
        assert_eq!(world.bills().len(), 4, "it is known again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_key_is_processed_again_after_a_rewind_and_no_other_is() {
    let world = World::with(PACKED);
    world.broker.produce(0, ids(5));
    world.drain(0).await;
    let key = Key::new("e2").unwrap();
    assert!(world.store.find_marker("bill", &key).await.unwrap().is_some());
    assert!(world.forget("e2").await);
    assert_eq!(world.store.find_marker("bill", &key).await.unwrap(), None);
    world.again_from(0, 0).await;
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ["e0", "e1", "e2", "e3", "e4", "e2"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_with_an_open_letter_is_not_forgotten() {
    let world = dead().await;
    let key = Key::new("e1").unwrap();
    let error = world.store.forget_marker("bill", &key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GivenUp);
    world.replay().run(&all()).await.unwrap();
    assert!(world.forget("e1").await);
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ["e0", "e2", "e1", "e1"]);
}

/// `e1` waits behind `e0`, which is replayed, so that the lane works it on its unchanged position.
#[tokio::test(start_paused = true)]
async fn a_forgotten_key_is_not_taken_for_a_commit_without_an_answer() {
    let policy = PACKED.retry(Retry::never()).on_failure(OnFailure::ParkKey { limit: 10 });
    let world = World::with(policy);
    world.script.always("bill", "e0", Do::Fail);
    world.broker.produce_keyed(0, [("k", "e0"), ("k", "e1"), ("x", "a")]);
    let lane = world.start(0);
    world.worked(0, 3).await;
    world.script.mend();
    let released = world.store.faults().pause(Point::Released);
    assert_eq!(world.replay().run(&all()).await.unwrap().processed, 1);
    released.reached().await;
    let faults = world.store.faults();
    faults.fail(Point::Commit, ErrorKind::UnknownCommit);
    let read = faults.pause(Point::Read);
    released.release();
    // The commit did not land, and the lane is about to look.
    read.reached().await;
    assert!(world.forget("a").await);
    read.release();
    world.broker.produce_keyed(0, [("x", "a")]);
    world.worked(0, 4).await;
    until(|| world.letters_in(LetterState::Waiting).is_empty()).await;
    let mut bills = world.bills();
    bills.sort();
    assert_eq!(bills, ["a", "a", "e0", "e1"], "it was forgotten, and the lane knows");
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_forgotten_in_a_database_that_went_back_does_not_hide_that_it_did() {
    for lost in 1..4 {
        let mut world = World::with(PACKED);
        world.settings.max_batch = 1;
        world.broker.produce(0, ids(3));
        let lane = world.start(0);
        world.worked(0, 3).await;
        let earlier = world.store.snapshot();
        world.broker.produce(0, (0..lost).map(|n| format!("lost{n}")));
        world.worked(0, 3 + lost).await;
        world.store.restore(&earlier);
        assert!(world.forget("e0").await);
        // Nobody has looked yet when the next event comes.
        world.broker.produce(0, ["last"]);
        world.worked(0, 4 + lost).await;
        let lost = (0..lost).map(|n| format!("lost{n}"));
        let expected: Vec<_> = ids(3).into_iter().chain(lost).chain(["last".to_owned()]).collect();
        assert_eq!(world.bills(), expected);
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_row_stops_the_lane_and_nothing_is_skipped() {
    for slices in [1, 2] {
        let world = World::with(PACKED.slices(slices));
        produce(&world, 0, 4);
        world.drain(0).await;
        produce(&world, 4, 8);
        assert!(world.store.spoil_packs("bill") > 0);
        let row = world.packs("bill")[0].id;
        let error = world.start(0).stopped().await;
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(text.contains(&format!("row {row} ")) && text.contains("scope bill"), "{text}");
        let mut bills = world.bills();
        bills.sort();
        assert_eq!((bills, world.position(0)), (ids(4), 4));
        world.store.spoil_packs("bill");
        world.drain(0).await;
        world.assert_sums(ids(8));
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_while_a_window_is_loaded_is_asked_again() {
    let points = [
        Point::Window,
        Point::Foreign,
        Point::DigestKey,
        Point::Runs,
        Point::Packs,
        Point::GivenUpKeys,
    ];
    for point in points {
        let world = World::with(PACKED);
        world.broker.produce(0, ids(3));
        world.drain(0).await;
        for _ in 0..2 {
            world.store.faults().fail(point, ErrorKind::Connection);
        }
        world.broker.produce(0, ids(4));
        world.drain(0).await;
        assert_eq!((world.bills(), world.counts().duplicates), (ids(4), 3), "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_of_which_a_part_is_not_loaded_is_not_taken_for_a_smaller_one() {
    let world = World::with(PACKED);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.produce(0, ids(4));
    // Whoever reads the rows, beside what is put into memory, ends without the last page.
    world.store.faults().panic(Point::Packs);
    world.drain(0).await;
    assert_eq!((world.bills(), world.counts().duplicates), (ids(4), 3));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_asked_to_leave_while_its_window_is_loaded_leaves_at_once() {
    let world = World::with(PACKED);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    let pause = world.store.faults().pause(Point::Packs);
    let lane = world.start(0);
    pause.reached().await;
    let asked = tokio::time::Instant::now();
    lane.finish().await;
    assert!(asked.elapsed() < std::time::Duration::from_millis(5));
    pause.release();
    world.again_from(0, 0).await;
    assert_eq!(world.bills(), ids(3));
}

#[tokio::test(start_paused = true)]
async fn handlers_of_one_group_keep_their_markers_each_in_its_own_form() {
    use Markers::{Packed, Rows};
    for (bill, audit) in [(Packed, Packed), (Packed, Rows), (Rows, Packed)] {
        for slices in [1, SLICES] {
            let mut handlers =
                vec![of(Registered::of::<Bill>(), bill), of(Registered::of::<Audit>(), audit)];
            handlers[0].policy.slices = Some(slices);
            if slices == 1 {
                handlers.push(Registered::of::<Count>());
            }
            let world = World::of(handlers, 1);
            let name = format!("{bill:?}, {audit:?}, {slices} slices");
            produce(&world, 0, 8);
            world.drain(0).await;
            // One of them forgets a key: the other is not asked.
            assert!(world.forget("e3").await, "{name}");
            produce(&world, 0, 8);
            world.drain(0).await;
            world.again_from(0, 0).await;
            let sorted = |mut rows: Vec<String>| {
                rows.sort();
                rows
            };
            let mut expected = ids(8);
            expected.insert(3, "e3".to_owned());
            assert_eq!(sorted(world.bills()), expected, "{name}");
            assert_eq!(sorted(world.store.rows("audit")), ids(8), "{name}");
            let packed = |markers| usize::from(markers == Packed);
            assert_eq!(world.packs("bill").len().min(1), packed(bill), "{name}");
            assert_eq!(world.packs("audit").len().min(1), packed(audit), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_says_nothing_keeps_rows() {
    if is_packed() {
        return;
    }
    let world = World::new();
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    assert_eq!((world.packs("bill").len(), world.marked()), (0, ids(2)));
}

#[tokio::test(start_paused = true)]
async fn a_packed_group_in_slices_finds_its_duplicates_after_a_kill() {
    let mut world = World::with(PACKED.slices(SLICES));
    world.settings.max_batch = 3;
    let gate = Gate::new();
    world.script.on("e9", [Do::Wait(gate.clone())]);
    produce(&world, 0, 40);
    let lane = world.start(0);
    // The lane's row stays behind one slice; what the others did is read again.
    gate.reached().await;
    until(|| world.bills().len() >= 20).await;
    lane.kill().await;
    world.drain(0).await;
    world.again_from(0, 0).await;
    world.assert_sums(ids(40));
    assert!(world.counts().duplicates >= 40);
}
