//! Protobuf, by the crate prost: bare messages, and messages in the wire format of a registry.
//!
//! The message's type is the handler's own, so a registry's schema is not asked for. Which of the two
//! forms a topic has is said by the user and never guessed: both begin with bytes that can be either.

use crate::event::{DecodeError, Event};
use crate::format::{framed, payload};

/// Decodes a payload that is one Protobuf message and nothing else.
///
/// # Errors
/// A tombstone, or a payload that is not the encoding of an `M`. The error never quotes it.
pub fn decode_protobuf<M: prost::Message + Default>(event: &Event) -> Result<M, DecodeError> {
    message(payload(event)?)
}

/// Decodes a Protobuf message in the wire format of a schema registry: a zero byte, the schema's id,
/// where in the schema's file the message stands, and the message.
///
/// `place` is that of an `M`: `[0]` is the first message of the file, `[1, 0]` the first one inside
/// of the second.
///
/// # Errors
/// As [`decode_protobuf`]; and a payload in another form, or with a message of another place.
pub fn decode_protobuf_registry<M: prost::Message + Default>(
    event: &Event,
    place: &[u32],
) -> Result<M, DecodeError> {
    let (_, body) = framed::split(payload(event)?)?;
    let (found, body) = indexes(body).ok_or_else(|| {
        DecodeError::new("the payload does not say which message of its schema's file it is")
    })?;
    // Protobuf reads almost anything as almost any message: another one must be found out here.
    if found != place {
        return Err(DecodeError::new(format!(
            "the event is message {found:?} of its schema's file, and the handler takes message \
             {place:?}; `format = protobuf_registry(message = ..)` says which one"
        )));
    }
    message(body)
}

fn message<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    // prost's own words can quote numbers that are in the payload.
    M::decode(bytes)
        .map_err(|_| DecodeError::new("the payload is not the handler's Protobuf message"))
}

/// The place of the message: a count and as many indexes, each a zigzag varint; a count of zero
/// stands for the one index 0.
fn indexes(bytes: &[u8]) -> Option<(Vec<u32>, &[u8])> {
    /// Nobody nests messages deeper; a count is not to become an allocation unseen.
    const DEEPEST: i32 = 64;
    let (count, mut rest) = zigzag(bytes)?;
    if count == 0 {
        return Some((vec![0], rest));
    }
    if !(1..=DEEPEST).contains(&count) {
        return None;
    }
    let mut indexes = Vec::new();
    for _ in 0..count {
        let (index, after) = zigzag(rest)?;
        indexes.push(u32::try_from(index).ok()?);
        rest = after;
    }
    Some((indexes, rest))
}

fn zigzag(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let mut value = 0_u32;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        let bits = u32::from(byte & 0x7f);
        // The fifth byte has room for four bits.
        value |=
            bits.checked_shl(u32::try_from(i).ok()? * 7).filter(|it| i < 4 || it >> 28 == bits)?;
        if byte & 0x80 == 0 {
            let decoded = (value >> 1).cast_signed() ^ -((value & 1).cast_signed());
            return Some((decoded, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Order {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(int64, tag = "2")]
        cents: i64,
    }

    fn order() -> Order {
        Order { id: "hunter2".into(), cents: -7 }
    }

    fn event(payload: Vec<u8>) -> Event {
        Event::new("t".into(), 0, 0, payload)
    }

    fn framed(indexes: &[u8]) -> Event {
        let mut payload = vec![0, 0, 0, 0, 9];
        payload.extend_from_slice(indexes);
        payload.extend(order().encode_to_vec());
        event(payload)
    }

    #[test]
    fn a_bare_message_is_the_whole_payload() {
        assert_eq!(decode_protobuf::<Order>(&event(order().encode_to_vec())).unwrap(), order());
        assert_eq!(decode_protobuf::<Order>(&event(vec![])).unwrap(), Order::default());
        let mut cut = order().encode_to_vec();
        cut.truncate(5);
        let error = decode_protobuf::<Order>(&event(cut)).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let mut tombstone = event(vec![]);
        tombstone.payload = None;
        let error = decode_protobuf::<Order>(&tombstone).unwrap_err().to_string();
        assert!(error.contains("Option"), "{error}");
    }

    #[test]
    fn in_a_frame_the_message_has_a_place() {
        let decode = |indexes: &[u8], place: &[u32]| {
            decode_protobuf_registry::<Order>(&framed(indexes), place)
        };
        assert_eq!(decode(&[0], &[0]).unwrap(), order());
        assert_eq!(decode(&[2, 0], &[0]).unwrap(), order(), "the long form of the first message");
        assert_eq!(decode(&[2, 2], &[1]).unwrap(), order());
        assert_eq!(decode(&[4, 2, 0], &[1, 0]).unwrap(), order());
        assert_eq!(decode(&[2, 0x80, 0x04], &[256]).unwrap(), order());
        let error = decode(&[2, 2], &[0]).unwrap_err().to_string();
        assert!(error.contains("[1]") && error.contains("message = "), "{error}");
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let place = &[0];
        let refused = |payload: &[u8]| {
            decode_protobuf_registry::<Order>(&event(payload.to_vec()), place)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&order().encode_to_vec()).contains("zero byte"), "a bare message");
        // A negative count, a huge one, a negative index, and varints without an end.
        for indexes in [&[1][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[2, 1], &[0x80; 9], &[2]] {
            let mut payload = vec![0, 0, 0, 0, 9];
            payload.extend_from_slice(indexes);
            assert!(refused(&payload).contains("which message"), "{indexes:?}");
        }
    }
}
