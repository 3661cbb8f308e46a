//! Cases: claims, alone and against each other.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Harness;
use super::support::*;
use crate::store::{Claim, Claimed, Sealed, Store as _, Writer};

pub async fn a_key_is_new_once<H: Harness>(harness: &H) {
    for expected in [true, false] {
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        assert_eq!(is_new(harness, &mut tx, &writer, "e1").await, expected);
        finish(harness, tx, &writer, 0).await;
    }
}

pub async fn a_key_is_new_once_within_a_transaction<H: Harness>(harness: &H) {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    assert!(!is_new(harness, &mut tx, &writer, "e1").await);
    finish(harness, tx, &writer, 0).await;
}

pub async fn many_keys_are_answered_in_their_order<H: Harness>(harness: &H) {
    const KEYS: usize = 3000;
    let held = held(harness).await;
    let keys: Vec<_> = (0..KEYS).map(|it| key(&format!("e{it:05}"))).collect();
    let claims: Vec<_> = (keys.iter().zip(0..))
        .map(|(key, offset)| Claim { offset: Some(offset), ..plain(SCOPE, key) })
        .collect();
    let thirds: Vec<_> = claims.iter().step_by(3).copied().collect();

    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let claimed = harness.store().claim(&mut tx, &writer, &thirds).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true; thirds.len()]));
    finish(harness, tx, &writer, 0).await;

    let writer = crate::store::Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let claimed = harness.store().claim(&mut tx, &writer, &claims).await.unwrap();
    let expected: Vec<_> = (0..KEYS).map(|index| index % 3 != 0).collect();
    assert_eq!(claimed, Claimed::Keys(expected));
    finish(harness, tx, &writer, 3000).await;
    let marker = harness.store().marker(SCOPE, &keys[2999]).await.unwrap().unwrap();
    assert_eq!(marker.origin.unwrap().offset, 2999);
}

pub async fn no_keys_are_answered_with_nothing<H: Harness>(harness: &H) {
    let held = held(harness).await;
    for writer in [direct(), crate::store::Writer::Lane(&held)] {
        let mut tx = begin(harness, &writer).await;
        let claimed = claim(harness, &mut tx, &writer, &[]).await.unwrap();
        assert_eq!(claimed, Claimed::Keys(Vec::new()));
        finish(harness, tx, &writer, 1).await;
    }
}

pub async fn scopes_do_not_share_their_keys<H: Harness>(harness: &H) {
    let writer = direct();
    let same = key("e1");
    let mut tx = begin(harness, &writer).await;
    let claims = [plain("bill", &same), plain("notify", &same)];
    let claimed = harness.store().claim(&mut tx, &writer, &claims).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true, true]));
    finish(harness, tx, &writer, 0).await;

    let mut tx = begin(harness, &writer).await;
    let claims = [plain("audit", &same), plain("notify", &same)];
    let claimed = harness.store().claim(&mut tx, &writer, &claims).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true, false]));
    finish(harness, tx, &writer, 0).await;
}

#[derive(Clone, Copy)]
enum First {
    Commits,
    RollsBack,
    Dropped,
}

/// Two transactions want one key. The second is asked first of all to begin, and is not answered
/// before the first one ended.
async fn race<H: Harness>(harness: &H, first: First) {
    let ended = AtomicBool::new(false);
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);

    let second = async {
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        let new = is_new(harness, &mut tx, &writer, "e1").await;
        assert!(ended.load(Ordering::SeqCst), "the second was answered while the first was open");
        if new {
            write::<H>(&mut tx, "second").await;
        }
        finish(harness, tx, &writer, 0).await;
        new
    };
    let one = async {
        // Some round trips, in which the second gets as far as it can.
        for _ in 0..5 {
            write::<H>(&mut tx, "first").await;
            tokio::task::yield_now().await;
        }
        match first {
            First::Commits => {
                let sealed = harness.store().seal(&mut tx, &writer, None).await.unwrap();
                assert_eq!(sealed, Sealed::Yes);
                ended.store(true, Ordering::SeqCst);
                harness.store().commit(tx).await.unwrap();
            }
            First::RollsBack => {
                ended.store(true, Ordering::SeqCst);
                harness.store().rollback(tx).await;
            }
            First::Dropped => {
                ended.store(true, Ordering::SeqCst);
                drop(tx);
            }
        }
    };
    let (second_won, ()) = tokio::join!(second, one);
    match first {
        First::Commits => {
            assert!(!second_won);
            assert_eq!(effects(harness).await, ["first"; 5]);
        }
        First::RollsBack | First::Dropped => {
            assert!(second_won);
            assert_eq!(effects(harness).await, ["second"]);
        }
    }
}

pub async fn a_concurrent_duplicate_waits_and_loses<H: Harness>(harness: &H) {
    race(harness, First::Commits).await;
}

pub async fn a_concurrent_duplicate_wins_when_the_first_rolls_back<H: Harness>(harness: &H) {
    race(harness, First::RollsBack).await;
}

pub async fn a_concurrent_duplicate_wins_when_the_first_is_dropped<H: Harness>(harness: &H) {
    race(harness, First::Dropped).await;
}

/// Two lanes want the same keys, many at once. Each writes what is new to it.
async fn lanes_race<H: Harness>(harness: &H, first_commits: bool) {
    open(harness, &[0, 1]).await;
    let (one, two) = (take(harness, 0).await.held(), take(harness, 1).await.held());
    let keys: Vec<_> = (0..60).map(|it| key(&format!("e{it:02}"))).collect();
    let claims: Vec<_> = (keys.iter().zip(0..))
        .map(|(key, offset)| Claim { offset: Some(offset), ..plain(SCOPE, key) })
        .collect();
    let ended = AtomicBool::new(false);
    let writer = Writer::Lane(&one);
    let mut tx = begin(harness, &writer).await;
    let claimed = harness.store().claim(&mut tx, &writer, &claims[..40]).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true; 40]));
    let second = async {
        let writer = Writer::Lane(&two);
        let mut tx = begin(harness, &writer).await;
        let claimed = harness.store().claim(&mut tx, &writer, &claims[20..]).await.unwrap();
        assert!(ended.load(Ordering::SeqCst), "the second was answered while the first was open");
        write::<H>(&mut tx, "second").await;
        finish(harness, tx, &writer, 60).await;
        claimed
    };
    let first = async {
        for _ in 0..5 {
            write::<H>(&mut tx, "first").await;
            tokio::task::yield_now().await;
        }
        if first_commits {
            let sealed = harness.store().seal(&mut tx, &writer, Some(&to(40))).await.unwrap();
            assert_eq!(sealed, Sealed::Yes);
            ended.store(true, Ordering::SeqCst);
            harness.store().commit(tx).await.unwrap();
        } else {
            ended.store(true, Ordering::SeqCst);
            harness.store().rollback(tx).await;
        }
    };
    let (claimed, ()) = tokio::join!(second, first);
    let new: Vec<_> = (20..60).map(|it| !first_commits || it >= 40).collect();
    assert_eq!(claimed, Claimed::Keys(new));
    for (number, key) in keys.iter().enumerate() {
        let marker = harness.store().marker(SCOPE, key).await.unwrap();
        let origin = marker.map(|it| it.origin.unwrap());
        let partition = origin.map(|it| (it.partition, usize::try_from(it.offset).unwrap()));
        match (number, first_commits) {
            (0..20, false) => assert_eq!(partition, None),
            (0..40, true) => assert_eq!(partition, Some((0, number))),
            _ => assert_eq!(partition, Some((1, number))),
        }
    }
}

pub async fn of_many_keys_those_that_another_lane_commits_are_known<H: Harness>(harness: &H) {
    lanes_race(harness, true).await;
}

pub async fn of_many_keys_those_that_another_lane_gives_back_are_new<H: Harness>(harness: &H) {
    lanes_race(harness, false).await;
}

pub async fn batches_that_overlap_do_not_deadlock<H: Harness>(harness: &H) {
    const ROUNDS: usize = 8;
    let keys = |round: usize, from: usize| -> Vec<String> {
        (from..from + 60).map(|it| format!("r{round}-{it:03}")).collect()
    };
    let worker = async |from: usize| {
        let mut new = 0;
        for round in 0..ROUNDS {
            let keys = keys(round, from);
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            let writer = direct();
            let mut tx = begin(harness, &writer).await;
            match claim(harness, &mut tx, &writer, &keys).await.unwrap() {
                Claimed::Keys(answers) => new += answers.iter().filter(|it| **it).count(),
                other => panic!("{other:?}"),
            }
            finish(harness, tx, &writer, 0).await;
        }
        new
    };
    let (a, b, c) = tokio::join!(worker(0), worker(30), worker(15));
    assert_eq!(a + b + c, ROUNDS * 90, "each key was new exactly once");
}
