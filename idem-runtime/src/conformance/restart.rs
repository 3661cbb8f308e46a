//! Cases: what a process that starts later finds.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{LetterAction, LetterFilter};
use crate::lane::{AttemptRow, Held, Slice};
use crate::marker::MarkerState;
use crate::store::{Claim, Store as _, Writer};

pub async fn a_process_that_starts_later_finds_everything<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(1, "k"), event(2, "j")]).await;
    let held = give_up(harness, &held, &[waiting(&event(3, "k"))]).await;
    settle(harness, at(harness, 1).await.id, &settlement(LetterAction::Replayed)).await;
    let attempt = AttemptRow {
        scope: SCOPE.to_owned(),
        offset: 9,
        failures: 1,
        first_failed_at: moment(),
        open: true,
        deaths: 0,
    };
    assert!(harness.store().note_attempt(&held, &attempt).await.unwrap());
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let dead = key("dead");
    let claim = Claim { state: MarkerState::Dead, offset: Some(2), ..plain(SCOPE, &dead) };
    harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
    finish(harness, tx, &writer, 8).await;
    let held = row(harness, &held).await.held();
    assert_eq!(harness.store().cut(&held, 2).await.unwrap(), Some(vec![0, 0]));
    let slice = Held { slice: Some(Slice { index: 1, of: 2 }), revision: 0, ..held.clone() };
    batch(harness, &slice, "e1", 12).await;

    let later = harness.reopened().await;
    let mut row = later.take(&lane(0), &owner("someone")).await.unwrap().unwrap();
    row.parked.sort();
    let keys = ["j", "k"].map(|key| (SCOPE.to_owned(), key.as_bytes().to_vec()));
    assert_eq!(row.parked, keys);
    assert_eq!(row.attempts, [AttemptRow { open: false, deaths: 1, ..attempt }]);
    assert_eq!((row.deaths, row.position.offset), (1, 8));
    assert_eq!(later.cut(&row.held(), 2).await.unwrap(), Some(vec![0, 1]));
    assert_eq!(later.letters(&LetterFilter::new()).await.unwrap().len(), 3);
    let released = later.released(&row.held(), 0, 100).await.unwrap();
    assert_eq!(offsets(&released), [3]);
    assert_eq!(later.history(at(harness, 1).await.id).await.unwrap().len(), 1);
    assert_eq!(offsets(&later.unforwarded(&[row.number], 100).await.unwrap()), [2]);
    let marker = later.marker(SCOPE, &dead).await.unwrap().unwrap();
    assert_eq!(marker.state, MarkerState::Dead);
}
