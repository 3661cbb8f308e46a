//! Words in which cases of packed markers are written.

use super::Harness;
use super::support::*;
use crate::error::Result;
use crate::lane::Held;
use crate::marker::MarkerMode;
use crate::packed::{Digest, Floor, NewPack, NewRun, Pack, PackRow, Repack, WindowId};
use crate::scope::Registration;
use crate::store::PackedMarkers as _;
use crate::store::{Sealed, Store as _, Writer};

/// How many partitions the topic has, unless a case says otherwise.
pub(super) const PARTITIONS: i32 = 4;

/// A digest that is like no other.
pub(super) fn digest(n: u128) -> Digest {
    Digest((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// A floor that is not raised before Kafka has deleted what is below it.
#[expect(clippy::unnecessary_wraps, reason = "it is what is asked for")]
pub(super) const fn floor_at(offset: i64) -> Option<Floor> {
    Some(Floor { offset, is_early: false })
}

/// The digest of a key in the harness's store.
pub(super) async fn digest_of<H: Harness>(harness: &H, text: &str) -> Digest {
    harness.store().digest_key().await.unwrap().digest(&key(text))
}

/// A row of one batch.
pub(super) fn encoded(entries: &[(i64, Digest)]) -> Vec<u8> {
    Pack { entries: entries.to_vec(), spans: Vec::new() }.encode()
}

pub(super) fn new<'a>(scope: &'a str, entries: &[(i64, Digest)], data: &'a [u8]) -> NewPack<'a> {
    let offsets = || entries.iter().map(|(offset, _)| *offset);
    NewPack {
        scope,
        partitions: PARTITIONS,
        first_offset: offsets().min().unwrap(),
        last_offset: offsets().max().unwrap(),
        count: u32::try_from(entries.len()).unwrap(),
        every_slice: false,
        data,
    }
}

/// What is held, as the database has it now.
pub(super) async fn again<H: Harness>(harness: &H, held: &Held) -> Held {
    Held { slice: held.slice, ..row(harness, held).await.held() }
}

/// A batch with one row, which has these digests; answers the lane as it is then.
pub(super) async fn pack<H: Harness>(harness: &H, held: &Held, entries: &[(i64, Digest)]) -> Held {
    pack_among(harness, held, PARTITIONS, entries).await
}

/// As [`pack`], while the topic has so many partitions.
pub(super) async fn pack_among<H: Harness>(
    harness: &H,
    held: &Held,
    partitions: i32,
    entries: &[(i64, Digest)],
) -> Held {
    let data = encoded(entries);
    let packs = [NewPack { partitions, ..new(SCOPE, entries, &data) }];
    let tx = packed(harness, held, &packs).await;
    finish(harness, tx, &Writer::Lane(held), packs[0].last_offset + 1).await;
    again(harness, held).await
}

/// A batch that has packed and is not sealed.
pub(super) async fn packed<H: Harness>(harness: &H, held: &Held, packs: &[NewPack<'_>]) -> TxOf<H> {
    let mut tx = begin(harness, &Writer::Lane(held)).await;
    let time = harness.store().pack(&mut tx, held, packs).await.unwrap();
    assert!(time.is_some(), "the lane is held");
    tx
}

pub(super) fn window(held: &Held) -> WindowId<'static> {
    WindowId { lane: held.number, scope: SCOPE, slice: held.slice }
}

/// The rows of the window that are in no run.
pub(super) async fn rows<H: Harness>(harness: &H, held: &Held) -> Vec<PackRow> {
    harness.store().packs(&window(held), 0, 1000).await.unwrap()
}

/// The offsets and digests of these rows.
pub(super) fn entries(rows: &[PackRow]) -> Vec<(i64, Digest)> {
    rows.iter().flat_map(|row| Pack::decode(row).unwrap().entries).collect()
}

/// One row with what is in these.
pub(super) fn merged(rows: &[PackRow]) -> PackRow {
    let parts = rows.iter().map(|row| (row.last_at, Pack::decode(row).unwrap()));
    let pack = Pack::merge(parts);
    let (first_offset, last_offset) = pack.offsets().unwrap();
    PackRow {
        first_offset,
        last_offset,
        count: u32::try_from(pack.entries.len()).unwrap(),
        first_at: rows.iter().map(|row| row.first_at).min().unwrap(),
        last_at: rows.iter().map(|row| row.last_at).max().unwrap(),
        data: pack.encode(),
        ..rows[0].clone()
    }
}

/// Puts one row in the place of these.
pub(super) async fn merge<H: Harness>(harness: &H, held: &Held, rows: &[PackRow]) -> bool {
    let row = merged(rows);
    let new = Repack { row: &row, scope: SCOPE };
    harness.store().repack(held, &ids(rows), &new).await.unwrap()
}

pub(super) fn ids(rows: &[PackRow]) -> Vec<i64> {
    rows.iter().map(|row| row.id).collect()
}

/// Writes a run with these digests, of these rows.
pub(super) async fn add_run<H: Harness>(
    harness: &H,
    held: &Held,
    rows: &[i64],
    digests: Vec<Digest>,
) -> Option<i64> {
    add_run_of(harness, held, window(held), rows, digests).await
}

/// The same of a window that need not be the held one.
pub(super) async fn add_run_of<H: Harness>(
    harness: &H,
    held: &Held,
    window: WindowId<'_>,
    rows: &[i64],
    mut digests: Vec<Digest>,
) -> Option<i64> {
    digests.sort_unstable();
    let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_bytes()).collect();
    let run = NewRun {
        id: NewRun::unused(),
        window,
        count: u64::try_from(digests.len()).unwrap(),
        filter: b"a filter",
        digests: &bytes,
    };
    harness.store().add_run(held, rows, &run).await.unwrap().then_some(run.id)
}

/// Asks in a batch of its own which of these digests are in the runs.
pub(super) async fn in_runs<H: Harness>(
    harness: &H,
    held: &Held,
    runs: &[i64],
    digests: &[Digest],
) -> Result<Vec<bool>> {
    let pairs = digests.iter().flat_map(|it| runs.iter().map(move |run| (*run, *it)));
    let pairs: Vec<_> = pairs.collect();
    let mut tx = begin(harness, &Writer::Lane(held)).await;
    let answer = harness.store().in_runs(&mut tx, &pairs).await;
    harness.store().rollback(tx).await;
    let answer = answer?;
    assert_eq!(answer.len(), pairs.len());
    let known = |n: usize| (n * runs.len()..(n + 1) * runs.len()).any(|pair| answer[pair]);
    Ok((0..digests.len()).map(known).collect())
}

/// Packs a key of the lane's event from outside of it; answers whether it was new.
pub(super) async fn pack_direct<H: Harness>(
    harness: &H,
    held: &Held,
    offset: i64,
    digest: Digest,
) -> bool {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let is_new = pack_direct_in(harness, &mut tx, held, offset, digest).await.unwrap();
    finish(harness, tx, &writer, 0).await;
    is_new
}

pub(super) async fn pack_direct_in<H: Harness>(
    harness: &H,
    tx: &mut TxOf<H>,
    held: &Held,
    offset: i64,
    digest: Digest,
) -> Result<bool> {
    let entries = [(offset, digest)];
    let data = encoded(&entries);
    let pack = new(SCOPE, &entries, &data);
    harness.store().pack_direct(tx, held.number, offset, &pack, digest).await
}

/// Whether an empty batch of what is held can be sealed.
pub(super) async fn can_seal<H: Harness>(harness: &H, held: &Held) -> bool {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(99))).await.unwrap();
    harness.store().rollback(tx).await;
    sealed == Sealed::Yes
}

/// Records the scope in this form, for the group of the lanes.
pub(super) async fn register<H: Harness>(harness: &H, group: &str, mode: MarkerMode) -> Result<()> {
    let adopt = [SCOPE.to_owned()];
    let scopes = [(SCOPE, mode)];
    let registration = Registration {
        group,
        scopes: &scopes,
        windows: &[],
        adopt: &adopt,
        retire: &[],
        broadcast: None,
    };
    harness.store().register(&registration).await
}
