//! `sha256:` and 64 hexadecimal digits: how keys are written that are hashes.

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha256:";
const LEN: usize = PREFIX.len() + 64;

/// The hash of this input.
pub(super) fn of(input: &[u8]) -> Box<str> {
    finish(Sha256::new().chain_update(input))
}

/// The hash of what was put in.
pub(super) fn finish(hash: Sha256) -> Box<str> {
    let mut text = String::with_capacity(LEN);
    text.push_str(PREFIX);
    hex(&hash.finalize(), &mut text);
    text.into()
}

/// Whether a text looks like a hash.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == LEN
        && text
            .strip_prefix(PREFIX)
            .is_some_and(|it| it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')))
}

/// Writes bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.reserve(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}
