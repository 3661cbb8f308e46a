//! Cases: rows of packed markers.

use std::time::Duration;

use super::packing::*;
use super::slicing::divided;
use super::support::*;
use super::{Harness, Misbehaviour};
use crate::error::ErrorKind;
use crate::lane::{Held, Position};
use crate::marker::{MarkerMode, MarkerState};
use crate::store::PackedMarkers as _;
use crate::store::{Claim, Claimed, NewLog, Reposition, Sealed, Store as _, Writer};

pub async fn a_pack_is_kept_with_its_batch_and_gone_with_its_rollback<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let pair = [(7, digest(1)), (9, digest(2))];
    let data = encoded(&pair);
    let writer = Writer::Lane(&held);
    for keep in [false, true] {
        let mut tx = begin(harness, &writer).await;
        let packs = [new(SCOPE, &pair, &data)];
        let time = harness.store().pack(&mut tx, &held, &packs).await.unwrap().unwrap();
        write::<H>(&mut tx, "effect").await;
        assert!(rows(harness, &held).await.is_empty(), "not before the commit");
        if !keep {
            harness.store().rollback(tx).await;
            assert!(rows(harness, &held).await.is_empty());
            continue;
        }
        finish(harness, tx, &writer, 10).await;
        let rows = rows(harness, &held).await;
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.lane, row.slice, row.every_slice), (held.number, None, false));
        assert_eq!((row.partitions, row.log, row.count, row.run), (PARTITIONS, 0, 2, None));
        assert_eq!((row.first_offset, row.last_offset), (7, 9));
        assert_eq!((row.first_at, row.last_at), (time, time));
        assert_eq!(entries(&rows), pair);
    }
    assert_eq!(effects(harness).await, ["effect"]);
}

pub async fn a_pack_with_another_token_is_fenced_and_writes_nothing<H: Harness>(harness: &H) {
    let former = held(harness).await;
    let now = take(harness, 0).await.held();
    let pair = [(7, digest(1))];
    let data = encoded(&pair);
    let mut tx = begin(harness, &Writer::Lane(&former)).await;
    let packed = harness.store().pack(&mut tx, &former, &[new(SCOPE, &pair, &data)]).await;
    assert_eq!(packed.unwrap(), None);
    harness.store().rollback(tx).await;
    assert!(rows(harness, &now).await.is_empty());
}

pub async fn a_handler_that_commits_after_a_pack_keeps_nothing<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let pair = [(7, digest(1))];
    let data = encoded(&pair);
    // Also without a row.
    for packs in [&[new(SCOPE, &pair, &data)][..], &[]] {
        let mut tx = packed(harness, &held, packs).await;
        write::<H>(&mut tx, "effect").await;
        if H::misbehave(lend::<H>(&mut tx), Misbehaviour::Commit).await {
            let sealed = harness.store().seal(&mut tx, &Writer::Lane(&held), Some(&to(8))).await;
            assert_eq!(sealed.unwrap_err().kind(), ErrorKind::HandlerBroke);
        }
        harness.store().rollback(tx).await;
        assert!(rows(harness, &held).await.is_empty());
        assert!(effects(harness).await.is_empty());
    }
}

pub async fn packs_and_claims_are_one_transaction<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    for (offset, claims_first) in [(7, true), (8, false)] {
        let pair = [(offset, digest(u128::try_from(offset).unwrap()))];
        let data = encoded(&pair);
        let packs = [new(SCOPE, &pair, &data)];
        let (writer, name) = (Writer::Lane(&held), format!("e{offset}"));
        let mut tx = begin(harness, &writer).await;
        if claims_first {
            assert!(is_new(harness, &mut tx, &writer, &name).await);
        }
        assert!(harness.store().pack(&mut tx, &held, &packs).await.unwrap().is_some());
        if !claims_first {
            assert!(is_new(harness, &mut tx, &writer, &name).await);
        }
        // Once more, as of an event that is given up on.
        assert!(harness.store().pack(&mut tx, &held, &[]).await.unwrap().is_some());
        write::<H>(&mut tx, &name).await;
        finish(harness, tx, &writer, offset + 1).await;
        assert!(is_marked(harness, &name).await);
        held = again(harness, &held).await;
    }
    assert_eq!(entries(&rows(harness, &held).await), [(7, digest(7)), (8, digest(8))]);
    assert_eq!(effects(harness).await, ["e7", "e8"]);
}

pub async fn several_scopes_are_packed_at_once<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (one, two) = ([(7, digest(1))], [(7, digest(2)), (8, digest(3))]);
    let (first, second) = (encoded(&one), encoded(&two));
    let packs = [new("a", &one, &first), new("b", &two, &second)];
    let tx = packed(harness, &held, &packs).await;
    finish(harness, tx, &Writer::Lane(&held), 9).await;
    for (scope, expected) in [("a", &one[..]), ("b", &two[..]), ("c", &[])] {
        let window = crate::packed::WindowId { scope, ..window(&held) };
        let rows = harness.store().packs(&window, 0, 10).await.unwrap();
        assert_eq!(entries(&rows), expected, "{scope}");
    }
}

pub async fn a_window_is_read_page_by_page_in_order<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let mut lanes = [take(harness, 0).await.held(), take(harness, 1).await.held()];
    for offset in 1..=5 {
        for (lane, held) in lanes.iter_mut().enumerate() {
            let digest = digest(u128::try_from(offset).unwrap() * 2 + lane as u128);
            *held = pack(harness, held, &[(offset, digest)]).await;
        }
    }
    for held in &lanes {
        let all = rows(harness, held).await;
        assert!(all.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(entries(&all).iter().map(|it| it.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let mut pages = Vec::new();
        let mut after = 0;
        loop {
            let page = harness.store().packs(&window(held), after, 2).await.unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after = last.id;
            pages.extend(page);
        }
        assert_eq!(pages, all);
    }
}

pub async fn a_slice_sees_its_own_packs_and_those_for_every_slice<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    let zero = pack(harness, &zero, &[(1, digest(1))]).await;
    let one = pack(harness, &one, &[(2, digest(2))]).await;
    assert!(pack_direct(harness, &held, 3, digest(3)).await);
    let row = &rows(harness, &zero).await[0];
    assert_eq!((row.slice, row.every_slice), (zero.slice, false));
    assert_eq!(entries(&rows(harness, &zero).await), [(1, digest(1)), (3, digest(3))]);
    assert_eq!(entries(&rows(harness, &one).await), [(2, digest(2)), (3, digest(3))]);
    let whole = rows(harness, &held).await;
    assert_eq!(entries(&whole), [(3, digest(3))], "of a lane without slices there is nothing");
    let row = &whole[0];
    assert_eq!((row.slice, row.every_slice, row.partitions), (None, true, PARTITIONS));
}

pub async fn rows_are_merged_into_one<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    for offset in [4, 7, 9] {
        held = pack(harness, &held, &[(offset, digest(u128::try_from(offset).unwrap()))]).await;
    }
    let before = rows(harness, &held).await;
    assert!(merge(harness, &held, &before[..2]).await);
    let after = rows(harness, &held).await;
    assert_eq!(after.len(), 2);
    assert_eq!(after[0], before[2], "the third is what it was");
    let merged = merged(&before[..2]);
    assert!(after[1].id > before[2].id);
    assert_eq!(after[1], crate::packed::PackRow { id: after[1].id, ..merged });
    // The lane is not disturbed.
    assert!(can_seal(harness, &held).await);
    // Rows for every slice stay that.
    for offset in [11, 12] {
        let digest = digest(u128::try_from(offset).unwrap());
        assert!(pack_direct(harness, &held, offset, digest).await);
    }
    let held = again(harness, &held).await;
    let all = rows(harness, &held).await;
    assert!(merge(harness, &held, &all[2..]).await);
    let all = rows(harness, &held).await;
    assert_eq!((all.len(), all[2].every_slice, all[2].partitions), (3, true, PARTITIONS));
}

pub async fn rows_that_are_not_all_there_are_not_merged<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let (zero, one) = (take(harness, 0).await.held(), take(harness, 1).await.held());
    let held = pack(harness, &zero, &[(1, digest(1))]).await;
    let held = pack(harness, &held, &[(2, digest(2))]).await;
    let other = pack(harness, &one, &[(1, digest(3))]).await;
    let before = rows(harness, &held).await;
    let elsewhere = rows(harness, &other).await;
    // A row of another lane, and rows that are joined already.
    assert!(!merge(harness, &held, &[before[0].clone(), elsewhere[0].clone()]).await);
    assert_eq!(rows(harness, &held).await, before);
    assert!(merge(harness, &held, &before).await);
    let after = rows(harness, &held).await;
    assert!(!merge(harness, &held, &before).await);
    // In a run.
    let all = vec![digest(1), digest(2)];
    assert!(add_run(harness, &held, &ids(&after), all).await.is_some());
    assert!(!merge(harness, &held, &after).await);
    // By a former owner.
    let held = pack(harness, &held, &[(5, digest(5))]).await;
    let left = rows(harness, &held).await;
    let now = take(harness, 0).await.held();
    assert!(!merge(harness, &held, &left).await);
    assert_eq!(rows(harness, &now).await, left);
    assert!(merge(harness, &now, &left).await);
}

pub async fn who_merges_rows_and_a_batch_do_not_wait_for_each_other<H: Harness>(harness: &H) {
    if H::ONE_WRITER {
        return;
    }
    let (lane, [zero, one]) = divided(harness).await;
    let held = pack(harness, &zero, &[(1, digest(1))]).await;
    let held = pack(harness, &held, &[(2, digest(2))]).await;
    let before = rows(harness, &held).await;
    let pair = [(3, digest(3))];
    let data = encoded(&pair);
    // Sealed batches, of this slice and of another one.
    let mut own = packed(harness, &held, &[new(SCOPE, &pair, &data)]).await;
    let sealed = harness.store().seal(&mut own, &Writer::Lane(&held), Some(&to(4))).await;
    assert_eq!(sealed.unwrap(), Sealed::Yes);
    let mut other = packed(harness, &one, &[new(SCOPE, &pair, &data)]).await;
    let sealed = harness.store().seal(&mut other, &Writer::Lane(&one), Some(&to(4))).await;
    assert_eq!(sealed.unwrap(), Sealed::Yes);
    assert!(merge(harness, &held, &before).await);
    let merged = rows(harness, &held).await;
    assert_eq!(merged.len(), 1);
    harness.store().commit(own).await.unwrap();
    harness.store().commit(other).await.unwrap();
    assert_eq!(rows(harness, &again(harness, &held).await).await.len(), 2);
    assert_eq!(lane.number, held.number);
}

pub async fn what_is_forgotten_raises_the_floor<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let mut now = held.clone();
    for offset in 1..=4 {
        now = pack(harness, &now, &[(offset, digest(u128::try_from(offset).unwrap()))]).await;
    }
    let store = harness.store();
    let floor = async || store.window(&window(&now)).await.unwrap().floor;
    assert_eq!(floor().await, 0);
    let all = ids(&rows(harness, &now).await);
    assert!(store.forget_packs(&now, SCOPE, &all[..2], floor_at(3)).await.unwrap());
    assert_eq!(entries(&rows(harness, &now).await), [(3, digest(3)), (4, digest(4))]);
    assert_eq!(floor().await, 3);
    // Never down, and not by who is fenced, or when a row is gone.
    assert!(store.forget_packs(&now, SCOPE, &[], floor_at(2)).await.unwrap());
    assert_eq!(floor().await, 3);
    assert!(!store.forget_packs(&now, SCOPE, &all[1..3], floor_at(4)).await.unwrap());
    assert!(!store.forget_packs(&now, "another", &all[2..], floor_at(4)).await.unwrap());
    let next = take(harness, 0).await.held();
    assert!(!store.forget_packs(&now, SCOPE, &all[2..], floor_at(5)).await.unwrap());
    assert_eq!(rows(harness, &next).await.len(), 2);
    assert_eq!(floor().await, 3);
    assert!(store.forget_packs(&next, SCOPE, &all[2..], None).await.unwrap());
    assert!(rows(harness, &next).await.is_empty());
    assert_eq!(floor().await, 3);
    // It is this lane's and this scope's.
    let other = crate::packed::WindowId { scope: "another", ..window(&now) };
    assert_eq!(store.window(&other).await.unwrap().floor, 0);
}

pub async fn a_new_log_has_a_number_and_a_floor_of_its_own<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = pack(harness, &held, &[(6, digest(1))]).await;
    let store = harness.store();
    assert_eq!(store.window(&window(&held)).await.unwrap().log, 0);
    assert!(store.forget_packs(&held, SCOPE, &[], floor_at(5)).await.unwrap());
    for new_log in [false, true] {
        let held = again(harness, &held).await;
        let to = Reposition {
            position: Position::at(0),
            identity: &log("another"),
            new_log: new_log.then_some(NewLog::Another),
            slices: &[],
        };
        assert!(store.reposition(&held, &to).await.unwrap());
        let window = store.window(&window(&held)).await.unwrap();
        let expected = if new_log { (1, 0) } else { (0, 5) };
        assert_eq!((window.log, window.floor), expected);
    }
    let held = again(harness, &held).await;
    let held = pack(harness, &held, &[(2, digest(2))]).await;
    let all = rows(harness, &held).await;
    assert_eq!([all[0].log, all[1].log], [0, 1]);
    // A floor that is of the log before says nothing of this one.
    assert!(store.forget_packs(&held, SCOPE, &ids(&all[..1]), floor_at(7)).await.unwrap());
    assert_eq!(store.window(&window(&held)).await.unwrap().floor, 0);
    assert!(store.forget_packs(&held, SCOPE, &ids(&all[1..]), floor_at(3)).await.unwrap());
    assert_eq!(store.window(&window(&held)).await.unwrap().floor, 3);
}

pub async fn packs_of_another_number_of_partitions_are_foreign<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let (zero, one) = (take(harness, 0).await.held(), take(harness, 1).await.held());
    let zero = pack_among(harness, &zero, 2, &[(1, digest(1)), (2, digest(2))]).await;
    let one = pack_among(harness, &one, 2, &[(1, digest(3))]).await;
    let one = pack_among(harness, &one, 2, &[(2, digest(4))]).await;
    let zero = pack_among(harness, &zero, 3, &[(3, digest(5))]).await;
    assert!(pack_direct(harness, &one, 9, digest(9)).await);
    let (zero, one) = (again(harness, &zero).await, again(harness, &one).await);
    let store = harness.store();
    let foreign = async |held: &Held, partitions: i32| {
        let mut foreign = store.foreign(&window(held), partitions).await.unwrap();
        foreign.sort_by_key(|it| (it.id.partition, it.partitions));
        foreign.iter().map(|it| (it.id.partition, it.partitions, it.count)).collect::<Vec<_>>()
    };
    assert_eq!(foreign(&zero, 2).await, [(0, 3, 1)]);
    assert_eq!(foreign(&one, 3).await, [(0, 2, 2), (1, 2, 3)]);
    assert_eq!(foreign(&zero, 4).await, [(0, 2, 2), (0, 3, 1), (1, 2, 3)]);
    let other = crate::packed::WindowId { scope: "another", ..window(&zero) };
    assert!(store.foreign(&other, 4).await.unwrap().is_empty());

    // Their rows, in runs or not, and without what is in them.
    let own = rows(harness, &one).await;
    let run = add_run(harness, &one, &ids(&own[..1]), vec![digest(3)]).await;
    assert!(run.is_some());
    assert_eq!(foreign(&zero, 4).await, [(0, 2, 2), (0, 3, 1), (1, 2, 3)]);
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = store.foreign_heads(&window(&zero), 3, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id;
        assert!(page.len() <= 2);
        found.extend(page);
    }
    let head = |row: &crate::packed::PackRow| (row.lane, row.first_offset, row.count, row.run);
    let expected = [(zero.number, 1, 2, None), (one.number, 1, 1, run), (one.number, 2, 1, None)];
    assert_eq!(found.iter().map(head).collect::<Vec<_>>(), expected);
    assert!(found.iter().all(|row| row.data.is_empty()));
    assert_eq!(store.foreign(&window(&zero), 3).await.unwrap()[0].last_at, found[0].last_at);
    let contents = store.packs_of(&window(&one), &ids(&found)).await.unwrap();
    assert_eq!(entries(&contents), [(1, digest(3)), (2, digest(4))]);
}

pub async fn packs_of_another_number_of_slices_are_foreign<H: Harness>(harness: &H) {
    let whole = held(harness).await;
    let whole = pack(harness, &whole, &[(1, digest(1))]).await;
    let store = harness.store();
    store.cut(&whole, 2).await.unwrap().unwrap();
    let [zero, one] = super::slicing::slices(harness, &whole).await;
    pack(harness, &zero, &[(2, digest(2))]).await;
    let one = pack(harness, &one, &[(3, digest(3))]).await;
    let in_run = ids(&rows(harness, &one).await);
    assert!(add_run(harness, &one, &in_run, vec![digest(3)]).await.is_some());
    let slices = async |held: &Held| {
        let foreign = store.foreign(&window(held), PARTITIONS).await.unwrap();
        foreign.iter().map(|it| (it.slices, it.count)).collect::<Vec<_>>()
    };
    assert_eq!(slices(&zero).await, [(0, 1)]);
    assert_eq!(slices(&one).await, [(0, 1)]);
    assert_eq!(slices(&whole).await, [(2, 2)]);
    let found = store.foreign_heads(&window(&whole), PARTITIONS, 0, 10).await.unwrap();
    assert_eq!([found[0].first_offset, found[1].first_offset], [2, 3]);
    assert_eq!([found[0].slice, found[1].slice], [zero.slice, one.slice]);
    let found = store.foreign_heads(&window(&one), PARTITIONS, 0, 10).await.unwrap();
    assert_eq!((found.len(), found[0].first_offset, found[0].slice), (1, 1, None));
    // Whoever has the lane puts them into a run of the slices they were written in.
    let run = add_run_of(harness, &zero, window(&whole), &ids(&found), vec![digest(1)]).await;
    assert!(run.is_some());
    assert_eq!(store.runs(&window(&whole), &[], 100).await.unwrap().len(), 1);
    assert!(store.runs(&window(&zero), &[], 100).await.unwrap().is_empty());
    let known = in_runs(harness, &one, &[run.unwrap()], &[digest(1), digest(3)]).await.unwrap();
    assert_eq!(known, [true, false]);
}

pub async fn a_packed_key_is_found_with_its_origin_and_time<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let digests = [digest_of(harness, "e1").await, digest_of(harness, "e2").await];
    let held = pack(harness, &held, &[(4, digests[0]), (6, digests[1])]).await;
    let held = pack(harness, &held, &[(8, digest(8))]).await;
    let store = harness.store();
    assert!(store.is_processed(SCOPE, "e2").await.unwrap());
    assert!(!store.is_processed(SCOPE, "e3").await.unwrap());
    assert!(!store.is_processed("another", "e2").await.unwrap());
    for merged in [false, true] {
        let marker = store.find_marker(SCOPE, &key("e2")).await.unwrap().unwrap();
        assert_eq!(marker.state, MarkerState::Processed);
        let all = rows(harness, &held).await;
        let time = all.iter().map(|row| row.first_at).min().unwrap();
        assert_eq!(marker.processed_at, time);
        let origin = marker.origin.unwrap();
        assert_eq!((&*origin.group, &*origin.topic, origin.partition), (GROUP, TOPIC, 0));
        assert_eq!(origin.offset, 6);
        if !merged {
            assert!(merge(harness, &held, &all).await);
        }
    }
    let found = store.find_packed(SCOPE, digests[1]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, lane(0));
    assert!(store.find_packed(SCOPE, digest(77)).await.unwrap().is_empty());
    assert_eq!(store.find_marker(SCOPE, &key("e3")).await.unwrap(), None);
    // What was given up on says so, though its digest is packed.
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let e1 = key("e1");
    let claim = Claim { state: MarkerState::Dead, offset: Some(4), ..plain(SCOPE, &e1) };
    assert_eq!(store.claim(&mut tx, &writer, &[claim]).await.unwrap(), Claimed::Keys(vec![true]));
    finish(harness, tx, &writer, 20).await;
    assert!(!store.is_processed(SCOPE, "e1").await.unwrap());
    let marker = store.find_marker(SCOPE, &e1).await.unwrap().unwrap();
    assert_eq!(marker.state, MarkerState::Dead);
}

pub async fn keys_that_were_given_up_on_are_listed<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let lanes = [take(harness, 0).await.held(), take(harness, 1).await.held()];
    let states = [
        ("dead", MarkerState::Dead),
        ("parked", MarkerState::Parked),
        ("begun", MarkerState::Begun),
        ("processed", MarkerState::Processed),
    ];
    for (lane, held) in lanes.iter().enumerate() {
        let writer = Writer::Lane(held);
        let mut tx = begin(harness, &writer).await;
        for (name, state) in states {
            let name = key(&format!("{name}{lane}"));
            let claim = Claim { state, offset: Some(1), ..plain(SCOPE, &name) };
            harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
        }
        finish(harness, tx, &writer, 2).await;
    }
    for (lane, held) in lanes.iter().enumerate() {
        let mut keys = harness.store().given_up_keys(held.number, SCOPE).await.unwrap();
        keys.sort();
        assert_eq!(keys, ["begun", "dead", "parked"].map(|name| key(&format!("{name}{lane}"))));
        assert!(harness.store().given_up_keys(held.number, "another").await.unwrap().is_empty());
    }
}

pub async fn digests_are_the_same_for_ever_and_another_stores_are_others<H: Harness>(harness: &H) {
    let (one, name) = (digest_of(harness, "e1").await, key("e1"));
    harness.migrate().await;
    assert_eq!(digest_of(harness, "e1").await, one);
    let later = harness.reopened().await.digest_key().await.unwrap();
    assert_eq!(later.digest(&name), one);
    let other = H::start().await;
    assert_ne!(digest_of(&other, "e1").await, one);
    other.stop().await;
}

pub async fn a_scope_switches_its_form_and_says_when<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let switched = async || harness.store().window(&window(&held)).await.unwrap().switched;
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    assert_eq!(switched().await, None);
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    let first = switched().await.unwrap();
    assert!(first < Duration::from_secs(60));
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    assert!(switched().await.unwrap() >= first, "it did not switch again");
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    assert!(switched().await.is_some());
    let offset = register(harness, GROUP, MarkerMode::Offset).await.unwrap_err();
    assert_eq!(offset.kind(), ErrorKind::Scope);
}

pub async fn a_packed_scope_is_not_adopted<H: Harness>(harness: &H) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    for mode in [MarkerMode::Packed, MarkerMode::Rows] {
        let refused = register(harness, "another", mode).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Scope);
        assert!(refused.to_string().contains("packed"), "{refused}");
    }
}

pub async fn a_scope_of_which_something_is_packed_is_not_adopted<H: Harness>(harness: &H) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    let held = held(harness).await;
    let held = pack(harness, &held, &[(1, digest(1))]).await;
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    let refused = register(harness, "another", MarkerMode::Rows).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Scope);
    for part in [&format!("`{GROUP}`"), "`another`", "the newest was written", "ago", "window"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    // It is its own group's as before.
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    let all = ids(&rows(harness, &held).await);
    assert!(harness.store().forget_packs(&held, SCOPE, &all, floor_at(2)).await.unwrap());
    register(harness, "another", MarkerMode::Rows).await.unwrap();
}

pub async fn a_call_without_kafka_cannot_use_a_packed_scope<H: Harness>(harness: &H) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    let store = harness.store();
    let refused = store.mark_processed(SCOPE, "e1", None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Scope);
    assert!(refused.to_string().contains("`bill`"), "{refused}");
    let writer = direct();
    let keys = ["a", "b"].map(key);
    let mut tx = begin(harness, &writer).await;
    let claims = [Claim { reclaim: true, ..plain(SCOPE, &keys[0]) }, plain(SCOPE, &keys[1])];
    let refused = store.claim(&mut tx, &writer, &claims).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Scope);
    store.rollback(tx).await;
    assert!(!is_marked(harness, "a").await && !is_marked(harness, "b").await);
    // Who takes a marker over, and other scopes.
    let mut tx = begin(harness, &writer).await;
    let new = store.claim(&mut tx, &writer, &claims[..1]).await.unwrap();
    assert_eq!(new, Claimed::Keys(vec![true]));
    finish(harness, tx, &writer, 0).await;
    assert!(store.mark_processed("another", "e1", None).await.unwrap().is_processed());
    // And as soon as it keeps rows.
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    assert!(store.mark_processed(SCOPE, "e1", None).await.unwrap().is_processed());
}
