//! What is in a row: digests with their offsets and times, and how that is written.
//!
//! Version 1, in this order:
//!
//! | what | how |
//! |---|---|
//! | the version | a byte, 1 |
//! | how many digests | a number |
//! | how many runs of offsets; for each where it begins, as the distance from the offset after the run before (from 0 for the first), and how many offsets it has, each one more than the one before | numbers, the distance with a sign |
//! | how many spans; for each how many digests, and their time in microseconds, as the distance from the span before (from 0 for the first) | numbers, the distance with a sign |
//! | the digests | 16 bytes each, the most significant first |
//! | a checksum of all of that | 8 bytes |
//!
//! Numbers are as `bytes.rs` writes them. The digests are not compressed, so that a database finds one.

use std::fmt;
use std::time::SystemTime;

use super::bytes::{self, Reader};
use super::digest::Digest;
use super::row::PackRow;

const VERSION: u8 = 1;

/// The contents of a row.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use idem_runtime::Key;
/// use idem_runtime::packed::{DigestKey, Pack, PackRow};
///
/// let digests = DigestKey::new([7; 16]); // of the database: Store::digest_key
/// let key = Key::new("order-1")?;
/// let pack = Pack { entries: vec![(42, digests.digest(&key))], spans: Vec::new() };
///
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// let row = PackRow {
///     id: 1,
///     lane: 1,
///     slice: None,
///     every_slice: false,
///     partitions: 12,
///     log: 0,
///     first_offset: 42,
///     last_offset: 42,
///     count: 1,
///     first_at: now,
///     last_at: now,
///     run: None,
///     data: pack.encode(),
/// };
/// let read = Pack::decode(&row)?;
/// assert_eq!(read.locate(digests.digest(&key), row.last_at), Some((42, now)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pack {
    /// Each digest with the offset of its event, in the order of the batch.
    pub entries: Vec<(i64, Digest)>,
    /// Of a row that others were joined into: how many of the entries, in their order, were written
    /// when, to the microsecond. All entries are in a span, or there are none: for a row of one batch,
    /// whose time is the row's.
    pub spans: Vec<(u32, SystemTime)>,
}

/// Packed markers, or what is derived from them, that cannot be read: they are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged(pub(crate) String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

impl Pack {
    /// How it is written.
    pub fn encode(&self) -> Vec<u8> {
        debug_assert!(
            self.spans.is_empty()
                || self.spans.iter().map(|&(count, _)| count as usize).sum::<usize>()
                    == self.entries.len(),
            "the spans are not those of the entries"
        );
        let mut data = Vec::with_capacity(self.entries.len() * 16 + 64);
        data.push(VERSION);
        bytes::put(&mut data, self.entries.len() as u64);
        let runs = runs(&self.entries);
        bytes::put(&mut data, runs.len() as u64);
        let mut expected = 0i64;
        for (first, count) in runs {
            bytes::put_signed(&mut data, first.wrapping_sub(expected));
            bytes::put(&mut data, count);
            expected = first.wrapping_add(count.cast_signed());
        }
        let spans = self.spans.iter().filter(|&&(count, _)| count > 0);
        bytes::put(&mut data, spans.clone().count() as u64);
        let mut before = 0i64;
        for &(count, time) in spans {
            let time = bytes::micros(time);
            bytes::put(&mut data, u64::from(count));
            bytes::put_signed(&mut data, time.wrapping_sub(before));
            before = time;
        }
        for (_, digest) in &self.entries {
            data.extend_from_slice(&digest.to_bytes());
        }
        let sum = bytes::checksum(&data);
        data.extend_from_slice(&sum);
        data
    }

    /// Reads what a row has.
    ///
    /// # Errors
    /// [`Damaged`] when it is not what was written.
    pub fn decode(row: &PackRow) -> Result<Self, Damaged> {
        read(row).map_err(|what| {
            Damaged(format!(
                "row {} of the packed markers (lane {}) is damaged: {what}",
                row.id, row.lane
            ))
        })
    }

    /// One pack with what is in these, in their order; each comes with its row's time, the `last_at`.
    pub fn merge(parts: impl IntoIterator<Item = (SystemTime, Self)>) -> Self {
        let mut merged = Self::default();
        for (last_at, part) in parts {
            if part.spans.is_empty() {
                merged.span(u32::try_from(part.entries.len()).unwrap_or(u32::MAX), last_at);
            }
            for (count, time) in part.spans {
                merged.span(count, time);
            }
            merged.entries.extend(part.entries);
        }
        merged
    }

    /// The same without a digest.
    #[must_use]
    pub fn without(&self, digest: Digest) -> Self {
        let mut left = Self::default();
        let mut entries = self.entries.iter();
        for &(count, time) in &self.spans {
            let before = left.entries.len();
            let span = entries.by_ref().take(count as usize);
            left.entries.extend(span.filter(|(_, it)| *it != digest));
            left.span(u32::try_from(left.entries.len() - before).unwrap_or(count), time);
        }
        left.entries.extend(entries.filter(|(_, it)| *it != digest));
        left
    }

    /// The entries of one digest, with their times, in a row whose `last_at` this is.
    #[must_use]
    pub fn only(&self, digest: Digest, last_at: SystemTime) -> Self {
        let mut only = Self::default();
        for (entry, time) in self.entries.iter().zip(self.times(last_at)) {
            if entry.1 == digest {
                only.entries.push(*entry);
                only.span(1, time);
            }
        }
        only
    }

    /// The time of each entry, in their order, in a row whose `last_at` this is.
    pub fn times(&self, last_at: SystemTime) -> impl Iterator<Item = SystemTime> {
        self.spans
            .iter()
            .flat_map(|&(count, time)| std::iter::repeat_n(time, count as usize))
            .chain(std::iter::repeat(last_at))
            .take(self.entries.len())
    }

    /// The offset and the time of a digest, in a row whose `last_at` this is: of its first entry by time and
    /// offset, should there be several. A duplicate at a place of its own has one, too.
    pub fn locate(&self, digest: Digest, last_at: SystemTime) -> Option<(i64, SystemTime)> {
        let entries = self.entries.iter().zip(self.times(last_at));
        let its = entries.filter(|((_, it), _)| *it == digest);
        its.map(|((offset, _), time)| (*offset, time)).min_by_key(|(offset, time)| (*time, *offset))
    }

    /// The lowest and the highest offset; `None` when there is nothing in it.
    pub fn offsets(&self) -> Option<(i64, i64)> {
        let offsets = self.entries.iter().map(|&(offset, _)| offset);
        Some((offsets.clone().min()?, offsets.max()?))
    }

    /// The entries with their times, each time once.
    pub(super) fn by_time(
        &self,
        last_at: SystemTime,
    ) -> impl Iterator<Item = (SystemTime, &[(i64, Digest)])> {
        let mut entries = self.entries.as_slice();
        let all = u32::MAX; // more than are left
        self.spans.iter().copied().chain([(all, last_at)]).filter_map(move |(count, time)| {
            let (span, rest) = entries.split_at(entries.len().min(count as usize));
            entries = rest;
            (!span.is_empty()).then_some((time, span))
        })
    }

    /// The next entries, so many, are of this time.
    fn span(&mut self, count: u32, time: SystemTime) {
        match self.spans.last_mut() {
            _ if count == 0 => {}
            Some((before, same)) if *same == time && before.checked_add(count).is_some() => {
                *before += count;
            }
            _ => self.spans.push((count, time)),
        }
    }
}

/// Where offsets begin that ascend by one, and how many do.
fn runs(entries: &[(i64, Digest)]) -> Vec<(i64, u64)> {
    let mut runs: Vec<(i64, u64)> = Vec::new();
    let mut before = None;
    for &(offset, _) in entries {
        match runs.last_mut() {
            Some((_, count)) if before == offset.checked_sub(1) => *count += 1,
            _ => runs.push((offset, 1)),
        }
        before = Some(offset);
    }
    runs
}

/// Reads a row; the error is what is wrong with it. Nothing is allocated for what is not there.
fn read(row: &PackRow) -> Result<Pack, String> {
    const SHORT: &str = "it ends too early";
    match row.data.first() {
        None => return Err("it is empty".into()),
        Some(&VERSION) => {}
        Some(version) => {
            return Err(format!("it is of version {version}, which only a newer release may know"));
        }
    }
    let body = bytes::checked(&row.data).ok_or("its checksum is another")?;
    let mut header = Reader(&body[1..]);
    let count = header.number().ok_or(SHORT)?;
    if count != u64::from(row.count) {
        return Err(format!("it has {count} digests, and its row says {}", row.count));
    }
    let count = row.count as usize;
    let rest = header.0;
    let at = count.checked_mul(16).and_then(|size| rest.len().checked_sub(size)).ok_or(SHORT)?;
    let (head, digests) = rest.split_at(at);
    let mut header = Reader(head);

    let mut pack = Pack { entries: Vec::with_capacity(count), spans: Vec::new() };
    let mut digests = digests.as_chunks::<16>().0.iter().map(|it| Digest::from_bytes(*it));
    let mut expected = 0i64;
    let mut bounds: Option<(i64, i64)> = None;
    for _ in 0..header.number().ok_or(SHORT)? {
        let first = expected.wrapping_add(header.signed().ok_or(SHORT)?);
        let length = header.number().ok_or(SHORT)?;
        let last = length
            .checked_sub(1)
            .filter(|more| *more < (count - pack.entries.len()) as u64)
            .and_then(|more| first.checked_add(more.cast_signed()))
            .ok_or("its offsets are not those of its digests")?;
        pack.entries.extend((first..=last).zip(&mut digests));
        bounds = Some(bounds.map_or((first, last), |(low, high)| (low.min(first), high.max(last))));
        expected = last.wrapping_add(1);
    }
    if pack.entries.len() != count {
        return Err("its offsets are not those of its digests".into());
    }
    if let Some((first, last)) = bounds
        && (first, last) != (row.first_offset, row.last_offset)
    {
        return Err(format!(
            "it has the offsets {first} to {last}, and its row says {} to {}",
            row.first_offset, row.last_offset
        ));
    }

    let mut spanned = 0u64;
    let mut before = 0i64;
    for _ in 0..header.number().ok_or(SHORT)? {
        let length = header.number().and_then(|it| u32::try_from(it).ok()).ok_or(SHORT)?;
        before = before.wrapping_add(header.signed().ok_or(SHORT)?);
        let time = bytes::time(before).ok_or("it has a time that is none")?;
        spanned += u64::from(length);
        if length == 0 || spanned > count as u64 {
            return Err("its times are not those of its digests".into());
        }
        pack.spans.push((length, time));
    }
    if !header.0.is_empty() || (spanned != count as u64 && spanned != 0) {
        return Err("its times are not those of its digests".into());
    }
    Ok(pack)
}

#[cfg(test)]
mod tests;
