//! Times: milliseconds since 1970 in the tables, `SystemTime` outside of them.

use std::time::{Duration, SystemTime};

const NANOS: i128 = 1_000_000;

/// The time of a column.
pub(crate) fn from_millis(milliseconds: i64) -> SystemTime {
    let distance = Duration::from_millis(milliseconds.unsigned_abs());
    let time = match milliseconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The last whole millisecond that is not after this time.
pub(crate) fn to_millis(time: SystemTime) -> i64 {
    clamp(nanos(time).div_euclid(NANOS))
}

/// The first whole millisecond that is not before this time: a column is at or after the one when
/// it is at or after the other.
pub(crate) fn to_millis_up(time: SystemTime) -> i64 {
    clamp(-(-nanos(time)).div_euclid(NANOS))
}

/// A span of time.
pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn nanos(time: SystemTime) -> i128 {
    let signed = |span: Duration| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => signed(after),
        Err(before) => -signed(before.duration()),
    }
}

fn clamp(milliseconds: i128) -> i64 {
    i64::try_from(milliseconds).unwrap_or(if milliseconds < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_milliseconds_come_back() {
        for milliseconds in [0, 1, -1, 1_700_000_000_123, -1_700_000_000_123] {
            let time = from_millis(milliseconds);
            assert_eq!((to_millis(time), to_millis_up(time)), (milliseconds, milliseconds));
        }
    }

    #[test]
    fn a_part_of_a_millisecond_is_between_two() {
        for milliseconds in [5, -5] {
            let time = from_millis(milliseconds) + Duration::from_micros(1);
            assert_eq!((to_millis(time), to_millis_up(time)), (milliseconds, milliseconds + 1));
        }
    }
}
