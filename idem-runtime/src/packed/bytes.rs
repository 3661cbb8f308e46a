//! How numbers are written in a row, and what tells that one was not kept as it was written.

use std::hash::Hasher as _;
use std::time::{Duration, SystemTime};

use siphasher::sip::SipHasher13;

/// Adds a number to the bytes: seven bits in each, the least significant first; all but the last have
/// their highest bit set.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Adds a number that is often near zero, on either side of it.
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
}

/// Reads numbers from the front. `None`: there is none, or it is not written as [`put`] writes it.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

/// What follows bytes that are written: SipHash-1-3 under a key that everybody knows, because it is
/// against accidents alone.
pub(super) fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut hasher = SipHasher13::new_with_keys(0x6964_656d_2070_6163, 0x6b65_6420_6d61_726b);
    hasher.write(bytes);
    hasher.finish().to_be_bytes()
}

/// The bytes before their checksum; `None` when they are not those that were written.
pub(super) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    (checksum(body) == *sum).then_some(body)
}

/// Microseconds of the Unix era, rounded down; what is further away than they reach is as far as they do.
pub(super) fn micros(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos().div_ceil(1000)).map_or(i64::MIN, |it| -it)
        }
    }
}

/// The time at so many microseconds, if the system has it.
pub(super) fn time(micros: i64) -> Option<SystemTime> {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}
