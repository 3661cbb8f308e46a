use super::*;
use crate::random::Random;

fn digests(random: &mut Random, count: usize) -> Vec<Digest> {
    let mut word = || random.below(1 << 32) as u128;
    let mut digests: Vec<Digest> =
        (0..count).map(|_| Digest(word() << 96 | word() << 64 | word() << 32 | word())).collect();
    digests.sort_unstable();
    digests
}

#[test]
fn a_filter_never_misses_a_digest_that_is_there() {
    let random = &mut Random(1);
    for count in (0..70).chain([100, 1000, 5000]) {
        let mut digests = digests(random, count);
        digests.extend([Digest(0), Digest(u128::MAX), Digest(1), Digest(1 << 127)]);
        let filter = Filter::build(&digests);
        let read = Filter::from_bytes(&filter.to_bytes()).unwrap();
        assert_eq!(read, filter);
        assert_eq!(filter.count(), digests.len() as u64);
        assert!(digests.iter().all(|it| filter.may_contain(*it) && read.may_contain(*it)));
    }
}

#[test]
fn less_than_one_digest_of_500_is_taken_for_one_that_is_there() {
    let random = &mut Random(2);
    for count in [500, 20_000] {
        let filter = Filter::build(&digests(random, count));
        let others = digests(random, 100_000);
        let wrong = others.iter().filter(|it| filter.may_contain(**it)).count();
        assert!((10..200).contains(&wrong), "{wrong} of 100000, in a filter of {count}");
    }
}

#[test]
fn a_filter_costs_two_bytes_a_digest() {
    let filter = Filter::build(&digests(&mut Random(3), 10_000));
    assert!(filter.bytes() < 20_100);
    assert!(filter.to_bytes().len() < 20_100);
}

#[test]
fn an_empty_filter_has_nothing() {
    let filter = Filter::build(&[]);
    assert!(!filter.may_contain(Digest(0)));
    assert!(!Filter::from_bytes(&filter.to_bytes()).unwrap().may_contain(Digest(7)));
}

#[test]
fn whatever_happens_to_the_bytes_of_a_filter_is_found() {
    let random = &mut Random(4);
    for count in [0, 1, 40, 90] {
        let bytes = Filter::build(&digests(random, count)).to_bytes();
        let damaged = |bytes: &[u8]| {
            let error = Filter::from_bytes(bytes).expect_err("damage that is not found");
            assert!(error.to_string().contains("damaged"), "{error}");
        };
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= u8::try_from(1 + random.below(255)).unwrap();
            damaged(&other);
            damaged(&bytes[..at]);
        }
        damaged(&[&bytes[..], &[0]].concat());
    }
}

#[test]
fn a_length_that_nobody_wrote_is_refused_and_costs_no_memory() {
    for count in [0, 1, 33, 1 << 32, u64::MAX] {
        for blocks in 0..3 {
            let mut bytes = vec![VERSION];
            bytes.extend(count.to_be_bytes());
            bytes.extend(vec![0; blocks * size_of::<Block>()]);
            bytes.extend(bytes::checksum(&bytes));
            let fits = count.div_ceil(32) == blocks as u64;
            assert_eq!(Filter::from_bytes(&bytes).is_ok(), fits, "{count} {blocks}");
        }
    }
}

#[test]
fn a_filter_that_is_folded_misses_nothing_and_is_half_as_large() {
    let random = &mut Random(5);
    // One block, an odd number of them, two, and many.
    for count in [0, 1, 32, 33, 64, 65, 96, 97, 129, 1000, 5003] {
        let mut digests = digests(random, count);
        digests.extend([Digest(0), Digest(u128::MAX)]);
        digests.sort_unstable();
        let mut filter = Filter::build(&digests);
        let spread = filter.blocks.len();
        for folds in 0..6 {
            assert_eq!(filter.folds(), folds);
            assert_eq!(filter.blocks.len(), spread.div_ceil(1 << folds));
            assert_eq!(filter.bytes(), filter.bytes_at(folds));
            assert!(digests.iter().all(|it| filter.may_contain(*it)), "{count}, {folds}");
            filter.fold();
        }
    }
}

#[test]
fn a_filter_is_the_same_in_whichever_steps_it_is_folded() {
    let random = &mut Random(6);
    let digests = digests(random, 1500);
    let mut steps = Filter::build(&digests);
    steps.fold();
    assert_ne!(steps, Filter::build(&digests));
    steps.fold();
    assert_eq!(steps, Filter::build(&digests).folded_to(2));
    assert_eq!(steps.folded_to(1), Filter::build(&digests).folded_to(2), "it is never unfolded");
}

#[test]
fn with_each_fold_more_digests_are_taken_for_one_that_is_there() {
    let random = &mut Random(7);
    let mut filter = Filter::build(&digests(random, 20_000));
    let others = digests(random, 100_000);
    for percent in [0.05..0.2, 2.0..3.5, 29.0..35.0, 84.0..90.0] {
        let wrong = others.iter().filter(|it| filter.may_contain(**it)).count();
        let wrong = wrong as f64 / 1000.0;
        assert!(percent.contains(&wrong), "{wrong} %, folded {} times", filter.folds());
        filter.fold();
    }
}

#[test]
fn a_filter_that_was_made_for_more_digests_than_came_is_as_good() {
    let random = &mut Random(8);
    let digests = digests(random, 1000);
    let mut filter = Filter::of(1300);
    digests.iter().for_each(|it| filter.insert(*it));
    let read = Filter::from_bytes(&filter.to_bytes()).unwrap();
    assert_eq!(read.count(), 1300);
    assert!(digests.iter().all(|it| read.may_contain(*it)));
}
