//! Cases: runs of packed markers that are merged.

use super::Harness;
use super::packing::*;
use super::slicing::divided;
use super::support::*;
use crate::error::{ErrorKind, Result};
use crate::lane::Held;
use crate::packed::{BLOCK, Digest, Merged, NewRun, Run, RunPart, WindowId};
use crate::store::PackedMarkers as _;
use crate::store::{Sealed, Store as _, Writer};

fn bytes(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|digest| digest.to_bytes()).collect()
}

/// Ascending.
fn digests(numbers: impl IntoIterator<Item = u128>) -> Vec<Digest> {
    let mut digests: Vec<Digest> = numbers.into_iter().map(digest).collect();
    digests.sort_unstable();
    digests
}

async fn extend<H: Harness>(
    harness: &H,
    held: &Held,
    (id, had): (i64, u64),
    digests: &[Digest],
) -> Result<bool> {
    let part = RunPart { id, window: window(held), had, digests: &bytes(digests) };
    harness.store().extend_run(held, &part).await
}

/// Writes a run that is not finished.
async fn unfinished<H: Harness>(harness: &H, held: &Held, digests: &[Digest]) -> i64 {
    let id = NewRun::unused();
    assert!(extend(harness, held, (id, 0), digests).await.unwrap());
    id
}

async fn finish_run<H: Harness>(
    harness: &H,
    held: &Held,
    (id, count): (i64, u64),
    of: &[(i64, u64)],
) -> bool {
    let merged = Merged { id, window: window(held), count, filter: b"merged", of };
    harness.store().merge_runs(held, &merged).await.unwrap()
}

/// A run of a row of its own, of this offset.
async fn with_run<H: Harness>(
    harness: &H,
    held: &Held,
    offset: i64,
    digests: Vec<Digest>,
) -> (Held, i64) {
    let entries: Vec<_> = digests.iter().map(|it| (offset, *it)).collect();
    let held = pack(harness, held, &entries).await;
    let row = rows(harness, &held).await.pop().unwrap().id;
    let run = add_run(harness, &held, &[row], digests).await.unwrap();
    (held, run)
}

/// The numbers of the runs that are listed.
async fn listed<H: Harness>(harness: &H, held: &Held) -> Vec<i64> {
    let runs = harness.store().runs(&window(held), &[], 100).await.unwrap();
    runs.iter().map(|run| run.id).collect()
}

async fn is_gone<H: Harness>(harness: &H, held: &Held, run: i64) -> bool {
    match in_runs(harness, held, &[run], &[digest(1)]).await {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::Transient,
    }
}

/// Deletes what is unfinished, as little as can be at once.
async fn sweep<H: Harness>(harness: &H, held: &Held) -> usize {
    let mut times = 0;
    while harness.store().sweep_runs(held, SCOPE, 1).await.unwrap() {
        times += 1;
    }
    times
}

pub async fn a_run_is_read_block_by_block<H: Harness>(harness: &H) {
    let all = digests(0..3 * BLOCK as u128 + 5);
    let (held, run) = with_run(harness, &held(harness).await, 1, all.clone()).await;
    for limit in [1, 2, 10] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let blocks = harness.store().run_blocks(run, after, limit).await.unwrap();
            let Some(last) = blocks.last() else { break };
            assert!(blocks.len() <= usize::try_from(limit).unwrap());
            for block in &blocks {
                assert_eq!(block.data[..16], block.from.to_bytes());
                read.extend(block.data.as_chunks().0.iter().map(|it| Digest::from_bytes(*it)));
            }
            assert!(read.last() >= Some(&last.from));
            after = read.last().copied();
        }
        assert_eq!(read, all);
    }
    assert!(harness.store().run_blocks(1 << 40, None, 10).await.unwrap().is_empty());
    // Without a key that is forgotten, wherever it is in its block.
    let wanted = digest_of(harness, "e1").await;
    let (_, run) = with_run(harness, &held, 2, vec![wanted, digest(1)]).await;
    assert!(harness.store().forget_marker(SCOPE, &key("e1")).await.unwrap());
    let blocks = harness.store().run_blocks(run, None, 10).await.unwrap();
    let left: Vec<u8> = blocks.into_iter().flat_map(|block| block.data).collect();
    assert_eq!(left, digest(1).to_bytes());
}

pub async fn a_merged_run_answers_as_the_others_did<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let many = 2 * BLOCK as u128;
    let (held, one) = with_run(harness, &held, 1, digests(0..many)).await;
    // Some are in both.
    let (held, two) = with_run(harness, &held, 2, digests(many - 3..many + 7)).await;
    let (held, other) = with_run(harness, &held, 3, digests([1000])).await;
    let held = pack(harness, &held, &[(4, digest(2000))]).await;
    let all = digests(0..many + 7);
    let (first, rest) = all.split_at(BLOCK + 50);
    let new = unfinished(harness, &held, first).await;
    assert!(extend(harness, &held, (new, first.len() as u64), rest).await.unwrap());
    let of = [(one, 2 * BLOCK as u64), (two, 10)];
    let count = all.len() as u64;
    assert!(finish_run(harness, &held, (new, count), &of).await);

    let mut asked = all.clone();
    asked.extend([digest(1000), digest(2000), Digest(0), Digest(u128::MAX)]);
    let known: Vec<bool> = asked.iter().map(|it| all.contains(it)).collect();
    assert_eq!(in_runs(harness, &held, &[new], &asked).await.unwrap(), known);
    for gone in [one, two] {
        assert!(is_gone(harness, &held, gone).await, "who asks it is told to look again");
    }
    let store = harness.store();
    let merged = [Run { id: new, count, filter: b"merged".to_vec() }];
    assert_eq!(store.runs_of(&[new, one, two]).await.unwrap(), merged);
    assert_eq!(store.runs(&window(&held), &[other], 10).await.unwrap(), merged);
    assert_eq!(store.runs(&window(&held), &[], 1).await.unwrap().len(), 1);
    let heads = store.pack_heads(&window(&held), 0, 10).await.unwrap();
    let of_rows: Vec<_> = heads.iter().map(|row| row.run).collect();
    assert_eq!(of_rows, [Some(new), Some(new), Some(other), None]);
    assert!(can_seal(harness, &held).await, "the lane is not disturbed");
    assert!(sweep(harness, &held).await > 0);
    assert_eq!(in_runs(harness, &held, &[new], &asked).await.unwrap(), known);
    // It goes with the last of its rows.
    assert!(store.forget_packs(&held, SCOPE, &[heads[0].id], None).await.unwrap());
    assert!(!is_gone(harness, &held, new).await);
    assert!(store.forget_packs(&held, SCOPE, &[heads[1].id], None).await.unwrap());
    assert!(is_gone(harness, &held, new).await);
    assert_eq!(listed(harness, &held).await, [other]);
}

pub async fn a_run_that_is_unfinished_is_there_for_nobody<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    let (held, run) = with_run(harness, &held, 1, vec![wanted]).await;
    let new = unfinished(harness, &held, &[wanted]).await;
    assert_eq!(listed(harness, &held).await, [run]);
    assert!(harness.store().runs_of(&[new]).await.unwrap().is_empty());
    assert!(is_gone(harness, &held, new).await);
    assert!(can_seal(harness, &held).await);
    assert!(finish_run(harness, &held, (new, 1), &[(run, 1)]).await);
    // Nor is one that was merged, from which a key is not forgotten, nor is a lane disturbed for it.
    assert!(is_gone(harness, &held, run).await);
    assert!(harness.store().forget_marker(SCOPE, &key("e1")).await.unwrap());
    let held = again(harness, &held).await;
    assert!(!harness.store().forget_marker(SCOPE, &key("e1")).await.unwrap());
    assert!(can_seal(harness, &held).await);
    assert!(sweep(harness, &held).await > 0);
}

pub async fn a_merge_is_refused_when_a_key_was_forgotten_meanwhile<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    let (held, one) = with_run(harness, &held, 1, vec![wanted, digest(1)]).await;
    let (held, two) = with_run(harness, &held, 2, vec![digest(2)]).await;
    let mut all = vec![wanted, digest(1), digest(2)];
    all.sort_unstable();
    let new = unfinished(harness, &held, &all).await;
    assert!(harness.store().forget_marker(SCOPE, &key("e1")).await.unwrap());
    let held = again(harness, &held).await;
    assert!(!finish_run(harness, &held, (new, 3), &[(one, 2), (two, 1)]).await);
    assert!(is_gone(harness, &held, new).await);
    let asked = [wanted, digest(1), digest(2)];
    let known = in_runs(harness, &held, &[one, two], &asked).await.unwrap();
    assert_eq!(known, [false, true, true]);
    // What is known of them now can be merged.
    sweep(harness, &held).await;
    let new = unfinished(harness, &held, &digests([1, 2])).await;
    assert!(finish_run(harness, &held, (new, 2), &[(one, 1), (two, 1)]).await);
    let known = in_runs(harness, &held, &[new], &asked).await.unwrap();
    assert_eq!(known, [false, true, true]);
}

pub async fn a_merge_of_what_is_not_there_is_refused<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (held, one) = with_run(harness, &held, 1, digests([1, 2])).await;
    let (held, two) = with_run(harness, &held, 2, digests([3])).await;
    let all = digests([1, 2, 3]);
    let new = unfinished(harness, &held, &all).await;
    let both = [(one, 2), (two, 1)];
    for (id, count, of) in [
        (new, 3, &[(one, 2), (1 << 40, 1)]),
        (new, 3, &[(one, 3), (two, 1)]),
        (new, 2, &both),
        (1 << 40, 3, &both),
        (one, 2, &both),
    ] {
        assert!(!finish_run(harness, &held, (id, count), of).await, "{id} {count} {of:?}");
    }
    assert_eq!(listed(harness, &held).await, [one.min(two), one.max(two)]);
    assert!(finish_run(harness, &held, (new, 3), &both).await);
    assert!(!finish_run(harness, &held, (new, 3), &both).await);
    // Of another scope.
    let there = WindowId { scope: "another", ..window(&held) };
    let part = RunPart { id: NewRun::unused(), window: there, had: 0, digests: &bytes(&all) };
    assert!(harness.store().extend_run(&held, &part).await.unwrap());
    let merged = Merged { id: part.id, window: there, count: 3, filter: b"", of: &[(new, 3)] };
    assert!(!harness.store().merge_runs(&held, &merged).await.unwrap());
    assert_eq!(listed(harness, &held).await, [new]);
}

pub async fn a_part_of_a_run_follows_the_part_before<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (held, run) = with_run(harness, &held, 1, digests([1, 2])).await;
    let all = digests([1, 2]);
    let new = unfinished(harness, &held, &all[..1]).await;
    for had in [2, 5] {
        assert!(!extend(harness, &held, (new, had), &all[1..]).await.unwrap());
    }
    assert!(!extend(harness, &held, (1 << 40, 1), &all[1..]).await.unwrap());
    assert!(!extend(harness, &held, (run, 2), &digests([3])).await.unwrap(), "it is finished");
    for taken in [new, run] {
        assert!(extend(harness, &held, (taken, 0), &all).await.is_err());
    }
    assert!(extend(harness, &held, (new, 1), &all[1..]).await.unwrap());
    assert!(finish_run(harness, &held, (new, 2), &[(run, 2)]).await);
    assert_eq!(in_runs(harness, &held, &[new], &all).await.unwrap(), [true, true]);
}

pub async fn who_does_not_hold_the_lane_merges_nothing<H: Harness>(harness: &H) {
    let former = held(harness).await;
    let (former, run) = with_run(harness, &former, 1, digests([1])).await;
    let new = unfinished(harness, &former, &digests([1])).await;
    let held = take(harness, 0).await.held();
    assert!(!extend(harness, &former, (new, 1), &digests([2])).await.unwrap());
    assert!(!extend(harness, &former, (NewRun::unused(), 0), &digests([2])).await.unwrap());
    assert!(!finish_run(harness, &former, (new, 1), &[(run, 1)]).await);
    assert!(!harness.store().sweep_runs(&former, SCOPE, 10).await.unwrap());
    assert_eq!(listed(harness, &held).await, [run]);
    // What it has left is the next owner's.
    assert!(sweep(harness, &held).await > 0);
    assert!(!finish_run(harness, &held, (new, 1), &[(run, 1)]).await);
    assert_eq!(listed(harness, &held).await, [run]);
}

pub async fn what_is_left_of_merges_is_swept<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (held, run) = with_run(harness, &held, 1, digests([1])).await;
    let many = digests(0..3 * BLOCK as u128);
    let (one, two) =
        (unfinished(harness, &held, &many).await, unfinished(harness, &held, &many).await);
    // Of another scope.
    let there = WindowId { scope: "another", ..window(&held) };
    let part = RunPart { id: NewRun::unused(), window: there, had: 0, digests: &bytes(&many) };
    assert!(harness.store().extend_run(&held, &part).await.unwrap());
    assert!(harness.store().sweep_runs(&held, SCOPE, 1).await.unwrap());
    // What was begun to be swept is never finished.
    let count = many.len() as u64;
    for id in [one, two] {
        assert!(!finish_run(harness, &held, (id, count), &[(run, 1)]).await);
    }
    sweep(harness, &held).await;
    for id in [one, two] {
        assert!(harness.store().run_blocks(id, None, 10).await.unwrap().is_empty());
    }
    assert_eq!(harness.store().run_blocks(part.id, None, 10).await.unwrap().len(), 3);
    assert_eq!(in_runs(harness, &held, &[run], &[digest(1)]).await.unwrap(), [true]);
}

pub async fn a_run_without_rows_is_of_no_window_and_swept<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (held, run) = with_run(harness, &held, 1, digests([1])).await;
    let lost = add_run(harness, &held, &[], digests([2])).await.unwrap();
    assert_eq!(listed(harness, &held).await, [run]);
    assert!(sweep(harness, &held).await > 0);
    assert!(is_gone(harness, &held, lost).await && !is_gone(harness, &held, run).await);
    assert!(harness.store().run_blocks(lost, None, 10).await.unwrap().is_empty());
}

pub async fn a_key_is_forgotten_in_a_merged_run<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    let (held, one) = with_run(harness, &held, 1, vec![wanted]).await;
    let (held, two) = with_run(harness, &held, 2, digests([1])).await;
    let mut all = vec![wanted, digest(1)];
    all.sort_unstable();
    let new = unfinished(harness, &held, &all).await;
    assert!(finish_run(harness, &held, (new, 2), &[(one, 1), (two, 1)]).await);
    // While what was merged is there yet, and after that.
    assert!(harness.store().forget_marker(SCOPE, &key("e1")).await.unwrap());
    assert!(!can_seal(harness, &held).await);
    let held = again(harness, &held).await;
    let asked = [wanted, digest(1)];
    assert_eq!(in_runs(harness, &held, &[new], &asked).await.unwrap(), [false, true]);
    let runs = harness.store().runs_of(&[new]).await.unwrap();
    assert_eq!(runs[0].count, 1);
    sweep(harness, &held).await;
    assert_eq!(in_runs(harness, &held, &[new], &asked).await.unwrap(), [false, true]);
}

pub async fn runs_of_one_slice_are_merged_alone<H: Harness>(harness: &H) {
    let (_, [zero, one]) = divided(harness).await;
    let (zero, mine) = with_run(harness, &zero, 1, digests([1])).await;
    let (one, other) = with_run(harness, &one, 2, digests([2])).await;
    let new = unfinished(harness, &zero, &digests([1, 2])).await;
    assert!(!finish_run(harness, &zero, (new, 2), &[(mine, 1), (other, 1)]).await);
    assert!(!finish_run(harness, &one, (new, 2), &[(other, 1)]).await);
    assert!(finish_run(harness, &zero, (new, 2), &[(mine, 1)]).await);
    assert_eq!(listed(harness, &zero).await, [new]);
    assert_eq!(listed(harness, &one).await, [other]);
}

pub async fn who_merges_runs_and_a_batch_do_not_wait_for_each_other<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (held, run) = with_run(harness, &held, 1, digests([1])).await;
    if H::ONE_WRITER {
        return;
    }
    let (pair, writer) = ([(5, digest(5))], Writer::Lane(&held));
    let data = encoded(&pair);
    let mut tx = packed(harness, &held, &[new(SCOPE, &pair, &data)]).await;
    let asked = [(run, digest(1))];
    assert_eq!(harness.store().in_runs(&mut tx, &asked).await.unwrap(), [true]);
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(6))).await;
    assert_eq!(sealed.unwrap(), Sealed::Yes);
    let new = unfinished(harness, &held, &digests([1])).await;
    assert!(finish_run(harness, &held, (new, 1), &[(run, 1)]).await);
    assert!(sweep(harness, &held).await > 0);
    harness.store().commit(tx).await.unwrap();
    assert_eq!(entries(&rows(harness, &held).await), pair);
}
