//! What tells, in memory, most of the digests that are not in a run.

use super::bytes;
use super::digest::Digest;
use super::pack::Damaged;

const VERSION: u8 = 1;

/// Before the blocks: the version, and how many digests there are.
const HEADER: usize = 1 + size_of::<u64>();

/// How many bits of the filter there are for a digest.
const BITS: u64 = 16;

/// A line of the cache. A digest is in one of them, with a bit in each word.
type Block = [u64; 8];

/// A Bloom filter in blocks of 512 bits: 16 bits a digest, of which it sets 8, all in one block. It never
/// misses a digest that is there, and takes about one of 1000 others for one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    count: u64,
    blocks: Vec<Block>,
}

impl Filter {
    /// The filter of these digests; made in one pass over the memory when they are in their order.
    pub(crate) fn build(digests: &[Digest]) -> Self {
        let count = digests.len() as u64;
        let blocks = vec![[0; 8]; digests.len().div_ceil(PER_BLOCK)];
        let mut filter = Self { count, blocks };
        for digest in digests {
            let place = filter.place(*digest);
            for (word, bit) in filter.blocks[place].iter_mut().zip(bits(*digest)) {
                *word |= bit;
            }
        }
        filter
    }

    /// Whether the digest can be one of them. When it says no it is none.
    pub(crate) fn may_contain(&self, digest: Digest) -> bool {
        self.blocks
            .get(self.place(digest))
            .is_some_and(|block| block.iter().zip(bits(digest)).all(|(word, bit)| word & bit != 0))
    }

    /// How many digests there are.
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
        (((digest.0 >> 64) * self.blocks.len() as u128) >> 64) as usize
    }
}

/// How many digests a block is for.
const PER_BLOCK: usize = (size_of::<Block>() as u64 * 8 / BITS) as usize;

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
    Ok(Filter { count, blocks: words.iter().map(block).collect() })
}

#[cfg(test)]
mod tests;
