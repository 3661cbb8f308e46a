//! Memory for messages: one block for many, in place of an allocation for each.
//!
//! A block is of one partition, whose events are worked and dropped in their order: what one slow event
//! keeps alive is a block, and not one for each of its neighbours in other partitions.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// How many bytes a block has, unless a message needs more.
const BLOCK: usize = 16 << 10;

/// The block of each partition that is being filled.
#[derive(Default)]
pub(crate) struct Blocks {
    /// The partition of the last message is the first.
    blocks: Vec<(Arc<str>, i32, BytesMut)>,
}

impl Blocks {
    /// The block of this partition.
    pub(crate) fn of(&mut self, topic: &Arc<str>, partition: i32) -> &mut BytesMut {
        let found = self.blocks.iter().position(|(its, number, _)| {
            *number == partition && (Arc::ptr_eq(its, topic) || **its == **topic)
        });
        let index = found.unwrap_or_else(|| {
            self.blocks.push((Arc::clone(topic), partition, BytesMut::new()));
            self.blocks.len() - 1
        });
        // Messages of a partition come one after the other.
        self.blocks.swap(0, index);
        &mut self.blocks[0].2
    }

    /// Forgets the blocks of partitions that are not read any more.
    pub(crate) fn keep(&mut self, is_read: impl Fn(&str, i32) -> bool) {
        self.blocks.retain(|(topic, partition, _)| is_read(topic, *partition));
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }
}

/// Copies these bytes into the block, or into a new one where it is full.
pub(crate) fn copied(block: &mut BytesMut, bytes: &[u8]) -> Bytes {
    if block.capacity() < bytes.len() {
        *block = BytesMut::with_capacity(BLOCK.max(bytes.len()));
    }
    block.extend_from_slice(bytes);
    block.split().freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_partition_stand_in_one_block_and_stay_what_they_are() {
        let mut blocks = Blocks::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let places = [(&a, 0), (&a, 0), (&b, 0), (&a, 1), (&a, 0), (&b, 0)];
        let copies: Vec<Bytes> = (0..)
            .zip(places)
            .map(|(n, (topic, partition))| copied(blocks.of(topic, partition), &[n; 100]))
            .collect();
        for (n, copy) in (0..).zip(&copies) {
            assert_eq!(copy[..], [n; 100]);
        }
        assert_eq!(blocks.len(), 3);
        let next_to = |one: usize, other: usize| {
            copies[one].as_ptr() as usize + 100 == copies[other].as_ptr() as usize
        };
        assert!(next_to(0, 1) && next_to(1, 4) && next_to(2, 5) && !next_to(0, 2));
    }

    #[test]
    fn a_full_block_is_followed_by_another_and_a_long_message_has_its_own() {
        let mut blocks = Blocks::default();
        let topic = "a".into();
        let lengths = [BLOCK - 1, 0, 2, BLOCK * 3, 5];
        let copies: Vec<Bytes> =
            lengths.iter().map(|length| copied(blocks.of(&topic, 0), &vec![7; *length])).collect();
        for (length, copy) in lengths.into_iter().zip(&copies) {
            assert!(copy.len() == length && copy.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn blocks_of_what_is_not_read_any_more_are_forgotten() {
        let mut blocks = Blocks::default();
        let topic = "a".into();
        for partition in 0..4 {
            copied(blocks.of(&topic, partition), b"x");
        }
        blocks.keep(|_, partition| partition == 2);
        assert_eq!(blocks.len(), 1);
    }
}
