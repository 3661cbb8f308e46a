use std::collections::HashMap;

use super::*;
use crate::random::Random;

fn word(random: &mut Random) -> u128 {
    random.below(1 << 32) as u128
}

fn digest(random: &mut Random) -> Digest {
    Digest(word(random) << 96 | word(random) << 64 | word(random) << 32 | word(random))
}

fn unlimited() -> Arc<Budget> {
    Budget::new(usize::MAX)
}

/// The table has what the model has, no more, and in one order; and what is counted is what it has.
fn same(table: &Table, model: &HashMap<Digest, i64>) {
    assert_eq!(table.len(), model.len());
    for (digest, era) in model {
        assert_eq!(table.era(*digest), Some(*era), "{digest:?}");
    }
    let mut entries = 0;
    for (number, shard) in table.shards.iter().enumerate() {
        let digests: Vec<u128> = shard.entries().map(|(digest, _)| digest).collect();
        assert!(digests.is_sorted_by(|a, b| a < b));
        assert!(digests.iter().all(|it| table.directory[table.place(*it)] as usize == number));
        assert_eq!(shard.len, digests.len());
        entries += digests.len();
    }
    assert_eq!(entries, model.len());
    let shards: usize = table.shards.iter().map(Shard::bytes).sum();
    assert_eq!(table.bytes(), shards + table.directory.len() * size_of::<u32>());
    assert_eq!(table.share.bytes(), table.bytes());
}

/// Random operations on a table and on a model, over digests that `make` makes.
fn operations(seed: u64, rounds: usize, most: usize, make: impl Fn(&mut Random) -> Digest) {
    let random = &mut Random(seed);
    let mut table = Table::new(&unlimited());
    let mut model: HashMap<Digest, i64> = HashMap::new();
    let mut known: Vec<Digest> = Vec::new();
    let (mut oldest, mut era) = (i64::MIN, 1_000_000);
    for _ in 0..rounds {
        era += random.below(3) as i64;
        match random.below(20) {
            0 => {
                let before = era - random.below(40) as i64;
                oldest = oldest.max(before);
                let all = model.len();
                model.retain(|_, era| *era >= oldest);
                assert_eq!(table.evict_before(before), all - model.len());
            }
            1 => table.reserve(random.below(most)),
            _ => {
                let at = (era - random.below(30) as i64).max(oldest);
                let mut batch: Vec<Digest> =
                    (0..random.below(most)).map(|_| make(random)).collect();
                for _ in 0..random.below(5) {
                    batch.extend((!known.is_empty()).then(|| random.pick(&known)));
                }
                known.extend(batch.iter().take(3));
                for digest in &batch {
                    let known = model.entry(*digest).or_insert(at);
                    *known = at.max(*known);
                }
                table.insert_all(batch, at);
            }
        }
        let mut asked: Vec<Digest> = (0..40).map(|_| make(random)).collect();
        asked.extend(known.iter().rev().take(40));
        let found = table.contains_all(&asked);
        for (digest, found) in asked.iter().zip(found) {
            assert_eq!(found, model.contains_key(digest), "{digest:?}");
            assert_eq!(table.contains(*digest), found);
        }
    }
    same(&table, &model);
}

#[test]
fn a_table_has_what_a_map_has_after_any_operations() {
    for seed in 0..8 {
        operations(seed, 120, 400, digest);
    }
}

#[test]
fn a_table_of_several_shards_has_what_a_map_has() {
    operations(100, 60, 6000, digest);
}

#[test]
fn a_table_of_few_digests_that_come_again_and_again_has_what_a_map_has() {
    operations(200, 400, 60, |random| Digest(random.below(50) as u128));
    operations(201, 400, 60, |random| Digest(u128::MAX - random.below(50) as u128));
    operations(202, 400, 60, |random| Digest((random.below(50) as u128) << 122));
}

#[test]
fn digests_that_somebody_chose_are_kept_like_any_others() {
    operations(300, 20, 800, |random| Digest(7 << 64 | word(random)));
    operations(301, 20, 800, |random| Digest(word(random) << 96));
    operations(302, 20, 800, |random| Digest(word(random) >> 16 << 96 | 5));
}

#[test]
fn many_digests_for_one_slot_do_not_make_a_table_slow_or_large() {
    let budget = unlimited();
    let mut table = Table::new(&budget);
    let all: u128 = 30_000;
    table.insert_all((0..all).map(Digest), 1);
    assert_eq!(table.len(), 30_000);
    assert!((0..all).step_by(7).all(|it| table.contains(Digest(it))));
    assert!(!table.contains(Digest(all)));
    // Beside the slots, not pushed along them: otherwise this would be hundreds of millions of steps.
    let beside: usize = table.shards.iter().map(|shard| shard.beside.len()).sum();
    assert!(beside > 20_000, "{beside}");
    assert!(table.shards.len() < 32, "{}", table.shards.len());
    assert!(table.bytes() < 30_000 * 100, "{}", table.bytes());
}

#[test]
fn random_digests_are_all_in_their_slots_and_cost_less_than_thirty_bytes() {
    let random = &mut Random(7);
    let budget = unlimited();
    let mut table = Table::new(&budget);
    for _ in 0..200 {
        let batch: Vec<Digest> = (0..1000).map(|_| digest(random)).collect();
        table.insert_all(batch, 1);
    }
    assert_eq!(table.len(), 200_000);
    assert!(table.bytes() < 200_000 * 30, "{}", table.bytes());
    assert!(table.shards.iter().all(|shard| shard.beside.is_empty() && shard.len <= SPLIT));
    assert_eq!(budget.used(), table.bytes());
    drop(table);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_table_shrinks_when_most_of_it_is_evicted() {
    let random = &mut Random(8);
    let mut table = Table::new(&unlimited());
    let mut model = HashMap::new();
    for round in 0..100 {
        let era = i64::from(round == 50);
        let batch: Vec<Digest> = (0..1000).map(|_| digest(random)).collect();
        model.extend(batch.iter().map(|it| (*it, era)));
        table.insert_all(batch, era);
    }
    let before = table.bytes();
    model.retain(|_, era| *era == 1);
    assert_eq!(table.evict_before(1), 99_000);
    same(&table, &model);
    assert!(table.bytes() < before / 30, "{} of {before}", table.bytes());
}

#[test]
fn room_that_is_reserved_is_not_made_again() {
    let random = &mut Random(9);
    let mut table = Table::new(&unlimited());
    table.insert(digest(random), 1);
    table.reserve(50_000);
    let before = table.bytes();
    let batch: Vec<Digest> = (0..50_000).map(|_| digest(random)).collect();
    table.insert_all(batch, 1);
    assert_eq!(table.bytes(), before);
    table.reserve(100);
    assert_eq!(table.bytes(), before, "there is room");
}

#[test]
fn the_later_of_two_eras_counts() {
    let mut table = Table::new(&unlimited());
    assert!(table.insert(Digest(1), 5));
    assert!(!table.insert(Digest(1), 9));
    assert!(!table.insert(Digest(1), 7));
    assert_eq!(table.evict_before(9), 0);
    assert!(table.contains(Digest(1)));
    assert_eq!(table.evict_before(10), 1);
    assert!(!table.contains(Digest(1)));
}

#[test]
fn eras_go_on_for_ever_when_old_ones_are_evicted() {
    let mut table = Table::new(&unlimited());
    let mut model = HashMap::new();
    for step in 0..2_000i64 {
        let era = step * 1_013 - 900_000;
        for digest in [Digest(step.cast_unsigned() as u128 + 1), Digest(0)] {
            table.insert(digest, era);
            model.insert(digest, era);
        }
        table.evict_before(era - 20_000);
        model.retain(|_, it| *it >= era - 20_000);
        assert_eq!(table.len(), model.len());
    }
    same(&table, &model);
}

#[test]
fn a_digest_is_never_evicted_before_its_time_however_far_eras_are_apart() {
    let random = &mut Random(10);
    for _ in 0..300 {
        let mut table = Table::new(&unlimited());
        let mut model: HashMap<Digest, i64> = HashMap::new();
        for _ in 0..40 {
            let era = random.below(400_000) as i64 - 200_000;
            if random.below(6) == 0 {
                table.evict_before(era);
                model.retain(|digest, it| *it >= era || table.contains(*digest));
            } else {
                let digest = Digest(random.below(30) as u128);
                table.insert(digest, era);
                let known = model.entry(digest).or_insert(era);
                *known = era.max(*known);
            }
            assert_eq!(table.len(), model.len());
            for (digest, era) in &model {
                let known = table.era(*digest).expect("evicted before its time");
                assert!(known >= *era, "{digest:?} is taken for older: {known}, not {era}");
            }
        }
    }
}

#[test]
fn extreme_eras_are_told_apart_as_far_as_they_can_be() {
    let mut table = Table::new(&unlimited());
    table.insert(Digest(1), i64::MIN);
    table.insert(Digest(2), i64::MAX);
    table.insert(Digest(3), 0);
    assert_eq!(table.len(), 3);
    assert_eq!(table.evict_before(i64::MIN), 0);
    assert_eq!(table.evict_before(i64::MAX - ERAS), 0);
    assert_eq!(table.evict_before(i64::MAX), 2);
    assert!(table.contains(Digest(2)));
}
