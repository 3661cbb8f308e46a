//! Looking for a packed key from outside of its lane, and taking one out of a row.

use std::time::SystemTime;

use super::digest::Digest;
use super::pack::Pack;
use super::row::PackRow;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::lane::LaneId;
use crate::marker::{Marker, MarkerState, Origin};
use crate::store::Store;

/// Whether these may be the bytes of a row with the digest: true for each one that has it, and hardly
/// ever for another.
pub fn may_have(data: &[u8], digest: Digest) -> bool {
    data.windows(16).any(|bytes| bytes == digest.to_bytes())
}

/// Whether the row has the digest.
///
/// # Errors
/// [`Store`](ErrorKind::Store) when the row is damaged.
pub fn has(row: &PackRow, digest: Digest) -> Result<bool> {
    Ok(may_have(&row.data, digest) && locate(row, digest)?.is_some())
}

/// What is left of a row that has the digest, under the row's own number: nothing, when that was all.
/// `None` when the row does not have it.
///
/// # Errors
/// [`Store`](ErrorKind::Store) when the row is damaged.
pub fn without(row: &PackRow, digest: Digest) -> Result<Option<Option<PackRow>>> {
    if !has(row, digest)? {
        return Ok(None);
    }
    let left = read(row)?.without(digest);
    let Some((first_offset, last_offset)) = left.offsets() else { return Ok(Some(None)) };
    let count = u32::try_from(left.entries.len()).unwrap_or(u32::MAX);
    let data = left.encode();
    Ok(Some(Some(PackRow { first_offset, last_offset, count, data, ..row.clone() })))
}

/// What a row has of the digest, and of no other one, under the row's own number; `None` when it does not
/// have it.
///
/// # Errors
/// [`Store`](ErrorKind::Store) when the row is damaged.
pub fn only(row: PackRow, digest: Digest) -> Result<Option<PackRow>> {
    if !may_have(&row.data, digest) {
        return Ok(None);
    }
    let pack = read(&row)?.only(digest, row.last_at);
    let Some((first_offset, last_offset)) = pack.offsets() else { return Ok(None) };
    let count = u32::try_from(pack.entries.len()).unwrap_or(u32::MAX);
    Ok(Some(PackRow { first_offset, last_offset, count, data: pack.encode(), ..row }))
}

/// Why a call without Kafka cannot use a scope whose markers are packed.
pub fn refused(scope: &str) -> Error {
    Error::new(
        ErrorKind::Scope,
        format!(
            "scope `{scope}` keeps its markers packed, or did a while ago, which only its own lanes \
             see: what a call without Kafka does under a key would be done again when the key's event \
             arrives. Give the call a scope of its own, or have the handler keep its markers as rows \
             (`markers = \"rows\"`): calls are let through when what was packed before that has aged \
             out"
        ),
    )
}

/// Why a key is not forgotten, if it is not: there is an open dead letter of it, or its marker says
/// something that has to be settled first.
///
/// # Errors
/// [`GivenUp`](ErrorKind::GivenUp) then.
pub fn check_settled(
    scope: &str,
    key: &Key,
    marker: Option<MarkerState>,
    has_open_letter: bool,
) -> Result<()> {
    let why = match marker {
        _ if has_open_letter => "there is an open dead letter of it: replay or drop that first",
        Some(MarkerState::Begun) => {
            "an attempt with effects outside of the database was begun, and its end is not known: \
             let its event be delivered, or settle the marker"
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::GivenUp, format!("scope `{scope}`, key `{key}`: {why}")))
}

/// The marker of a key in whatever form it has.
pub(crate) async fn find_marker<S: Store>(
    store: &S,
    scope: &str,
    key: &Key,
) -> Result<Option<Marker>> {
    if let Some(marker) = store.marker(scope, key).await? {
        return Ok(Some(marker));
    }
    let digest = match store.digest_key().await {
        Ok(digests) => digests.digest(key),
        // A store that keeps no packed markers has none to find.
        Err(error) if error.kind() == ErrorKind::Config => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut first: Option<Marker> = None;
    for (lane, row) in store.find_packed(scope, digest).await? {
        let Some((offset, time)) = locate(&row, digest)? else { continue };
        if first.as_ref().is_none_or(|it| time < it.processed_at) {
            first = Some(marker(&lane, offset, time));
        }
    }
    Ok(first)
}

fn marker(lane: &LaneId, offset: i64, time: SystemTime) -> Marker {
    let origin = Origin {
        group: lane.group.to_string(),
        topic: lane.topic.to_string(),
        partition: lane.partition,
        offset,
    };
    Marker { origin: Some(origin), ..Marker::new(time) }
}

/// The offset and the time of a digest in a row.
fn locate(row: &PackRow, digest: Digest) -> Result<Option<(i64, SystemTime)>> {
    Ok(read(row)?.locate(digest, row.last_at))
}

fn read(row: &PackRow) -> Result<Pack> {
    Pack::decode(row).map_err(|damaged| {
        Error::new(ErrorKind::Store, "a row of packed markers cannot be read").with_source(damaged)
    })
}
