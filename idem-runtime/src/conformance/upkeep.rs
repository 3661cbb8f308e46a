//! Cases: packed markers of scopes and partitions that are gone, and of data under another key.

use std::time::Duration;

use super::Harness;
use super::packing::*;
use super::slicing::divided;
use super::support::*;
use crate::error::{ErrorKind, Result};
use crate::lane::{Held, LaneId, Position};
use crate::marker::MarkerMode;
use crate::packed::{Digest, NewPack, NewRun, RunPart, WindowId};
use crate::scope::Registration;
use crate::store::PackedMarkers as _;
use crate::store::{Opening, RELOAD, Store as _, Writer};

/// A scope of the same group that stays.
const OTHER: &str = "ship";

pub async fn a_lane_remembers_which_key_its_digests_are_made_with<H: Harness>(harness: &H) {
    let former = held(harness).await;
    let store = harness.store();
    let id = store.digest_key().await.unwrap().id();
    let recorded = async || store.window(&window(&former)).await.unwrap().digest_key;
    assert_eq!(recorded().await, None);
    assert_eq!(store.note_digest_key(&former, id).await.unwrap(), Some(id));
    assert_eq!(recorded().await, Some(id));
    // Data that was put beside another key still says so.
    let another = id.map(|byte| !byte);
    let held = take(harness, 0).await.held();
    assert_eq!(store.note_digest_key(&held, another).await.unwrap(), Some(id));
    assert_eq!(
        store.note_digest_key(&former, another).await.unwrap(),
        None,
        "it has the lane no more"
    );
    assert_eq!(recorded().await, Some(id));
    assert!(can_seal(harness, &held).await, "the lane is not disturbed");
}

async fn record<H: Harness>(harness: &H, scopes: &[&str], retire: &[&str]) -> Result<()> {
    let scopes: Vec<_> = scopes.iter().map(|scope| (*scope, MarkerMode::Packed)).collect();
    let retire: Vec<_> = retire.iter().map(|scope| (*scope).to_owned()).collect();
    let registration = Registration {
        group: GROUP,
        scopes: &scopes,
        windows: &[],
        adopt: &[],
        retire: &retire,
        broadcast: None,
    };
    harness.store().register(&registration).await
}

/// The group has both scopes, and then retires the one.
async fn retire<H: Harness>(harness: &H) {
    record(harness, &[SCOPE, OTHER], &[]).await.unwrap();
    record(harness, &[OTHER], &[SCOPE]).await.unwrap();
}

async fn forget<H: Harness>(harness: &H, group: &str, after: Option<Duration>) -> Vec<String> {
    harness.store().forget_retired(group, after).await.unwrap()
}

async fn forget_now<H: Harness>(harness: &H) -> Vec<String> {
    forget(harness, GROUP, Some(Duration::ZERO)).await
}

/// A lane of the same group and another topic.
async fn of_another_topic<H: Harness>(harness: &H) -> Held {
    let id = LaneId { topic: "another".into(), ..lane(0) };
    let (lanes, identity) = ([(0, Position::at(0))], log("log"));
    let opening = Opening { group: GROUP, topic: "another", identity: &identity, lanes: &lanes };
    harness.store().open_topic(&opening).await.unwrap();
    harness.store().take(&id, &owner("b")).await.unwrap().unwrap().held()
}

/// How many rows of packed markers, and runs, and which floor a scope has in a lane.
async fn there<H: Harness>(harness: &H, held: &Held, scope: &str) -> (usize, usize, i64) {
    let (store, id) = (harness.store(), WindowId { scope, ..window(held) });
    let rows = store.pack_heads(&id, 0, 1000).await.unwrap().len();
    let runs = store.runs(&id, &[], 10).await.unwrap().len();
    (rows, runs, store.window(&id).await.unwrap().floor)
}

async fn is_forgotten<H: Harness>(harness: &H, held: &Held, scope: &str) -> bool {
    let id = WindowId { scope, ..window(held) };
    harness.store().window(&id).await.unwrap().is_forgotten
}

/// A row of this scope in a lane.
async fn pack_as<H: Harness>(harness: &H, held: &Held, scope: &str, offset: i64) -> Held {
    let entries = [(offset, digest(u128::try_from(offset).unwrap()))];
    let data = encoded(&entries);
    let packs = [NewPack { scope, ..new(SCOPE, &entries, &data) }];
    let tx = packed(harness, held, &packs).await;
    finish(harness, tx, &Writer::Lane(held), offset + 1).await;
    again(harness, held).await
}

/// A lane with two rows, a run and a floor of the scope, and a row of the other one.
async fn work<H: Harness>(harness: &H, partition: i32) -> Held {
    open(harness, &[partition]).await;
    let held = take(harness, partition).await.held();
    let held = pack(harness, &held, &[(11, digest(1)), (12, digest(2))]).await;
    let held = pack(harness, &held, &[(13, digest(3))]).await;
    let all = ids(&rows(harness, &held).await);
    add_run(harness, &held, &all[..1], vec![digest(1), digest(2)]).await.unwrap();
    assert!(harness.store().forget_packs(&held, SCOPE, &[], floor_at(11)).await.unwrap());
    pack_as(harness, &held, OTHER, 14).await
}

pub async fn a_retired_scope_is_forgotten_with_all_it_had_packed<H: Harness>(harness: &H) {
    let lanes = [work(harness, 0).await, work(harness, 1).await];
    retire(harness).await;
    for held in &lanes {
        assert_eq!(there(harness, held, SCOPE).await, (2, 1, 11));
    }
    assert_eq!(forget_now(harness).await, [SCOPE]);
    for held in &lanes {
        assert_eq!(there(harness, held, SCOPE).await, (0, 0, 0));
        assert_eq!(there(harness, held, OTHER).await, (1, 0, 0));
        assert!(is_forgotten(harness, held, SCOPE).await);
        assert!(!is_forgotten(harness, held, OTHER).await);
    }
    assert!(forget_now(harness).await.is_empty(), "there is nothing left");
}

pub async fn a_scope_is_forgotten_when_it_is_retired_for_so_long<H: Harness>(harness: &H) {
    let held = work(harness, 0).await;
    record(harness, &[SCOPE, OTHER], &[]).await.unwrap();
    assert!(forget_now(harness).await.is_empty(), "it is not retired");
    record(harness, &[OTHER], &[SCOPE]).await.unwrap();
    assert!(forget(harness, GROUP, Some(AN_HOUR)).await.is_empty(), "not for so long");
    assert!(forget(harness, GROUP, None).await.is_empty(), "it was not begun");
    assert!(forget(harness, "another", Some(Duration::ZERO)).await.is_empty(), "not its scope");
    assert_eq!(there(harness, &held, SCOPE).await, (2, 1, 11));
    assert!(!is_forgotten(harness, &held, SCOPE).await);
    assert!(can_seal(harness, &held).await, "nobody is disturbed");
}

pub async fn a_retired_scope_that_comes_back_in_time_has_what_it_had<H: Harness>(harness: &H) {
    let held = work(harness, 0).await;
    retire(harness).await;
    record(harness, &[SCOPE, OTHER], &[]).await.unwrap();
    assert!(forget_now(harness).await.is_empty());
    assert_eq!(there(harness, &held, SCOPE).await, (2, 1, 11));
    assert!(can_seal(harness, &held).await);
}

pub async fn who_has_a_window_of_a_forgotten_scope_commits_nothing_with_it<H: Harness>(
    harness: &H,
) {
    let (whole, [zero, one]) = divided(harness).await;
    let zero = pack(harness, &zero, &[(1, digest(1))]).await;
    // One of the topic that may ask it for what it has, and one of another topic.
    open(harness, &[1]).await;
    let beside = take(harness, 1).await.held();
    let other = of_another_topic(harness).await;
    let other = pack_as(harness, &other, OTHER, 1).await;
    retire(harness).await;
    assert_eq!(forget_now(harness).await, [SCOPE]);
    for held in [&whole, &zero, &one, &beside] {
        assert!(!can_seal(harness, held).await);
        let now = again(harness, held).await;
        assert_eq!((now.token, now.revision), (held.token, held.revision + RELOAD));
    }
    assert!(can_seal(harness, &other).await, "another lane had nothing of it");
}

pub async fn a_scope_is_not_registered_while_it_is_being_forgotten<H: Harness>(harness: &H) {
    let held = work(harness, 0).await;
    retire(harness).await;
    assert_eq!(forget_now(harness).await, [SCOPE]);
    // By somebody who has not heard of it.
    let late = work(harness, 1).await;
    let error = record(harness, &[SCOPE, OTHER], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Scope, "{error:?}");
    assert_eq!(forget(harness, GROUP, None).await, [SCOPE], "what was begun is done to its end");
    assert_eq!(there(harness, &late, SCOPE).await, (0, 0, 0));
    record(harness, &[SCOPE, OTHER], &[]).await.unwrap();
    assert!(!is_forgotten(harness, &held, SCOPE).await);
    // It is a scope as any other.
    let held = pack(harness, &again(harness, &held).await, &[(21, digest(1))]).await;
    assert!(forget_now(harness).await.is_empty());
    assert_eq!(there(harness, &held, SCOPE).await, (1, 0, 0));
    // Retired again, it has as much time as any.
    record(harness, &[OTHER], &[SCOPE]).await.unwrap();
    assert!(forget(harness, GROUP, None).await.is_empty());
    assert_eq!(there(harness, &held, SCOPE).await, (1, 0, 0));
}

pub async fn rows_of_a_partition_that_is_gone_are_forgotten_from_another_lane<H: Harness>(
    harness: &H,
) {
    let gone = work(harness, 3).await;
    let former = held(harness).await;
    let held = take(harness, 0).await.held();
    let held = pack(harness, &held, &[(1, digest(9))]).await;
    let (store, number) = (harness.store(), gone.number);
    let all = ids(&store.pack_heads(&window(&gone), 0, 9).await.unwrap());
    let own = ids(&rows(harness, &held).await);
    let forget = async |held: &Held, lane, rows: &[i64]| {
        store.forget_gone(held, lane, SCOPE, rows).await.unwrap()
    };
    assert!(!forget(&former, number, &all).await, "it has its lane no more");
    assert!(!forget(&held, held.number, &own).await, "not its own");
    assert!(!forget(&held, number, &own).await, "they are not there");
    assert!(!forget(&held, number, &[&all[..], &own].concat()).await, "not all of them");
    let elsewhere = of_another_topic(harness).await;
    assert!(!forget(&elsewhere, number, &all).await, "not of its topic");
    assert_eq!(there(harness, &gone, SCOPE).await, (2, 1, 11));
    assert!(forget(&held, number, &all[1..]).await);
    assert_eq!(there(harness, &gone, SCOPE).await, (1, 1, 11));
    assert!(forget(&held, number, &all[..1]).await);
    assert_eq!(there(harness, &gone, SCOPE).await, (0, 0, 11), "its run went with the last row");
    assert_eq!(there(harness, &gone, OTHER).await, (1, 0, 0));
    assert_eq!(rows(harness, &held).await.len(), 1);
    assert!(can_seal(harness, &held).await && can_seal(harness, &gone).await);
}

pub async fn what_is_left_of_merges_goes_with_the_last_row_of_a_partition_that_is_gone<
    H: Harness,
>(
    harness: &H,
) {
    let gone = work(harness, 3).await;
    let held = held(harness).await;
    let store = harness.store();
    let digests = digest(1).to_bytes();
    let unfinished = async |held: &Held, scope| {
        let window = WindowId { scope, ..window(held) };
        let part = RunPart { id: NewRun::unused(), window, had: 0, digests: &digests };
        assert!(store.extend_run(held, &part).await.unwrap());
        part.id
    };
    let left = unfinished(&gone, SCOPE).await;
    let others = [unfinished(&gone, OTHER).await, unfinished(&held, SCOPE).await];
    let is_there = async |run| !store.run_blocks(run, None, 9).await.unwrap().is_empty();
    let all = ids(&store.pack_heads(&window(&gone), 0, 9).await.unwrap());
    assert!(store.forget_gone(&held, gone.number, SCOPE, &all[1..]).await.unwrap());
    assert!(is_there(left).await, "somebody may still have the lane");
    assert!(store.forget_gone(&held, gone.number, SCOPE, &all[..1]).await.unwrap());
    assert!(!is_there(left).await);
    assert!(is_there(others[0]).await && is_there(others[1]).await);
}

pub async fn a_key_that_came_often_is_found_and_forgotten_without_its_neighbours<H: Harness>(
    harness: &H,
) {
    let mut held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    for n in 0..40 {
        let batch = [(3 * n, wanted), (3 * n + 1, digest(7)), (3 * n + 2, wanted)];
        held = pack(harness, &held, &batch).await;
    }
    let store = harness.store();
    let before = rows(harness, &held).await;
    let found = store.find_packed(SCOPE, wanted).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|(_, row)| row).collect();
    assert_eq!(ids(&found), ids(&before));
    let places: Vec<_> = (0..40).flat_map(|n| [(3 * n, wanted), (3 * n + 2, wanted)]).collect();
    assert_eq!(entries(&found), places, "a row says nothing else");
    let marker = store.find_marker(SCOPE, &key("e1")).await.unwrap().unwrap();
    assert_eq!((marker.processed_at, marker.origin.unwrap().offset), (before[0].first_at, 0));
    assert!(!pack_direct(harness, &held, 200, wanted).await, "it is known");
    assert!(store.forget_marker(SCOPE, &key("e1")).await.unwrap());
    assert!(store.find_packed(SCOPE, wanted).await.unwrap().is_empty());
    assert_eq!(entries(&rows(harness, &held).await).len(), 40);
}

pub async fn a_key_is_found_behind_many_rows_that_only_look_as_if_they_had_it<H: Harness>(
    harness: &H,
) {
    let mut held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    // Its bytes are the end of one and the beginning of the next.
    let between = [Digest(wanted.0 >> 64), Digest(wanted.0 << 64)];
    for n in 0..40 {
        held = pack(harness, &held, &[(2 * n, between[0]), (2 * n + 1, between[1])]).await;
    }
    let store = harness.store();
    assert!(store.find_packed(SCOPE, wanted).await.unwrap().is_empty());
    assert!(!store.forget_marker(SCOPE, &key("e1")).await.unwrap());
    let held = again(harness, &held).await;
    let held = pack(harness, &held, &[(90, wanted)]).await;
    assert_eq!(store.find_packed(SCOPE, wanted).await.unwrap().len(), 1);
    assert!(!pack_direct(harness, &held, 100, wanted).await, "it is known");
    assert!(store.forget_marker(SCOPE, &key("e1")).await.unwrap());
    assert!(store.find_packed(SCOPE, wanted).await.unwrap().is_empty());
    assert_eq!(entries(&rows(harness, &held).await).len(), 80);
}
