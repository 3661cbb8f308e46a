//! Random text for passwords, directory names and cluster ids, and random numbers for ports.
//!
//! It is read from the kernel, so that processes that start at the same moment differ.

use std::fs::File;
use std::io::Read;

use crate::Error;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// `length` random characters of `a-z2-7`: safe in a URL, in SQL and in a file's name.
pub(crate) fn text(length: usize) -> Result<String, Error> {
    let mut bytes = vec![0; length];
    fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// A random number below `limit`, which must not be zero.
pub(crate) fn below(limit: u16) -> Result<u16, Error> {
    let mut bytes = [0; 2];
    fill(&mut bytes)?;
    Ok(u16::from_ne_bytes(bytes) % limit)
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(bytes))
        .map_err(Error::io("read random bytes from /dev/urandom"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_texts_of_the_wanted_length_differ() {
        let (one, other) = (text(24).unwrap(), text(24).unwrap());
        assert_eq!((one.len(), other.len()), (24, 24));
        assert_ne!(one, other);
    }
}
