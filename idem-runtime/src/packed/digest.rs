//! The digest of a key.

use std::fmt;

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
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}
