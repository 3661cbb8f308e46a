//! Cases: runs of packed markers.

use super::Harness;
use super::packing::*;
use super::slicing::divided;
use super::support::*;
use crate::error::ErrorKind;
use crate::lane::Held;
use crate::packed::{BLOCK, Digest, NewRun, Run};
use crate::store::PackedMarkers as _;
use crate::store::{Store as _, Writer};

/// A row with one digest of each, and its number.
async fn with_row<H: Harness>(harness: &H, held: &Held, offset: i64) -> (Held, i64) {
    let held = pack(harness, held, &[(offset, digest(u128::try_from(offset).unwrap()))]).await;
    let row = rows(harness, &held).await.pop().unwrap().id;
    (held, row)
}

pub async fn a_run_tells_exactly_what_is_in_it<H: Harness>(harness: &H) {
    let (held, row) = with_row(harness, &held(harness).await, 1).await;
    let count = BLOCK * 3 + 1;
    let mut all: Vec<Digest> = (0..count).map(|n| digest(n as u128)).collect();
    all.sort_unstable();
    let run = add_run(harness, &held, &[row], all.clone()).await.unwrap();
    // The first and the last of each block, with their neighbours, and what is outside of all.
    let mut asked = vec![Digest(0), Digest(u128::MAX)];
    for place in [0, 1, BLOCK - 1, BLOCK, BLOCK * 2 - 1, BLOCK * 2, BLOCK * 3 - 1, BLOCK * 3] {
        let Digest(it) = all[place];
        asked.extend([it.wrapping_sub(1), it, it.wrapping_add(1)].map(Digest));
    }
    let known: Vec<bool> = asked.iter().map(|it| all.binary_search(it).is_ok()).collect();
    assert_eq!(known.iter().filter(|known| **known).count(), 8);
    assert_eq!(in_runs(harness, &held, &[run], &asked).await.unwrap(), known);
    assert_eq!(in_runs(harness, &held, &[run], &all).await.unwrap(), vec![true; count]);
}

pub async fn two_neighbours_in_a_run_are_not_taken_for_a_third<H: Harness>(harness: &H) {
    let (held, row) = with_row(harness, &held(harness).await, 1).await;
    // The second half of the first and the first half of the second.
    let (one, two) = (Digest(0xaaaa_bbbb), Digest(0xcccc_dddd << 64));
    let third = Digest((one.0 << 64) | (two.0 >> 64));
    let run = add_run(harness, &held, &[row], vec![one, two]).await.unwrap();
    let asked = [one, two, third];
    assert_eq!(in_runs(harness, &held, &[run], &asked).await.unwrap(), [true, true, false]);
    // And is found where it is really there, beside them.
    let (held, row) = with_row(harness, &held, 2).await;
    let run = add_run(harness, &held, &[row], vec![one, two, third]).await.unwrap();
    assert_eq!(in_runs(harness, &held, &[run], &asked).await.unwrap(), [true; 3]);
}

pub async fn several_runs_are_asked_at_once<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    let mut runs = Vec::new();
    for offset in 1..=5 {
        let (now, row) = with_row(harness, &held, offset).await;
        held = now;
        let digest = digest(u128::try_from(offset).unwrap());
        runs.push(add_run(harness, &held, &[row], vec![digest]).await.unwrap());
    }
    let asked: Vec<Digest> = (0..=6).map(digest).collect();
    let known = in_runs(harness, &held, &runs, &asked).await.unwrap();
    assert_eq!(known, [false, true, true, true, true, true, false]);
    let known = in_runs(harness, &held, &runs[1..3], &asked).await.unwrap();
    assert_eq!(known, [false, false, true, true, false, false, false]);
    assert_eq!(in_runs(harness, &held, &[], &asked).await.unwrap(), [false; 7]);
    assert!(in_runs(harness, &held, &runs, &[]).await.unwrap().is_empty());
}

pub async fn a_run_is_listed_and_its_rows_are_not_loaded_any_more<H: Harness>(harness: &H) {
    let (held, one) = with_row(harness, &held(harness).await, 1).await;
    let (held, two) = with_row(harness, &held, 2).await;
    let (held, _) = with_row(harness, &held, 3).await;
    let digests = vec![digest(1), digest(2)];
    let run = add_run(harness, &held, &[one, two], digests).await.unwrap();
    assert_eq!(entries(&rows(harness, &held).await), [(3, digest(3))]);
    let listed = harness.store().runs(&window(&held), &[], 100).await.unwrap();
    assert_eq!(listed, [Run { id: run, count: 2, filter: b"a filter".to_vec() }]);
    let other = crate::packed::WindowId { scope: "another", ..window(&held) };
    assert!(harness.store().runs(&other, &[], 100).await.unwrap().is_empty());
    let found = harness.store().find_packed(SCOPE, digest(2)).await.unwrap();
    assert_eq!(found[0].1.run, Some(run), "the row is what is true");
    let (held, row) = with_row(harness, &held, 4).await;
    let later = add_run(harness, &held, &[row], vec![digest(4)]).await.unwrap();
    let listed = harness.store().runs(&window(&held), &[], 100).await.unwrap();
    assert_eq!(
        listed.iter().map(|run| run.id).collect::<Vec<_>>(),
        [run.min(later), run.max(later)]
    );
    assert!(can_seal(harness, &held).await, "the lane is not disturbed");
}

pub async fn a_run_of_rows_that_are_not_all_there_is_not_written<H: Harness>(harness: &H) {
    let (held, one) = with_row(harness, &held(harness).await, 1).await;
    let (held, two) = with_row(harness, &held, 2).await;
    let digests = || vec![digest(1), digest(2)];
    assert_eq!(add_run(harness, &held, &[one, two, 1 << 40], digests()).await, None);
    assert!(add_run(harness, &held, &[one], vec![digest(1)]).await.is_some());
    assert_eq!(add_run(harness, &held, &[one, two], digests()).await, None);
    // One that is for every slice is in no run: other slices would not see it any more.
    assert!(pack_direct(harness, &held, 3, digest(3)).await);
    let held = again(harness, &held).await;
    let every = rows(harness, &held).await.pop().unwrap();
    assert!(every.every_slice);
    assert_eq!(add_run(harness, &held, &[two, every.id], digests()).await, None);
    let now = take(harness, 0).await.held();
    assert_eq!(add_run(harness, &held, &[two], digests()).await, None);
    assert_eq!(rows(harness, &now).await.len(), 2);
    assert_eq!(harness.store().runs(&window(&now), &[], 100).await.unwrap().len(), 1);
}

pub async fn a_run_needs_a_number_that_no_other_has<H: Harness>(harness: &H) {
    let (held, one) = with_row(harness, &held(harness).await, 1).await;
    let (held, two) = with_row(harness, &held, 2).await;
    let id = add_run(harness, &held, &[one], vec![digest(1)]).await.unwrap();
    let run = NewRun {
        id,
        window: window(&held),
        count: 1,
        filter: b"another",
        digests: &digest(2).to_bytes(),
    };
    assert!(harness.store().add_run(&held, &[two], &run).await.is_err());
    assert_eq!(
        in_runs(harness, &held, &[id], &[digest(1), digest(2)]).await.unwrap(),
        [true, false]
    );
    let rows = harness.store().packs_of(&window(&held), &[two]).await.unwrap();
    assert_eq!(rows[0].run, None);
}

pub async fn a_run_goes_with_the_last_of_its_rows<H: Harness>(harness: &H) {
    let (held, one) = with_row(harness, &held(harness).await, 1).await;
    let (held, two) = with_row(harness, &held, 2).await;
    let store = harness.store();
    let run = add_run(harness, &held, &[one, two], vec![digest(1), digest(2)]).await.unwrap();
    assert!(store.forget_packs(&held, SCOPE, &[one], None).await.unwrap());
    assert_eq!(store.runs(&window(&held), &[], 100).await.unwrap().len(), 1);
    assert_eq!(in_runs(harness, &held, &[run], &[digest(1)]).await.unwrap(), [true]);
    assert!(store.forget_packs(&held, SCOPE, &[two], None).await.unwrap());
    assert!(store.runs(&window(&held), &[], 100).await.unwrap().is_empty());
    // Its owner is told to look at what there is now, and not that a digest is new.
    let gone = in_runs(harness, &held, &[run], &[digest(1)]).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Transient);
}

pub async fn a_run_of_a_slice_is_its_own<H: Harness>(harness: &H) {
    let (whole, [zero, one]) = divided(harness).await;
    let (zero, row) = with_row(harness, &zero, 1).await;
    let (one, other) = with_row(harness, &one, 2).await;
    // Another slice's row.
    assert_eq!(add_run(harness, &zero, &[row, other], vec![digest(1)]).await, None);
    let run = add_run(harness, &zero, &[row], vec![digest(1)]).await.unwrap();
    assert_eq!(harness.store().runs(&window(&zero), &[], 100).await.unwrap()[0].id, run);
    for held in [&one, &whole] {
        assert!(harness.store().runs(&window(held), &[], 100).await.unwrap().is_empty());
    }
    assert_eq!(rows(harness, &one).await.len(), 1);
}

pub async fn a_run_of_another_lanes_rows_is_written_by_whoever_has_a_lane<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let (zero, one) = (take(harness, 0).await.held(), take(harness, 1).await.held());
    let (zero, own) = with_row(harness, &zero, 7).await;
    let (one, first) = with_row(harness, &one, 1).await;
    let wanted = digest_of(harness, "e1").await;
    let one = pack(harness, &one, &[(2, wanted), (3, digest(3))]).await;
    let second = ids(&rows(harness, &one).await)[1];
    let (store, there) = (harness.store(), window(&one));
    let digests = || vec![digest(1), digest(3), wanted];
    // Not of rows of several lanes, nor by who has none any more.
    assert_eq!(add_run_of(harness, &zero, there, &[own, first], digests()).await, None);
    let former = zero;
    let zero = take(harness, 0).await.held();
    assert_eq!(add_run_of(harness, &former, there, &[first, second], digests()).await, None);
    let run = add_run_of(harness, &zero, there, &[first, second], digests()).await.unwrap();
    assert_eq!(add_run_of(harness, &zero, there, &[first, second], digests()).await, None);
    // It is that lane's, which is not disturbed.
    assert!(can_seal(harness, &one).await);
    assert!(rows(harness, &one).await.is_empty());
    assert_eq!(ids(&rows(harness, &zero).await), [own]);
    let listed = store.runs(&there, &[], 100).await.unwrap();
    assert_eq!(listed, [Run { id: run, count: 3, filter: b"a filter".to_vec() }]);
    assert!(store.runs(&there, &[run], 100).await.unwrap().is_empty());
    assert!(store.runs(&window(&zero), &[], 100).await.unwrap().is_empty());
    assert_eq!(store.runs_of(&[run, 1 << 40]).await.unwrap(), listed);
    assert!(store.runs_of(&[]).await.unwrap().is_empty());
    let asked = [digest(1), digest(2), wanted];
    assert_eq!(in_runs(harness, &zero, &[run], &asked).await.unwrap(), [true, false, true]);
    // A key that is forgotten is forgotten for all who ask.
    assert!(store.forget_marker(SCOPE, &key("e1")).await.unwrap());
    assert!(!can_seal(harness, &zero).await, "who has just asked, asks again");
    let zero = again(harness, &zero).await;
    assert!(can_seal(harness, &zero).await);
    assert_eq!(in_runs(harness, &zero, &[run], &asked).await.unwrap(), [true, false, false]);
    // And it goes with its rows.
    let one = again(harness, &one).await;
    let all = ids(&store.pack_heads(&there, 0, 10).await.unwrap());
    assert!(store.forget_packs(&one, SCOPE, &all, None).await.unwrap());
    assert!(store.runs_of(&[run]).await.unwrap().is_empty());
    let gone = in_runs(harness, &zero, &[run], &asked).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Transient);
}

pub async fn each_digest_is_asked_for_in_its_own_run<H: Harness>(harness: &H) {
    let (held, row) = with_row(harness, &held(harness).await, 1).await;
    let one = add_run(harness, &held, &[row], vec![digest(1)]).await.unwrap();
    let (held, row) = with_row(harness, &held, 2).await;
    let two = add_run(harness, &held, &[row], vec![digest(2)]).await.unwrap();
    let asked = [(two, digest(1)), (one, digest(1)), (two, digest(2)), (one, digest(2))];
    let mut tx = begin(harness, &Writer::Lane(&held)).await;
    let known = harness.store().in_runs(&mut tx, &asked).await.unwrap();
    assert_eq!(known, [false, true, true, false]);
    assert!(harness.store().in_runs(&mut tx, &[]).await.unwrap().is_empty());
    harness.store().rollback(tx).await;
}

pub async fn a_run_is_asked_in_the_transaction_of_the_batch<H: Harness>(harness: &H) {
    let (held, row) = with_row(harness, &held(harness).await, 1).await;
    let run = add_run(harness, &held, &[row], vec![digest(1)]).await.unwrap();
    let writer = Writer::Lane(&held);
    let pair = [(5, digest(5))];
    let data = encoded(&pair);
    let mut tx = packed(harness, &held, &[new(SCOPE, &pair, &data)]).await;
    let asked = [(run, digest(5)), (run, digest(1))];
    let known = harness.store().in_runs(&mut tx, &asked).await.unwrap();
    assert_eq!(known, [false, true]);
    write::<H>(&mut tx, "effect").await;
    finish(harness, tx, &writer, 6).await;
    assert_eq!(effects(harness).await, ["effect"]);
}
