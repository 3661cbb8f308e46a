//! The wire format of schema registries: a zero byte, the schema's id in four bytes (big endian),
//! and the body. It is Confluent's, and those of other vendors speak it, too.

use crate::event::DecodeError;

/// The schema's id, and the body behind it.
pub(super) fn split(payload: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match payload {
        [0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        [0, ..] | [] => Err(DecodeError::new(
            "the payload is too short for the wire format of a schema registry, which begins with \
             5 bytes",
        )),
        _ => Err(DecodeError::new(
            "the payload is not in the wire format of a schema registry, which begins with a zero \
             byte",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_four_bytes_behind_a_zero() {
        assert_eq!(split(b"\x00\x00\x01\x00\x02body").unwrap(), (0x1_0002, &b"body"[..]));
        assert_eq!(split(b"\x00\xff\xff\xff\xff").unwrap(), (u32::MAX, &b""[..]));
        for (payload, part) in
            [(&b""[..], "short"), (b"\x00\x00\x00\x01", "short"), (b"{}", "zero")]
        {
            let error = split(payload).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
