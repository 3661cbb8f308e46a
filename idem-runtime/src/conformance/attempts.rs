//! Cases: what is known of attempts, and of owners that died.

use std::time::{Duration, Instant};

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::lane::{AttemptRow, Held, LaneRow, Owner};
use crate::store::{Store as _, Writer};

fn open_attempt(offset: i64) -> AttemptRow {
    AttemptRow { open: true, ..attempt("", offset) }
}

async fn note<H: Harness>(harness: &H, held: &Held, attempt: &AttemptRow) {
    assert!(harness.store().note_attempt(held, attempt).await.unwrap(), "the lane is held");
}

/// Another owner, which was not heard of before, takes partition 0. Attempts come sorted.
async fn taken<H: Harness>(harness: &H, owner: &Owner) -> LaneRow {
    let mut row = harness.store().take(&lane(0), owner).await.unwrap().unwrap();
    row.attempts.sort_by(|a, b| (a.offset, &a.scope).cmp(&(b.offset, &b.scope)));
    row
}

/// A start of this process, under its name.
async fn next<H: Harness>(harness: &H) -> LaneRow {
    taken(harness, &owner("someone")).await
}

pub async fn what_is_noted_of_an_attempt_is_there_for_the_next_owner<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let whole = AttemptRow { failures: 0, deaths: 3, ..attempt("", 4) };
    for it in [&attempt("bill", 7), &whole, &attempt("audit", 7), &attempt("", 7)] {
        note(harness, &held, it).await;
    }
    let expected = [whole, attempt("", 7), attempt("audit", 7), attempt("bill", 7)];
    assert_eq!(next(harness).await.attempts, expected);
}

pub async fn what_was_noted_of_the_same_attempt_is_replaced<H: Harness>(harness: &H) {
    let held = held(harness).await;
    note(harness, &held, &AttemptRow { open: true, deaths: 2, ..attempt(SCOPE, 7) }).await;
    let later = AttemptRow {
        failures: 9,
        first_failed_at: moment() + Duration::from_millis(5),
        ..attempt(SCOPE, 7)
    };
    note(harness, &held, &later).await;
    assert_eq!(next(harness).await.attempts, [later]);
}

pub async fn attempts_of_other_lanes_are_not_mixed_up<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let zero = take(harness, 0).await.held();
    let one = take(harness, 1).await.held();
    note(harness, &zero, &attempt(SCOPE, 7)).await;
    note(harness, &one, &attempt(SCOPE, 8)).await;
    assert_eq!(take(harness, 0).await.attempts, [attempt(SCOPE, 7)]);
    assert_eq!(take(harness, 1).await.attempts, [attempt(SCOPE, 8)]);
}

pub async fn a_former_owner_notes_no_attempt<H: Harness>(harness: &H) {
    let former = held(harness).await;
    note(harness, &former, &attempt(SCOPE, 7)).await;
    next(harness).await;
    let later = AttemptRow { failures: 9, ..attempt(SCOPE, 7) };
    for it in [&later, &attempt(SCOPE, 8)] {
        assert!(!harness.store().note_attempt(&former, it).await.unwrap());
    }
    assert_eq!(next(harness).await.attempts, [attempt(SCOPE, 7)]);
    let gone = Held { number: 1_000_000, ..former };
    assert!(!harness.store().note_attempt(&gone, &later).await.unwrap());
}

async fn forget<H: Harness>(harness: &H, held: &Held, offsets: &[i64], calm: bool) -> Held {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    harness.store().forget_attempts(&mut tx, held, offsets, calm).await.unwrap();
    finish(harness, tx, &writer, held.position.offset + 1).await;
    row(harness, held).await.held()
}

pub async fn attempts_at_these_offsets_are_forgotten_with_the_batch<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let all =
        [attempt("", 6), attempt("", 7), attempt("audit", 7), attempt("bill", 7), attempt("", 8)];
    for it in &all {
        note(harness, &held, it).await;
    }
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    harness.store().forget_attempts(&mut tx, &held, &[6, 7, 8], false).await.unwrap();
    harness.store().rollback(tx).await;

    let held = forget(harness, &held, &[], false).await;
    let held = forget(harness, &held, &[7, 1000], false).await;
    assert_eq!(next(harness).await.attempts, [attempt("", 6), attempt("", 8)]);

    let mut tx = begin(harness, &Writer::Lane(&held)).await;
    harness.store().forget_attempts(&mut tx, &held, &[6, 8], true).await.unwrap();
    assert_fenced(harness, tx, &held).await;
    assert_eq!(next(harness).await.attempts.len(), 2);
}

pub async fn an_attempt_that_is_forgotten_can_be_noted_again<H: Harness>(harness: &H) {
    let held = held(harness).await;
    note(harness, &held, &open_attempt(7)).await;
    let held = forget(harness, &held, &[7], true).await;
    note(harness, &held, &attempt("", 7)).await;
    assert_eq!(next(harness).await.attempts, [attempt("", 7)]);
}

/// Deaths of the lane's owners, and for each attempt.
fn deaths(row: &LaneRow) -> (u32, Vec<u32>) {
    assert!(row.attempts.iter().all(|it| !it.open), "an attempt ends with its owner");
    (row.deaths, row.attempts.iter().map(|it| it.deaths).collect())
}

pub async fn an_owner_whose_successor_is_here_has_died<H: Harness>(harness: &H) {
    let held = held(harness).await;
    note(harness, &held, &open_attempt(7)).await;
    note(harness, &held, &attempt("", 8)).await;
    let row = next(harness).await;
    assert_eq!(deaths(&row), (1, vec![1, 0]));
    // The next one dies as well, but not in an attempt.
    let row = next(harness).await;
    assert_eq!(deaths(&row), (2, vec![1, 0]));
    note(harness, &row.held(), &AttemptRow { open: true, ..row.attempts[0].clone() }).await;
    assert_eq!(deaths(&next(harness).await), (3, vec![2, 0]));
}

pub async fn nobody_dies_when_a_lane_is_taken_for_the_first_time<H: Harness>(harness: &H) {
    open(harness, &[0]).await;
    assert_eq!(deaths(&next(harness).await), (0, vec![]));
}

pub async fn an_owner_that_left_cleanly_has_not_died<H: Harness>(harness: &H) {
    let held = held(harness).await;
    note(harness, &held, &open_attempt(7)).await;
    harness.store().release(&held).await.unwrap();
    assert_eq!(deaths(&next(harness).await), (0, vec![0]));
    // It is closed, so that a later death is not its own.
    assert_eq!(deaths(&next(harness).await), (1, vec![0]));
}

pub async fn an_owner_that_is_alive_elsewhere_has_not_died<H: Harness>(harness: &H) {
    let held = held(harness).await;
    note(harness, &held, &open_attempt(7)).await;
    let row = taken(harness, &owner("another")).await;
    assert_eq!(deaths(&row), (0, vec![0]));
    assert_eq!(deaths(&taken(harness, &owner("another")).await), (1, vec![0]));
}

pub async fn an_owner_that_takes_its_lane_again_has_not_died<H: Harness>(harness: &H) {
    open(harness, &[0]).await;
    let same = owner("someone");
    let held = taken(harness, &same).await.held();
    note(harness, &held, &open_attempt(7)).await;
    assert_eq!(deaths(&taken(harness, &same).await), (0, vec![0]));
}

pub async fn an_owner_that_fell_silent_has_died<H: Harness>(harness: &H) {
    let held = held(harness).await;
    note(harness, &held, &open_attempt(7)).await;
    let since = Instant::now();
    // Until every database's clock shows another time.
    while since.elapsed() < Duration::from_millis(20) {
        row(harness, &held).await;
    }
    let late = Owner { dead_after: Duration::from_millis(5), ..owner("another") };
    assert_eq!(deaths(&taken(harness, &late).await), (1, vec![1]));
}

pub async fn progress_is_what_makes_a_lane_calm<H: Harness>(harness: &H) {
    held(harness).await;
    next(harness).await;
    let held = next(harness).await.held();
    let held = forget(harness, &held, &[], false).await;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    harness.store().forget_attempts(&mut tx, &held, &[], true).await.unwrap();
    harness.store().rollback(tx).await;
    let row = next(harness).await;
    assert_eq!(row.deaths, 3);
    let held = forget(harness, &row.held(), &[], true).await;
    harness.store().release(&held).await.unwrap();
    assert_eq!(next(harness).await.deaths, 0);
}
