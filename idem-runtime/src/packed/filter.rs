//! What tells, in memory, most of the digests that are not in a run.

use super::bytes;
use super::digest::Digest;
use super::pack::Damaged;

const VERSION: u8 = 1;

/// Before the blocks: the version, and for how many digests it was made.
const HEADER: usize = 1 + size_of::<u64>();

/// How many bits of the filter there are for a digest.
const BITS: u64 = 16;

/// A line of the cache. A digest is in one of them, with a bit in each word.
type Block = [u64; 8];

/// How often a filter can be folded, so that one that does not fit into memory as it is does so yet.
///
/// A word has 64 bits, and a digest sets one of them, so of `n` digests in a block a share of
/// `1 - (63/64)^n` of its bits is set, and another digest is taken for one of them with this to the power
/// of 8. What that costs, as questions to the database for a new key and run:
///
/// | folded | in a block | bytes a digest | questions |
/// |---|---|---|---|
/// | not | 32 | 2 | 0.001 |
/// | once | 64 | 1 | 0.027 |
/// | twice | 128 | 1/2 | 0.32 |
/// | three times | 256 | 1/4 | 0.87 |
/// | no filter | | 0 | 1 |
///
/// The second time is of use: with half a byte for each of two runs, one that is folded once beside one
/// without a filter costs 1.03 questions, and two that are folded twice 0.64. The third time is not: a
/// quarter of a byte for each of four runs are 3.5 questions, against 2.6 with two that are folded twice
/// and two without.
pub(crate) const FOLDS: u32 = 2;

/// A Bloom filter in blocks of 512 bits: 16 bits a digest, of which it sets 8, all in one block. It never
/// misses a digest that is there, and takes about one of 1000 others for one.
///
/// A digest is at a place among the blocks as its value is among all values. So two neighbours can be
/// laid one over the other, which halves the filter: it misses nothing then either, and takes more
/// others for one that is there. It is never written so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    count: u64,
    /// How many blocks there are when it is not folded.
    spread: usize,
    folded: u32,
    blocks: Vec<Block>,
}

impl Filter {
    /// The filter of these digests; made in one pass over the memory when they are in their order.
    pub(crate) fn build(digests: &[Digest]) -> Self {
        let mut filter = Self::of(digests.len() as u64);
        digests.iter().for_each(|digest| filter.insert(*digest));
        filter
    }

    /// An empty filter, made for so many digests.
    pub(crate) fn of(count: u64) -> Self {
        let spread = spread(count);
        Self { count, spread, folded: 0, blocks: vec![[0; 8]; spread] }
    }

    /// Adds a digest; cheaper when they come in their order. Not more than it was made for.
    pub(crate) fn insert(&mut self, digest: Digest) {
        let place = self.place(digest);
        if let Some(block) = self.blocks.get_mut(place) {
            for (word, bit) in block.iter_mut().zip(bits(digest)) {
                *word |= bit;
            }
        }
    }

    /// Half of it.
    pub(crate) fn fold(&mut self) {
        for place in 0..self.blocks.len().div_ceil(2) {
            let mut block = self.blocks[place * 2];
            if let Some(other) = self.blocks.get(place * 2 + 1) {
                block.iter_mut().zip(other).for_each(|(word, other)| *word |= other);
            }
            self.blocks[place] = block;
        }
        self.folded += 1;
        self.blocks.truncate(self.blocks.len().div_ceil(2));
        self.blocks.shrink_to_fit();
    }

    /// The same, folded so often at least.
    #[must_use]
    pub(crate) fn folded_to(mut self, folds: u32) -> Self {
        while self.folded < folds {
            self.fold();
        }
        self
    }

    /// How often it was folded.
    pub(crate) const fn folds(&self) -> u32 {
        self.folded
    }

    /// The memory that it has when it is folded so often, in bytes.
    pub(crate) const fn bytes_at(&self, folds: u32) -> usize {
        self.spread.div_ceil(1 << folds) * size_of::<Block>()
    }

    /// The same of a filter of so many digests.
    pub(crate) fn bytes_of(count: u64, folds: u32) -> usize {
        spread(count).div_ceil(1 << folds).saturating_mul(size_of::<Block>())
    }

    /// Whether the digest can be one of them. When it says no it is none.
    pub(crate) fn may_contain(&self, digest: Digest) -> bool {
        self.blocks
            .get(self.place(digest))
            .is_some_and(|block| block.iter().zip(bits(digest)).all(|(word, bit)| word & bit != 0))
    }

    /// For how many digests it was made: as many as there were, or more.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The memory that it has, in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
    }

    /// How it is written: the version, the number of digests, the blocks, all numbers with their most
    /// significant byte first, and a checksum.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        debug_assert!(self.folded == 0, "a filter that is folded is not written");
        let mut bytes = Vec::with_capacity(HEADER + self.bytes() + 8);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.count.to_be_bytes());
        for word in self.blocks.as_flattened() {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let sum = bytes::checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// [`Damaged`] when it is something else. Then it can be made anew from the digests of its run; or
    /// the database is asked for all of them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        read(bytes).map_err(|what| Damaged(format!("the filter of a run is damaged: {what}")))
    }

    const fn place(&self, digest: Digest) -> usize {
        ((((digest.0 >> 64) * self.spread as u128) >> 64) as usize) >> self.folded
    }
}

/// How many digests a block is for.
const PER_BLOCK: usize = (size_of::<Block>() as u64 * 8 / BITS) as usize;

/// How many blocks so many digests have.
fn spread(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).div_ceil(PER_BLOCK)
}

/// A bit in each word of a block, from bits of the digest that do not say which block.
fn bits(digest: Digest) -> impl Iterator<Item = u64> {
    (0..8).map(move |word| 1 << ((digest.0 >> (word * 6)) & 63))
}

fn read(bytes: &[u8]) -> Result<Filter, String> {
    match bytes.first() {
        None => return Err("it is empty".into()),
        Some(&VERSION) => {}
        Some(version) => {
            return Err(format!("it is of version {version}, which only a newer release may know"));
        }
    }
    let body = bytes::checked(bytes).ok_or("its checksum is another")?;
    let (count, words) = body[1..].split_first_chunk().ok_or("it ends too early")?;
    let count = u64::from_be_bytes(*count);
    let (words, rest) = words.as_chunks::<{ size_of::<Block>() }>();
    if !rest.is_empty() || count.div_ceil(PER_BLOCK as u64) != words.len() as u64 {
        return Err(format!("it is not as long as one of {count} digests"));
    }
    let block = |bytes: &[u8; size_of::<Block>()]| {
        let mut block = [0; 8];
        for (word, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        block
    };
    let blocks: Vec<Block> = words.iter().map(block).collect();
    Ok(Filter { count, spread: blocks.len(), folded: 0, blocks })
}

#[cfg(test)]
mod tests;
