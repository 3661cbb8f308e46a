//! Times as statements exchange them: microseconds of the Unix era, exact and of no crate in
//! particular. In SQL they are `(extract(epoch from ..) * 1000000)::bigint`, and back
//! `timestamptz 'epoch' + .. * interval '1 microsecond'`.

use std::time::{Duration, SystemTime};

pub(crate) fn from_micros(microseconds: i64) -> SystemTime {
    let distance = Duration::from_micros(microseconds.unsigned_abs());
    let time = match microseconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Times that the database cannot keep become the nearest it can.
pub(crate) fn to_micros(time: SystemTime) -> i64 {
    /// Some 4500 years before and after 1970.
    const FAR: i64 = i64::MAX / 64;
    let micros = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(FAR).min(FAR);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_are_exact() {
        let era = SystemTime::UNIX_EPOCH;
        assert_eq!(from_micros(1_500_000).duration_since(era).unwrap().as_micros(), 1_500_000);
        assert_eq!(era.duration_since(from_micros(-1)).unwrap().as_micros(), 1);
        for micros in [-1, 0, 1_700_000_000_123_456] {
            assert_eq!(to_micros(from_micros(micros)), micros);
        }
    }
}
