//! Words in which cases of slices are written.

use super::Harness;
use super::support::*;
use crate::lane::{Held, Slice};
use crate::store::{Sealed, Store as _, Writer};

pub(super) async fn cut<H: Harness>(harness: &H, held: &Held, slices: u16) -> Vec<i64> {
    harness.store().cut(held, slices).await.unwrap().unwrap()
}

/// A slice of a held lane as the database has it.
pub(super) async fn slice<H: Harness>(
    harness: &H,
    held: &Held,
    index: u16,
    of: u16,
) -> Option<Held> {
    let held = Held { slice: Some(Slice { index, of }), ..held.clone() };
    let row = harness.store().read(&held).await.unwrap()?;
    assert_eq!((row.number, row.token), (held.number, held.token));
    Some(Held { position: row.position, revision: row.revision, ..held })
}

pub(super) async fn slices<H: Harness, const N: usize>(harness: &H, held: &Held) -> [Held; N] {
    let mut slices = Vec::new();
    for index in 0..N {
        let (index, of) = (u16::try_from(index).unwrap(), u16::try_from(N).unwrap());
        slices.push(slice(harness, held, index, of).await.unwrap());
    }
    slices.try_into().unwrap()
}

/// Opens partition 0 at offset 0, takes it and divides it.
pub(super) async fn divided<H: Harness, const N: usize>(harness: &H) -> (Held, [Held; N]) {
    let held = held(harness).await;
    let revisions = cut(harness, &held, u16::try_from(N).unwrap()).await;
    assert_eq!(revisions, [0; N]);
    let slices = slices(harness, &held).await;
    (held, slices)
}

/// Seals an empty batch of a slice; says what the seal answered, and commits if it can.
pub(super) async fn seal<H: Harness>(harness: &H, held: &Held, offset: i64) -> Sealed {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(offset))).await.unwrap();
    match sealed {
        Sealed::Yes => harness.store().commit(tx).await.unwrap(),
        Sealed::No => drop(harness.store().rollback(tx).await),
    }
    sealed
}

/// A batch of a slice that is sealed and not committed.
pub(super) async fn sealed<H: Harness>(harness: &H, held: &Held, offset: i64) -> TxOf<H> {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let sealed = harness.store().seal(&mut tx, &writer, Some(&to(offset))).await.unwrap();
    assert_eq!(sealed, Sealed::Yes);
    tx
}
