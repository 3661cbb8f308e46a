//! Bytes within JSON, as two digits each. SQLite's `unhex` reads what is written here, and what its
//! `hex` writes is read here.

use sqlx::Error;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// # Errors
/// [`Error::Decode`] when it is something else.
pub(crate) fn decode(text: &str) -> sqlx::Result<Vec<u8>> {
    let wrong = || Error::Decode("bytes that are not written in hex".into());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(wrong()) };
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect::<Option<_>>()
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        assert_eq!(decode(&encode(&bytes).to_uppercase()).unwrap(), bytes);
        assert_eq!(encode(&[]), "");
    }

    #[test]
    fn what_is_not_hex_is_refused() {
        for text in ["a", "0g", "+1", "ü"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
