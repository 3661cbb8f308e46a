//! Words in which cases of failures are written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::Harness;
use super::support::*;
use crate::dead_letter::{
    Cause, DeadLetter, FailureClass, LetterAction, LetterFilter, LetterState, NewLetter,
};
use crate::event::Event;
use crate::lane::{AttemptRow, Held};
use crate::store::{Edit, Sealed, Settlement, Store as _, Writer};

/// No offsets.
pub(super) const NONE: [i64; 0] = [];

/// A moment that every database can keep.
pub(super) fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
}

pub(super) fn cause() -> Cause {
    Cause {
        class: FailureClass::Handler,
        permanent: false,
        error: "the card was declined".to_owned(),
        attempts: 3,
        first_failed_at: moment(),
    }
}

/// Two failed attempts, and none begun.
pub(super) fn attempt(scope: &str, offset: i64) -> AttemptRow {
    AttemptRow {
        scope: scope.to_owned(),
        offset,
        failures: 2,
        first_failed_at: moment(),
        open: false,
        deaths: 0,
    }
}

/// The event at this offset, with this message key.
pub(super) fn event(offset: i64, message_key: &'static str) -> Event {
    let mut event = Event::new(TOPIC.into(), 0, offset, format!("payload {offset}"));
    event.message_key = Some(message_key.into());
    event
}

pub(super) fn dead<'a>(event: &'a Event, cause: &'a Cause) -> NewLetter<'a> {
    NewLetter { state: LetterState::Dead, cause: Some(cause), ..waiting(event) }
}

pub(super) fn parked<'a>(event: &'a Event, cause: &'a Cause) -> NewLetter<'a> {
    NewLetter { state: LetterState::Parked, ..dead(event, cause) }
}

pub(super) fn waiting(event: &Event) -> NewLetter<'_> {
    let (digest, state) = (event.digest(), LetterState::Waiting);
    NewLetter { scope: SCOPE, key: None, event, digest, state, cause: None }
}

/// Gives these up in a batch of their own, and returns the lane as it is after that.
pub(super) async fn give_up<H: Harness>(
    harness: &H,
    held: &Held,
    letters: &[NewLetter<'_>],
) -> Held {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    harness.store().give_up(&mut tx, held, letters).await.unwrap();
    let offset = held.position.offset + 1;
    finish(harness, tx, &writer, offset).await;
    row(harness, held).await.held()
}

/// Opens partition 0, takes it and gives up these events, parked: each with the message key `k`
/// and its number.
pub(super) async fn with_parked<H: Harness>(harness: &H, events: &[Event]) -> Held {
    let held = held(harness).await;
    let cause = cause();
    let letters: Vec<_> = events.iter().map(|event| parked(event, &cause)).collect();
    give_up(harness, &held, &letters).await
}

pub(super) async fn letters<H: Harness>(harness: &H) -> Vec<DeadLetter> {
    harness.store().letters(&LetterFilter::new()).await.unwrap()
}

/// The only letter there is.
pub(super) async fn only<H: Harness>(harness: &H) -> DeadLetter {
    let mut letters = letters(harness).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters.remove(0)
}

/// Settles the letter of the event at this offset.
pub(super) async fn settle_at<H: Harness>(harness: &H, offset: i64, action: LetterAction) {
    let id = at(harness, offset).await.id;
    settle(harness, id, &settlement(action)).await;
}

/// The letter of the event at this offset.
pub(super) async fn at<H: Harness>(harness: &H, offset: i64) -> DeadLetter {
    let mut letters = letters(harness).await;
    letters.retain(|letter| letter.event.offset == offset);
    assert_eq!(letters.len(), 1, "of offset {offset}: {letters:?}");
    letters.remove(0)
}

/// State and offset of all letters, in order.
pub(super) async fn states<H: Harness>(harness: &H) -> Vec<(i64, LetterState)> {
    letters(harness).await.iter().map(|it| (it.event.offset, it.state)).collect()
}

pub(super) fn offsets(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.event.offset).collect()
}

pub(super) fn ids(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.id).collect()
}

pub(super) fn settlement(action: LetterAction) -> Settlement<'static> {
    Settlement { action, by: "ann", note: None, edit: None }
}

/// Locks a letter and settles it, in a transaction of its own.
pub(super) async fn settle<H: Harness>(harness: &H, id: i64, settlement: &Settlement<'_>) {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let letter = harness.store().lock_letter(&mut tx, id).await.unwrap();
    assert!(letter.is_some_and(|letter| letter.id == id));
    harness.store().settle_letter(&mut tx, id, settlement).await.unwrap();
    finish(harness, tx, &writer, 0).await;
}

/// Edits a letter, in a transaction of its own.
pub(super) async fn edit<H: Harness>(harness: &H, id: i64, edit: Edit<'_>) {
    let edit = Settlement { edit: Some(edit), ..settlement(LetterAction::Edited) };
    settle(harness, id, &edit).await;
}

/// Asks in a batch of its own how many wait behind this message key.
pub(super) async fn behind<H: Harness>(harness: &H, held: &Held, key: &str) -> Option<u32> {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let keys = [(SCOPE, key.as_bytes())];
    let answers = harness.store().parked(&mut tx, held, &keys).await.unwrap();
    assert_eq!(answers.len(), 1);
    harness.store().rollback(tx).await;
    answers[0]
}

/// The offsets of what was released, in order.
pub(super) async fn released<H: Harness>(harness: &H, held: &Held) -> Vec<i64> {
    offsets(&harness.store().released(held, 0, 100).await.unwrap())
}

/// Ends this transaction of a lane, in which a former owner writes: it is not sealed.
pub(super) async fn assert_fenced<H: Harness>(harness: &H, mut tx: TxOf<H>, former: &Held) {
    let sealed = harness.store().seal(&mut tx, &Writer::Lane(former), Some(&to(99))).await;
    assert_eq!(sealed.unwrap(), Sealed::No);
    harness.store().rollback(tx).await;
}

/// Commits the first transaction, some round trips later, while the second is asked: it is not
/// answered before the first one ended.
pub(super) async fn while_open<H: Harness, T>(
    harness: &H,
    mut tx: TxOf<H>,
    writer: &Writer<'_>,
    second: impl Future<Output = T>,
) -> T {
    let ended = AtomicBool::new(false);
    let second = async {
        let answer = second.await;
        assert!(ended.load(Ordering::SeqCst), "it was answered while the first was open");
        answer
    };
    let first = async {
        for _ in 0..5 {
            write::<H>(&mut tx, "first").await;
            tokio::task::yield_now().await;
        }
        let offset = match writer {
            Writer::Lane(held) => held.position.offset + 1,
            Writer::Direct { .. } => 0,
        };
        let seal = to(offset);
        let seal = matches!(writer, Writer::Lane(_)).then_some(&seal);
        assert_eq!(harness.store().seal(&mut tx, writer, seal).await.unwrap(), Sealed::Yes);
        ended.store(true, Ordering::SeqCst);
        harness.store().commit(tx).await.unwrap();
    };
    tokio::join!(second, first).0
}

/// One parked event with message key `k` at offset 1, and those at offsets 2 and 3 behind it.
pub(super) async fn two_behind<H: Harness>(harness: &H) -> Held {
    let held = with_parked(harness, &[event(1, "k")]).await;
    give_up(harness, &held, &[waiting(&event(2, "k")), waiting(&event(3, "k"))]).await
}

/// What the next owner is told is parked.
pub(super) async fn told<H: Harness>(harness: &H) -> Vec<(String, Vec<u8>)> {
    let mut parked = take(harness, 0).await.parked;
    parked.sort();
    parked
}
