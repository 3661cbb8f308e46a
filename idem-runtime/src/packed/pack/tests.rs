use std::time::Duration;

use super::*;
use crate::random::Random;

fn number(random: &mut Random) -> u64 {
    (random.below(1 << 32) as u64) << 32 | random.below(1 << 32) as u64
}

fn digest(random: &mut Random) -> Digest {
    Digest(u128::from(number(random)) << 64 | u128::from(number(random)))
}

/// A time to the microsecond, now and then before the Unix era.
fn time(random: &mut Random) -> SystemTime {
    bytes::time(number(random).cast_signed() >> (8 + random.below(40))).unwrap()
}

/// Offsets as batches have them: ascending, with holes, going back, and anything at all.
fn pack(random: &mut Random) -> Pack {
    let mut offset = number(random).cast_signed() >> random.below(64);
    let mut pack = Pack::default();
    for _ in 0..random.below(60) {
        offset = match random.below(10) {
            0 => offset.wrapping_add(random.below(1000).cast_signed() as i64),
            1 => offset.wrapping_sub(random.below(1000).cast_signed() as i64),
            2 => random.pick(&[i64::MIN, i64::MAX, -1, 0, i64::MAX - 1]),
            _ => offset.wrapping_add(1),
        };
        pack.entries.push((offset, digest(random)));
    }
    let mut left = pack.entries.len();
    while left > 0 && (!pack.spans.is_empty() || random.below(2) == 0) {
        let count = 1 + random.below(left);
        pack.spans.push((u32::try_from(count).unwrap(), time(random)));
        left -= count;
    }
    pack
}

fn row(pack: &Pack) -> PackRow {
    let (first_offset, last_offset) = pack.offsets().unwrap_or((5, 5));
    PackRow {
        id: 17,
        lane: 23,
        slice: None,
        every_slice: false,
        partitions: 12,
        log: 0,
        first_offset,
        last_offset,
        count: u32::try_from(pack.entries.len()).unwrap(),
        first_at: SystemTime::UNIX_EPOCH,
        last_at: SystemTime::UNIX_EPOCH,
        run: None,
        data: pack.encode(),
    }
}

fn of(offsets: &[i64]) -> Pack {
    let digests = (1..).map(Digest);
    Pack { entries: offsets.iter().copied().zip(digests).collect(), spans: Vec::new() }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn what_was_encoded_is_what_is_decoded() {
    let random = &mut Random(1);
    for _ in 0..3000 {
        let pack = pack(random);
        assert_eq!(Pack::decode(&row(&pack)), Ok(pack));
    }
}

#[test]
fn offsets_of_all_kinds_are_kept_in_their_order() {
    for offsets in [
        &[][..],
        &[0],
        &[i64::MAX, i64::MIN, i64::MAX],
        &[i64::MAX - 1, i64::MAX, i64::MIN, i64::MIN + 1],
        &[-3, -2, -1, 0, 1],
        &[10, 11, 40, 41, 12, 13],
        &[7, 7, 7],
    ] {
        let pack = of(offsets);
        assert_eq!(Pack::decode(&row(&pack)), Ok(pack));
    }
}

#[test]
fn a_batch_without_holes_costs_sixteen_bytes_a_digest_and_a_few_more() {
    let offsets: Vec<i64> = (5_000_000_000..5_000_001_000).collect();
    assert!(of(&offsets).encode().len() < 16 * 1000 + 24);
}

#[test]
fn the_digests_are_plain_and_side_by_side() {
    let pack = pack(&mut Random(4));
    let plain: Vec<u8> = pack.entries.iter().flat_map(|(_, it)| it.to_bytes()).collect();
    let data = pack.encode();
    assert!(!plain.is_empty());
    assert_eq!(data[data.len() - 8 - plain.len()..data.len() - 8], plain);
}

#[test]
fn a_row_is_written_as_it_always_was() {
    let pack = Pack {
        entries: vec![(300, Digest(1)), (301, Digest(2)), (10, Digest(3))],
        spans: vec![(2, at(1)), (1, at(0))],
    };
    let mut expected = vec![1, 3, 2];
    expected.extend([0xd8, 0x04, 2]); // 300, two of them
    expected.extend([0xc7, 0x04, 1]); // 292 back from 302, one
    expected.extend([2, 2, 0x80, 0x89, 0x7a, 1, 0xff, 0x88, 0x7a]); // a second, and back
    for digest in 1..=3u128 {
        expected.extend(digest.to_be_bytes());
    }
    let data = pack.encode();
    assert_eq!(data[..data.len() - 8], expected);
    assert_eq!(data[data.len() - 8..], bytes::checksum(&expected));
    assert_eq!(bytes::checksum(b"idem"), [83, 186, 232, 13, 111, 227, 11, 229]);
}

#[test]
fn whatever_happens_to_the_bytes_of_a_row_is_found() {
    let random = &mut Random(2);
    for round in 0..200 {
        let pack = pack(random);
        let intact = row(&pack);
        let damaged = |data: Vec<u8>| {
            let row = PackRow { data, ..intact.clone() };
            let error = Pack::decode(&row).expect_err("damage that is not found").to_string();
            assert!(error.contains("row 17"), "{error}");
            assert!(error.contains("lane 23"), "{error}");
            assert!(error.contains("damaged"), "{error}");
        };
        for at in 0..intact.data.len() {
            let mut data = intact.data.clone();
            data[at] ^= u8::try_from(1 + random.below(255)).unwrap();
            damaged(data);
            if round < 20 {
                damaged(intact.data[..at].to_vec());
            }
        }
        let mut longer = intact.data.clone();
        longer.push(u8::try_from(random.below(256)).unwrap());
        damaged(longer);
        let noise = (0..random.below(200)).map(|_| u8::try_from(random.below(256)).unwrap());
        damaged(noise.collect());
    }
}

#[test]
fn bytes_with_a_checksum_that_nobody_encoded_are_refused_and_cost_no_memory() {
    let random = &mut Random(3);
    let mut refused = 0;
    for _ in 0..20_000 {
        let pack = pack(random);
        let mut row = row(&pack);
        row.data.truncate(row.data.len() - 8);
        let header = (row.data.len() - 16 * pack.entries.len()).max(2);
        for _ in 0..=random.below(3) {
            let at = 1 + random.below(header - 1);
            row.data[at] = random.pick(&[0, 1, 2, 0x7f, 0x80, 0xff]);
        }
        if random.below(4) == 0 {
            row.count = random.pick(&[0, 1, u32::MAX]);
        }
        let sum = bytes::checksum(&row.data);
        row.data.extend(sum);
        match Pack::decode(&row) {
            Ok(read) => assert_eq!(row.count as usize, read.entries.len()),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn a_row_whose_columns_say_something_else_is_damaged() {
    let pack = of(&[4, 5, 9, 2]);
    let row = row(&pack);
    let cases = [
        (PackRow { count: 5, ..row.clone() }, "it has 4 digests, and its row says 5"),
        (
            PackRow { first_offset: 3, ..row.clone() },
            "it has the offsets 2 to 9, and its row says 3 to 9",
        ),
        (
            PackRow { last_offset: 10, ..row.clone() },
            "it has the offsets 2 to 9, and its row says 2 to 10",
        ),
    ];
    for (row, what) in cases {
        assert_eq!(
            Pack::decode(&row).unwrap_err().to_string(),
            format!("row 17 of the packed markers (lane 23) is damaged: {what}")
        );
    }
}

#[test]
fn a_row_of_a_newer_version_says_so() {
    let mut row = row(&of(&[1]));
    row.data[0] = 2;
    let error = Pack::decode(&row).unwrap_err().to_string();
    assert!(error.ends_with("it is of version 2, which only a newer release may know"), "{error}");
}

#[test]
fn what_is_merged_has_all_entries_in_their_order_with_their_times() {
    let random = &mut Random(5);
    for _ in 0..300 {
        let parts: Vec<_> =
            (0..random.below(8)).map(|_| (at(random.below(3) as u64), pack(random))).collect();
        let entries: Vec<_> = parts.iter().flat_map(|(_, it)| it.entries.clone()).collect();
        let times: Vec<_> =
            parts.iter().flat_map(|(at, it)| it.times(*at).collect::<Vec<_>>()).collect();
        let merged = Pack::merge(parts);
        let read = Pack::decode(&row(&merged)).unwrap();
        assert_eq!(read, merged);
        assert_eq!(merged.entries, entries);
        assert_eq!(merged.times(at(99)).collect::<Vec<_>>(), times);
        let mut by_time = Vec::new();
        for (time, entries) in merged.by_time(at(99)) {
            by_time.extend(entries.iter().map(|&(offset, digest)| (time, offset, digest)));
        }
        let expected: Vec<_> =
            times.iter().zip(&entries).map(|(&time, &(offset, it))| (time, offset, it)).collect();
        assert_eq!(by_time, expected);
    }
}

#[test]
fn rows_of_one_time_become_one_span() {
    let merged = Pack::merge([(at(1), of(&[1, 2])), (at(1), of(&[3])), (at(2), of(&[4]))]);
    assert_eq!(merged.spans, [(3, at(1)), (1, at(2))]);
    assert_eq!(merged.offsets(), Some((1, 4)));
}

#[test]
fn without_a_digest_all_others_are_where_they_were() {
    let random = &mut Random(6);
    for _ in 0..500 {
        let mut pack = pack(random);
        let Some(place) = pack.entries.len().checked_sub(1).map(|last| random.below(last + 1))
        else {
            continue;
        };
        let gone = pack.entries[place].1;
        if random.below(2) == 0 {
            let twin = random.below(pack.entries.len());
            pack.entries[twin].1 = gone;
        }
        let whole = pack.entries.iter().copied().zip(pack.times(at(7)));
        let expected: Vec<_> = whole.filter(|((_, it), _)| *it != gone).collect();
        let left = pack.without(gone);
        assert_eq!(
            left.entries.iter().copied().zip(left.times(at(7))).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(Pack::decode(&row(&left)), Ok(left));
    }
}

#[test]
fn a_digest_is_located_where_it_was_first_whatever_the_order_of_what_was_joined() {
    let pack = Pack {
        entries: vec![(4, Digest(1)), (5, Digest(2)), (6, Digest(1)), (7, Digest(3))],
        spans: vec![(1, at(1)), (2, at(2)), (1, at(3))],
    };
    assert_eq!(pack.locate(Digest(1), at(9)), Some((4, at(1))));
    let joined = Pack { spans: vec![(1, at(3)), (2, at(2)), (1, at(1))], ..pack.clone() };
    assert_eq!(joined.locate(Digest(1), at(9)), Some((6, at(2))));
    // Of one batch it is the lower offset.
    let batch = Pack { spans: Vec::new(), ..pack.clone() };
    assert_eq!(batch.locate(Digest(1), at(9)), Some((4, at(9))));
    assert_eq!(pack.locate(Digest(3), at(9)), Some((7, at(3))));
    assert_eq!(pack.locate(Digest(4), at(9)), None);
    assert_eq!(of(&[8]).locate(Digest(1), at(9)), Some((8, at(9))));
}

#[test]
fn times_are_kept_to_the_microsecond_and_rounded_down() {
    let era = SystemTime::UNIX_EPOCH;
    let nanos = Duration::from_nanos;
    assert_eq!(bytes::micros(era + nanos(1_999)), 1);
    assert_eq!(bytes::micros(era - nanos(1_999)), -2);
    assert_eq!(bytes::micros(era - nanos(2_000)), -2);
    for micros in [0, 1, -1, i64::from(i32::MIN), 1_700_000_000_123_456, -62_135_596_800_000_000] {
        assert_eq!(bytes::micros(bytes::time(micros).unwrap()), micros);
    }
}
