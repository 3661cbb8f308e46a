//! The set of digests that a window keeps in memory.
//!
//! Digests are random numbers, so their order is an even distribution, too. The table is cut by the top
//! bits of the digests into shards, which grow and are split one at a time. A shard is an array whose
//! slots are filled in the order of the digests, with gaps: each digest is at the slot that its value
//! points to, or as little behind it as the ones before it allow. So a look-up ends at the first digest
//! that is higher, nearly always in the cache line or two where it began, and a shard is built anew from
//! one end to the other, without a look-up.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::mem;
use std::sync::Arc;

use super::budget::{Budget, Share};
use super::digest::Digest;

/// A shard is split when it has so many digests.
const SPLIT: usize = 1 << 14;

/// The slots behind the last one that a digest can point to.
const TAIL: usize = 64;

/// How far behind the slot that it points to a digest can be. One would be further away only if
/// somebody had chosen the digests; it is kept beside the slots.
const REACH: usize = 2048;

/// How many digests are brought into the cache at once.
const AHEAD: usize = 32;

/// What one of the digests beside the slots costs, in bytes.
const BESIDE: usize = 48;

/// How many eras a table tells apart.
const ERAS: i64 = 1 << 16;

/// An exact set of digests, each with an *era*: a number that grows with time.
///
/// Of an era its 16 lowest bits are kept. That is enough because all eras of a table are less than 65536
/// after the oldest that it can have. [`evict_before`](Self::evict_before) raises that one, without a
/// bound on how far it is raised in all. An insert of an era that is further away raises it, too, and
/// what is older becomes as old as it: digests can be taken for younger than they are, and are kept
/// longer; never for older.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<Shard>,
    /// The shard for each value of the top `bits` bits of a digest.
    directory: Vec<u32>,
    bits: u32,
    len: usize,
    /// The oldest era that a digest can have; `None` before the first digest.
    oldest: Option<i64>,
    share: Share,
}

/// How many slots a shard has for so many digests, when it is built anew: 15 of 22 are used.
const fn homes(digests: usize) -> usize {
    digests / 15 * 22 + 24
}

/// How many digests a shard with so many slots has before it gets more: 17 of 20 are used.
const fn most(homes: usize) -> usize {
    homes * 17 / 20
}

/// The bits of a digest that say where it is.
const fn top(digest: u128) -> u64 {
    (digest >> 64) as u64
}

/// What is kept of an era.
const fn low(era: i64) -> u16 {
    era as u16
}

/// How many eras there are from one to another, if so many are told apart.
fn distance(from: i64, to: i64) -> Option<u16> {
    u16::try_from(to.checked_sub(from)?).ok()
}

/// Makes an era another if that is later; both are after the oldest.
fn later(known: &mut u16, era: u16, oldest: u16) {
    if era.wrapping_sub(oldest) > known.wrapping_sub(oldest) {
        *known = era;
    }
}

/// The digests that begin with the same `depth` bits.
#[derive(Debug, Default)]
struct Shard {
    depth: u32,
    len: usize,
    /// How many slots there are for digests to point to.
    homes: usize,
    /// The digest in each slot; 0 where there is none.
    digests: Vec<u128>,
    /// The lowest bits of the era of the digest in each slot.
    eras: Vec<u16>,
    /// What has no slot: the digest 0, and those that would be too far away.
    beside: BTreeMap<u128, u16>,
}

impl Table {
    /// An empty table; what it takes is counted.
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        let mut table = Self {
            shards: Vec::new(),
            directory: Vec::new(),
            bits: 0,
            len: 0,
            oldest: None,
            share: Share::new(Arc::clone(budget)),
        };
        table.clear();
        table
    }

    /// How many digests.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The memory that it has, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.share.bytes()
    }

    /// Adds a digest; of one that is there the later era counts. Answers whether it is new.
    #[cfg(test)]
    pub(super) fn insert(&mut self, digest: Digest, era: i64) -> bool {
        let era = self.admit(era);
        self.put(digest.0, era)
    }

    /// Adds digests of one era: faster than one at a time, because the memory is asked for several at
    /// once.
    pub(super) fn insert_all(&mut self, digests: impl IntoIterator<Item = Digest>, era: i64) {
        let era = self.admit(era);
        let mut digests = digests.into_iter().map(|it| it.0);
        let mut next = Vec::with_capacity(AHEAD);
        loop {
            next.clear();
            next.extend(digests.by_ref().take(AHEAD));
            if next.is_empty() {
                return;
            }
            black_box(next.iter().fold(0, |all, it| all ^ self.shard(*it).touch_for_insert(*it)));
            for digest in &next {
                self.put(*digest, era);
            }
        }
    }

    /// Whether a digest is in it.
    pub(super) fn contains(&self, digest: Digest) -> bool {
        self.shard(digest.0).contains(digest.0)
    }

    /// Whether each of these is in it: faster than one at a time, as [`insert_all`](Self::insert_all)
    /// is.
    pub(super) fn contains_all(&self, digests: &[Digest]) -> Vec<bool> {
        let mut found = Vec::with_capacity(digests.len());
        for next in digests.chunks(AHEAD) {
            black_box(next.iter().fold(0, |all, it| all ^ self.shard(it.0).touch(it.0)));
            found.extend(next.iter().map(|it| self.contains(*it)));
        }
        found
    }

    /// Makes room for so many more at once, in place of little by little.
    pub(super) fn reserve(&mut self, more: usize) {
        let all = self.len.saturating_add(more);
        let mut depth = 0;
        while SPLIT << depth < all {
            depth += 1;
        }
        let mut place = 0;
        while let Some(&number) = self.directory.get(place) {
            let shard = &self.shards[number as usize];
            if shard.depth < depth {
                let bits = self.bits;
                self.split(place);
                place <<= self.bits - bits;
                continue;
            }
            let digests = all >> shard.depth;
            if digests > most(shard.homes) {
                let homes = digests / 4 * 5 + 8;
                self.change(number, |shard| shard.rebuild(homes, |_| true));
            }
            place += 1 << (self.bits - self.shards[number as usize].depth);
        }
    }

    /// Removes all digests of an era before this one. Answers how many.
    pub(super) fn evict_before(&mut self, era: i64) -> usize {
        let oldest = *self.oldest.get_or_insert(era);
        if era <= oldest {
            return 0;
        }
        let before = self.len;
        self.oldest = Some(era);
        let Some(gone) = distance(oldest, era) else {
            self.clear();
            return before;
        };
        for number in 0..self.shards.len() as u32 {
            let shard = &mut self.shards[number as usize];
            let kept = |era: u16| era.wrapping_sub(low(oldest)) >= gone;
            let left = shard.entries().filter(|&(_, era)| kept(era)).count();
            if left < shard.len {
                // What was evicted is soon replaced by as many, mostly.
                let few = homes(left);
                let homes = if few < shard.homes / 2 { few } else { shard.homes };
                self.len -= shard.len - left;
                self.change(number, |shard| shard.rebuild(homes, kept));
            }
        }
        if self.shards.len() > 1 && self.len < self.shards.len() * (SPLIT / 16) {
            self.gather();
        }
        before - self.len
    }

    /// Removes these digests, which are ascending, unless their era is after this one. Answers how many.
    pub(super) fn evict(&mut self, digests: &[Digest], era: i64) -> usize {
        // All eras are after the oldest.
        let Some(oldest) = self.oldest.filter(|oldest| *oldest <= era) else { return 0 };
        let last = distance(oldest, era).unwrap_or(u16::MAX);
        let kept = |era: u16| era.wrapping_sub(low(oldest)) > last;
        let (before, mut left) = (self.len, digests);
        let mut place = 0;
        while let (Some(&number), false) = (self.directory.get(place), left.is_empty()) {
            let shard = &self.shards[number as usize];
            let (depth, held) = (shard.depth, shard.len);
            let width = 1 << (self.bits - depth);
            place += width;
            let its = match place < self.directory.len() {
                true => left.partition_point(|it| self.place(it.0) < place),
                false => left.len(),
            };
            let (its, rest) = left.split_at(its);
            left = rest;
            if its.is_empty() || held == 0 {
                continue;
            }
            self.change(number, |shard| shard.remove(its, kept));
            self.len -= held - self.shards[number as usize].len;
        }
        before - self.len
    }

    /// Puts what is left into as few shards as it needs.
    fn gather(&mut self) {
        let len = self.len;
        let shards = mem::take(&mut self.shards);
        self.clear();
        self.reserve(len);
        for shard in shards {
            for (digest, era) in shard.entries() {
                self.put(digest, era);
            }
        }
    }

    fn clear(&mut self) {
        self.shards = vec![Shard::default()];
        self.directory = vec![0];
        self.bits = 0;
        self.len = 0;
        self.share.resize(Shard::default().bytes() + size_of::<u32>());
    }

    /// An era as it is kept; the oldest becomes younger if it must.
    fn admit(&mut self, era: i64) -> u16 {
        let oldest = *self.oldest.get_or_insert(era.saturating_sub(ERAS / 2));
        if era < oldest {
            return low(oldest);
        }
        if distance(oldest, era).is_none() {
            let younger = era - ERAS / 2;
            let gone = distance(oldest, younger);
            for shard in &mut self.shards {
                for era in shard.eras.iter_mut().chain(shard.beside.values_mut()) {
                    if gone.is_none_or(|gone| era.wrapping_sub(low(oldest)) < gone) {
                        *era = low(younger);
                    }
                }
            }
            self.oldest = Some(younger);
        }
        low(era)
    }

    /// Where in the directory the shard of a digest is.
    const fn place(&self, digest: u128) -> usize {
        (top(digest) >> 1 >> (63 - self.bits)) as usize
    }

    fn shard(&self, digest: u128) -> &Shard {
        &self.shards[self.directory[self.place(digest)] as usize]
    }

    fn put(&mut self, digest: u128, era: u16) -> bool {
        let oldest = low(self.oldest.unwrap_or_default());
        loop {
            let place = self.place(digest);
            let number = self.directory[place];
            let shard = &mut self.shards[number as usize];
            let slot = match shard.find(digest) {
                Ok(slot) => {
                    later(&mut shard.eras[slot], era, oldest);
                    return false;
                }
                Err(slot) => slot,
            };
            if let Some(known) = shard.beside.get_mut(&digest) {
                later(known, era, oldest);
                return false;
            }
            // As many shards as there would be if digests were even: chosen ones make no more.
            if shard.len >= SPLIT && (SPLIT / 4) << shard.depth <= self.len {
                self.split(place);
            } else if shard.len >= most(shard.homes) {
                let homes = homes(shard.len + 1);
                self.change(number, |shard| shard.rebuild(homes, |_| true));
            } else {
                self.len += 1;
                if !shard.place(slot, digest, era) {
                    self.share.resize(self.share.bytes() + BESIDE);
                }
                return true;
            }
        }
    }

    /// Splits the shard at this place of the directory.
    fn split(&mut self, place: usize) {
        let number = self.directory[place];
        let depth = self.shards[number as usize].depth;
        let mut place = place;
        if depth == self.bits {
            self.directory = self.directory.iter().flat_map(|it| [*it, *it]).collect();
            self.share.resize(self.share.bytes() + self.directory.len() / 2 * size_of::<u32>());
            self.bits += 1;
            place <<= 1;
        }
        let other = self.shards.len() as u32;
        self.shards.push(Shard::default());
        self.share.resize(self.share.bytes() + Shard::default().bytes());
        let mut high = Shard::default();
        self.change(number, |shard| high = shard.split());
        self.change(other, |shard| *shard = high);
        let width = 1 << (self.bits - depth);
        let first = place & !(width - 1);
        self.directory[first + width / 2..first + width].fill(other);
    }

    /// Changes what a shard has allocated.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut Shard)) {
        let shard = &mut self.shards[number as usize];
        let before = shard.bytes();
        change(shard);
        self.share.resize(self.share.bytes() - before + shard.bytes());
    }

    /// The era of a digest, if it is there.
    #[cfg(test)]
    fn era(&self, digest: Digest) -> Option<i64> {
        let shard = self.shard(digest.0);
        let era = match shard.find(digest.0) {
            Ok(slot) => shard.eras[slot],
            Err(_) => *shard.beside.get(&digest.0)?,
        };
        let oldest = self.oldest?;
        Some(oldest + i64::from(era.wrapping_sub(low(oldest))))
    }
}

impl Shard {
    /// The slot that a digest points to.
    const fn home(&self, digest: u128) -> usize {
        (((top(digest) << self.depth) as u128 * self.homes as u128) >> 64) as usize
    }

    /// The slot of a digest, or the one that it would have.
    fn find(&self, digest: u128) -> Result<usize, usize> {
        let home = self.home(digest);
        if digest == 0 {
            return Err(home);
        }
        let slots = &self.digests[home..];
        let slots = &slots[..slots.len().min(REACH)];
        for (slot, &it) in slots.iter().enumerate() {
            if it >= digest {
                return if it == digest { Ok(home + slot) } else { Err(home + slot) };
            }
            if it == 0 {
                return Err(home + slot);
            }
        }
        Err(home + slots.len())
    }

    fn contains(&self, digest: u128) -> bool {
        self.find(digest).is_ok() || self.beside.contains_key(&digest)
    }

    /// Reads the memory where a digest would be.
    fn touch(&self, digest: u128) -> u128 {
        self.digests.get(self.home(digest)).copied().unwrap_or_default()
    }

    fn touch_for_insert(&self, digest: u128) -> u128 {
        let era = self.eras.get(self.home(digest)).copied().unwrap_or_default();
        self.touch(digest) ^ u128::from(era)
    }

    /// Adds a digest, which [`find`](Self::find) says would be here. Answers whether it got a slot.
    fn place(&mut self, slot: usize, digest: u128, era: u16) -> bool {
        self.len += 1;
        let end = self.digests.len().min(self.home(digest) + REACH);
        let gap = self.digests[slot..end].iter().position(|it| *it == 0);
        let Some(gap) = gap.filter(|_| digest != 0) else {
            self.beside.insert(digest, era);
            return false;
        };
        // Those that move point here or further, so none of them gets further away than this one is
        // from the gap.
        self.digests.copy_within(slot..slot + gap, slot + 1);
        self.eras.copy_within(slot..slot + gap, slot + 1);
        self.digests[slot] = digest;
        self.eras[slot] = era;
        true
    }

    /// All digests in their order, with their eras.
    fn entries(&self) -> impl Iterator<Item = (u128, u16)> {
        let mut slots = self.slots().filter(|(digest, _)| *digest != 0).peekable();
        let mut beside = self.beside.iter().map(|(digest, era)| (*digest, *era)).peekable();
        std::iter::from_fn(move || match beside.peek() {
            None => slots.next(),
            Some(next) => slots.next_if(|slot| slot < next).or_else(|| beside.next()),
        })
    }

    /// What is in the slots, in their order; the digest is 0 where there is none.
    fn slots(&self) -> impl Iterator<Item = (u128, u16)> {
        self.digests.iter().copied().zip(self.eras.iter().copied())
    }

    /// The same with so many slots to point to, and only those whose eras are kept.
    fn rebuild(&mut self, homes: usize, kept: impl Fn(u16) -> bool) {
        let zero = self.beside.get(&0).copied().filter(|era| kept(*era));
        *self = if self.beside.is_empty() {
            // In place of a filter, which would be guessed wrong at every other slot.
            let slots = self.slots().map(|(it, era)| (if kept(era) { it } else { 0 }, era));
            Self::of(self.depth, homes, slots)
        } else {
            Self::of(self.depth, homes, self.entries().filter(|&(_, era)| kept(era)))
        };
        self.zero(zero);
    }

    /// Removes these digests, which are ascending, but for those whose eras are kept.
    fn remove(&mut self, digests: &[Digest], kept: impl Fn(u16) -> bool) {
        let mut gone = digests.iter().map(|it| it.0).peekable();
        let left: Vec<(u128, u16)> = self
            .entries()
            .filter(|&(digest, era)| {
                while gone.next_if(|it| *it < digest).is_some() {}
                gone.peek() != Some(&digest) || kept(era)
            })
            .collect();
        let zero = left.first().filter(|(digest, _)| *digest == 0).map(|(_, era)| *era);
        let rest = left.iter().copied().filter(|(digest, _)| *digest != 0);
        *self = Self::of(self.depth, homes(left.len()), rest);
        self.zero(zero);
    }

    /// Keeps the first half of the digests that can be in it, and answers the second.
    fn split(&mut self) -> Self {
        let depth = self.depth + 1;
        let second = |digest: u128| digest << self.depth >> 127 == 1;
        let zero = self.beside.get(&0).copied();
        let few = self.entries().take_while(|(it, _)| !second(*it)).count();
        let low = self.entries().take(few);
        let high = self.entries().skip(few);
        let high = Self::of(depth, homes(self.len - few), high);
        *self = Self::of(depth, homes(few), low);
        self.zero(zero);
        high
    }

    /// Adds the digest 0, which [`of`](Self::of) does not see.
    fn zero(&mut self, era: Option<u16>) {
        self.len += usize::from(era.is_some());
        self.beside.extend(era.map(|era| (0, era)));
    }

    /// A shard with these digests, which come in their order; what is 0 is a
    /// gap.
    fn of(depth: u32, homes: usize, entries: impl Iterator<Item = (u128, u16)>) -> Self {
        let slots = homes + homes.min(TAIL);
        let mut shard =
            Self { depth, homes, digests: vec![0; slots], eras: vec![0; slots], ..Self::default() };
        let mut free = 0;
        for (digest, era) in entries {
            let some = digest != 0;
            let home = if some { shard.home(digest) } else { free };
            let slot = home.max(free);
            if slot < slots && slot - home < REACH {
                shard.digests[slot] = digest;
                shard.eras[slot] = era;
                free = slot + usize::from(some);
                shard.len += usize::from(some);
            } else if some {
                shard.beside.insert(digest, era);
                shard.len += 1;
            }
        }
        shard
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.digests.capacity() * size_of::<u128>()
            + self.eras.capacity() * size_of::<u16>()
            + self.beside.len() * BESIDE
    }
}

#[cfg(test)]
mod tests;
