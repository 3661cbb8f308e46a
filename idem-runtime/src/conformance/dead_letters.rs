//! Cases: what is kept of an event that was given up on.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{Cause, DeadLetter, FailureClass, LetterState, MAX_ERROR_LEN, NewLetter};
use crate::event::{Event, Headers};
use crate::lane::Position;
use crate::store::{NewLog, Reposition, Store as _, Writer};

type Whole = Vec<(String, Option<Vec<u8>>)>;

fn headers(event: &Event) -> Whole {
    event.headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect()
}

fn assert_same_event(found: &Event, given: &Event) {
    assert_eq!(
        (&found.topic, found.partition, found.offset, found.leader_epoch, found.timestamp),
        (&given.topic, given.partition, given.offset, given.leader_epoch, given.timestamp)
    );
    assert_eq!(found.message_key, given.message_key);
    assert_eq!(found.payload, given.payload);
    assert_eq!(headers(found), headers(given));
}

/// Gives an event up for good and reads its letter.
async fn written<H: Harness>(harness: &H, event: &Event, cause: &Cause) -> DeadLetter {
    let held = held(harness).await;
    give_up(harness, &held, &[dead(event, cause)]).await;
    only(harness).await
}

pub async fn a_dead_letter_comes_back_as_it_was<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let mut event = event(17, "");
    event.message_key = Some(Bytes::from_static(b"k\0\xff"));
    event.payload = Some(Bytes::from_static(b"\0\xfe{\"a\": 1}"));
    event.leader_epoch = Some(4);
    event.timestamp = Some(1_700_000_000_456);
    event.headers = [
        ("trace", Some(&b"\0\xff"[..])),
        ("none", None),
        ("trace", Some(b"again")),
        ("", Some(b"")),
        ("{\"quoted\", null}", Some(b"NULL")),
        ("none", None),
    ]
    .into_iter()
    .collect();
    let cause = Cause {
        class: FailureClass::Timeout,
        permanent: true,
        error: "'no' \"customer\" {1,2}: \\ ü €\n{}".to_owned(),
        attempts: 10,
        first_failed_at: moment(),
    };
    let key = key("e 'ü\\{}");
    let new = NewLetter { key: Some(&key), ..dead(&event, &cause) };
    give_up(harness, &held, &[new]).await;

    let letter = only(harness).await;
    assert_same_event(&letter.event, &event);
    assert_eq!((letter.scope.as_str(), letter.group.as_str()), (SCOPE, GROUP));
    assert_eq!((letter.key.as_ref(), letter.state), (Some(&key), LetterState::Dead));
    assert!(!letter.edited);
    assert_eq!(letter.cause.as_ref(), Some(&cause));
    assert_eq!(letter.fingerprint, cause.fingerprint(SCOPE));
    let now = SystemTime::now();
    assert!(letter.written_at > now - AN_HOUR && letter.written_at < now + AN_HOUR);
}

pub async fn a_long_key_comes_back_as_it_is_written<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (event, cause) = (event(1, "e1"), cause());
    let key = key(&"x".repeat(300));
    let new = NewLetter { key: Some(&key), ..dead(&event, &cause) };
    give_up(harness, &held, &[new]).await;
    assert_eq!(only(harness).await.key, Some(key));
}

pub async fn an_event_with_nothing_in_it_comes_back_with_nothing<H: Harness>(harness: &H) {
    let mut event = Event::new(TOPIC.into(), 0, 3, "");
    event.payload = None;
    let letter = written(harness, &event, &cause()).await;
    assert_same_event(&letter.event, &event);
    assert!(letter.event.headers.is_empty());
    assert_eq!(letter.key, None);
}

pub async fn what_is_empty_is_not_what_is_missing<H: Harness>(harness: &H) {
    let mut event = Event::new(TOPIC.into(), 0, 3, "");
    event.message_key = Some(Bytes::new());
    event.timestamp = Some(0);
    event.leader_epoch = Some(0);
    event.headers = [("a", Some(""))].into_iter().collect::<Headers>();
    let letter = written(harness, &event, &cause()).await;
    assert_same_event(&letter.event, &event);
}

pub async fn every_class_and_a_long_error_come_back<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let cause = |class| Cause { class, error: "ü".repeat(MAX_ERROR_LEN / 2), ..cause() };
    let causes: Vec<_> = FailureClass::ALL.map(cause).into();
    let events: Vec<_> = (0..).take(causes.len()).map(|it| event(it, "k")).collect();
    let new: Vec<_> = events.iter().zip(&causes).map(|(event, cause)| dead(event, cause)).collect();
    give_up(harness, &held, &new).await;
    let found: Vec<_> = letters(harness).await.into_iter().map(|it| it.cause.unwrap()).collect();
    assert_eq!(found, causes);
}

pub async fn dead_letters_are_kept_with_their_batch<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (event, cause) = (event(0, "k"), cause());
    let writer = Writer::Lane(&held);
    let new = [parked(&event, &cause)];
    let mut tx = begin(harness, &writer).await;
    harness.store().give_up(&mut tx, &held, &new).await.unwrap();
    assert!(letters(harness).await.is_empty());
    harness.store().rollback(tx).await;
    let mut tx = begin(harness, &writer).await;
    harness.store().give_up(&mut tx, &held, &new).await.unwrap();
    drop(tx);
    assert!(letters(harness).await.is_empty());
    assert_eq!(behind(harness, &held, "k").await, None);
    give_up(harness, &held, &new).await;
    assert_eq!(states(harness).await, [(0, LetterState::Parked)]);
}

pub async fn a_former_owner_gives_nothing_up<H: Harness>(harness: &H) {
    let former = held(harness).await;
    take(harness, 0).await;
    let (event, cause) = (event(0, "k"), cause());
    let mut tx = begin(harness, &Writer::Lane(&former)).await;
    harness.store().give_up(&mut tx, &former, &[parked(&event, &cause)]).await.unwrap();
    assert_fenced(harness, tx, &former).await;
    assert!(letters(harness).await.is_empty());
}

pub async fn giving_nothing_up_writes_nothing<H: Harness>(harness: &H) {
    let held = held(harness).await;
    give_up(harness, &held, &[]).await;
    assert!(letters(harness).await.is_empty());
}

pub async fn many_are_given_up_in_their_order<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let events: Vec<_> = (0..700).map(|offset| event(offset, "k")).collect();
    let cause = cause();
    let new: Vec<_> = events.iter().map(|event| dead(event, &cause)).collect();
    give_up(harness, &held, &new).await;
    let letters = letters(harness).await;
    assert!(letters.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(offsets(&letters), (0..700).collect::<Vec<_>>());
}

pub async fn an_event_that_is_given_up_twice_has_one_letter<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (event, first) = (event(3, "k"), cause());
    let held = give_up(harness, &held, &[dead(&event, &first)]).await;
    let second = Cause { error: "another".to_owned(), attempts: 9, ..cause() };
    let new = [NewLetter { state: LetterState::Waiting, cause: None, ..dead(&event, &first) }];
    let held = give_up(harness, &held, &new).await;
    let held = give_up(harness, &held, &[dead(&event, &second)]).await;
    give_up(harness, &held, &[parked(&event, &second)]).await;
    let letter = only(harness).await;
    assert_eq!((letter.state, letter.cause), (LetterState::Dead, Some(first)));
    assert_eq!(behind(harness, &row(harness, &held).await.held(), "k").await, None);
}

pub async fn a_letter_that_is_there_does_not_keep_others_out<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let events = [event(1, "k"), event(2, "k"), event(3, "k")];
    let cause = cause();
    let held = give_up(harness, &held, &[dead(&events[1], &cause)]).await;
    let new = events.each_ref().map(|event| dead(event, &cause));
    give_up(harness, &held, &new).await;
    let mut found = offsets(&letters(harness).await);
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
}

pub async fn another_event_at_the_same_place_has_a_letter_of_its_own<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (first, cause) = (event(3, "k"), cause());
    let mut payload = first.clone();
    payload.payload = Some("other".into());
    let mut tombstone = first.clone();
    tombstone.payload = None;
    let mut key = first.clone();
    key.message_key = None;
    let offset = event(4, "k");
    let events = [&first, &payload, &tombstone, &key, &offset];
    let held = give_up(harness, &held, &events.map(|event| dead(event, &cause))).await;
    let other = NewLetter { scope: "other", ..dead(&first, &cause) };
    let held = give_up(harness, &held, &[other]).await;
    assert_eq!(letters(harness).await.len(), 6);

    let identity = log("another log");
    let to = Reposition {
        position: Position::at(0),
        identity: &identity,
        new_log: Some(NewLog::Another),
        slices: &[],
    };
    assert!(harness.store().reposition(&held, &to).await.unwrap());
    let held = row(harness, &held).await.held();
    give_up(harness, &held, &[dead(&first, &cause)]).await;
    assert_eq!(letters(harness).await.len(), 7);
}

pub async fn the_log_of_a_letter_need_not_be_known<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let identity = crate::lane::LogIdentity::default();
    let to = Reposition {
        position: Position::at(0),
        identity: &identity,
        new_log: Some(NewLog::Another),
        slices: &[],
    };
    assert!(harness.store().reposition(&held, &to).await.unwrap());
    let held = row(harness, &held).await.held();
    let (event, cause) = (event(3, "k"), cause());
    let held = give_up(harness, &held, &[dead(&event, &cause)]).await;
    give_up(harness, &held, &[dead(&event, &cause)]).await;
    assert_eq!(only(harness).await.event.offset, 3);
}

pub async fn who_gives_the_same_event_up_at_once_waits_for_the_first<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let (event, cause) = (event(3, "k"), cause());
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    harness.store().give_up(&mut tx, &held, &[dead(&event, &cause)]).await.unwrap();
    let second = async {
        let mut tx = begin(harness, &writer).await;
        harness.store().give_up(&mut tx, &held, &[dead(&event, &cause)]).await.unwrap();
        tx
    };
    let second = while_open(harness, tx, &writer, second).await;
    assert_fenced(harness, second, &held).await;
    assert_eq!(states(harness).await, [(3, LetterState::Dead)]);
}

pub async fn a_letter_is_written_when_its_batch_was<H: Harness>(harness: &H) {
    let before = SystemTime::now();
    let letter = written(harness, &event(3, "k"), &cause()).await;
    // The clocks of database and test need not agree to the second.
    let apart = Duration::from_secs(600);
    assert!(letter.written_at + apart > before && letter.written_at < SystemTime::now() + apart);
}
