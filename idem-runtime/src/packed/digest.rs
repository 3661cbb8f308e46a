//! The digest of a key.

use std::fmt;

use sha2::{Digest as _, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::hash::Hasher as _;

use crate::key::Key;

/// The 128-bit digest of a key, under the key of its database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// How it is written: 16 bytes, the most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The digest that is written so.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What digests are made with: a number that only the database knows, so that nobody can make two keys
/// with one digest. SipHash-2-4 with an output of 128 bits.
#[derive(Clone, Copy)]
pub struct DigestKey([u8; 16]);

impl DigestKey {
    /// The key with these bytes, made at random when the database was migrated.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The digest of a key.
    pub fn digest(&self, key: &Key) -> Digest {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(key.as_str().as_bytes());
        Digest(hasher.finish128().as_u128())
    }

    /// What tells this key from another one, and says nothing of it: the first bytes of a SHA-256. It
    /// is recorded with each lane, so that data which is put beside another key is noticed.
    pub fn id(&self) -> [u8; 8] {
        let hash = Sha256::new().chain_update("idem digest key 1").chain_update(self.0).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        id
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_key_is_the_same_for_ever_and_another_keys_is_another() {
        let id = |byte| DigestKey::new([byte; 16]).id();
        assert_eq!(id(7), id(7));
        assert_ne!(id(7), id(8));
        // It is in databases.
        assert_eq!(id(0), [91, 224, 107, 198, 234, 33, 248, 222]);
    }
}
