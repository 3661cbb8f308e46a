//! Dead letters, parked keys and slices, as far as the suite of all stores cannot see them.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::time::SystemTime;

use common::{Fixture, begin, held};
use idem_runtime::lane::{Held, Position, Slice};
use idem_runtime::store::{Claim, Claimed, Seal, Sealed, Settlement, Writer};
use idem_runtime::{Cause, Event, FailureClass, Key, LetterAction, LetterState, NewLetter, Store};
use idem_sqlite::Sqlite;

fn event(offset: i64) -> Event {
    let mut event = Event::new("orders".into(), 0, offset, "{}");
    event.message_key = Some("ann".into());
    event
}

fn cause() -> Cause {
    Cause {
        class: FailureClass::Handler,
        permanent: false,
        error: "no such customer".to_owned(),
        attempts: 3,
        first_failed_at: SystemTime::UNIX_EPOCH,
    }
}

/// Writes these in a transaction of their own, which does not move the lane.
async fn given_up(store: &Sqlite, held: &Held, events: &[(&Event, LetterState)]) {
    let writer = common::direct();
    let mut tx = begin(store, &writer).await.unwrap();
    let cause = cause();
    let letter = |&(event, state): &(_, LetterState)| NewLetter {
        scope: "bill",
        key: None,
        event,
        digest: event.digest(),
        state,
        cause: (state != LetterState::Waiting).then_some(&cause),
    };
    let letters: Vec<_> = events.iter().map(letter).collect();
    store.give_up(&mut tx, held, &letters).await.unwrap();
    assert_eq!(store.seal(&mut tx, &writer, None).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
}

#[tokio::test]
async fn two_stores_that_give_up_the_same_event_write_one_letter() {
    let (fixture, store) = Fixture::with_store().await;
    let other = fixture.store().await;
    let held = held(&store).await;
    let (first, second) = (event(1), event(2));
    let letters = [(&first, LetterState::Parked), (&second, LetterState::Waiting)];
    tokio::join!(given_up(&store, &held, &letters), given_up(&other, &held, &letters));
    assert_eq!(fixture.number("select count(*) from idem_dead_letters").await, 2);
    assert_eq!(fixture.number("select waiting from idem_parked_keys").await, 1);
}

#[tokio::test]
async fn who_settles_a_letter_that_is_not_there_is_told() {
    let (_fixture, store) = Fixture::with_store().await;
    let mut tx = begin(&store, &common::direct()).await.unwrap();
    let action = LetterAction::Dropped;
    let settlement = Settlement { action, by: "ops", note: None, edit: None };
    let error = store.settle_letter(&mut tx, 7, &settlement).await.unwrap_err();
    assert!(error.to_string().contains("numbered 7"), "{error}");
    store.rollback(tx).await;
}

#[tokio::test]
async fn what_waits_behind_nothing_is_worked_next() {
    let (_fixture, store) = Fixture::with_store().await;
    let held = held(&store).await;
    let only = event(1);
    given_up(&store, &held, &[(&only, LetterState::Waiting)]).await;
    let released = store.released(&held, 0, 10).await.unwrap();
    assert_eq!(released.iter().map(|it| it.event.offset).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_letter_that_waits_without_a_message_key_is_refused() {
    let (fixture, store) = Fixture::with_store().await;
    let held = held(&store).await;
    let mut event = event(1);
    event.message_key = None;
    let mut tx = begin(&store, &Writer::Lane(&held)).await.unwrap();
    let cause = cause();
    let letter = NewLetter {
        scope: "bill",
        key: None,
        event: &event,
        digest: event.digest(),
        state: LetterState::Parked,
        cause: Some(&cause),
    };
    store.give_up(&mut tx, &held, &[letter]).await.unwrap_err();
    store.rollback(tx).await;
    assert_eq!(fixture.number("select count(*) from idem_dead_letters").await, 0);
}

#[tokio::test]
async fn slices_of_one_lane_take_turns() {
    let (_fixture, store) = Fixture::with_store().await;
    let held = held(&store).await;
    assert_eq!(store.cut(&held, 3).await.unwrap(), Some(vec![0; 3]));
    let work = async |index| {
        let slice = Some(Slice { index, of: 3 });
        for revision in 0..20 {
            let held = Held { slice, revision, ..held.clone() };
            let writer = Writer::Lane(&held);
            let mut tx = begin(&store, &writer).await.unwrap();
            let key = Key::new(format!("{index}-{revision}")).unwrap();
            let claims = [Claim::new("bill", &key)];
            let claimed = store.claim(&mut tx, &writer, &claims).await.unwrap();
            assert_eq!(claimed, Claimed::Keys(vec![true]));
            let seal = Seal { position: Position::at(revision + 1), offset_scopes: &[] };
            let sealed = store.seal(&mut tx, &writer, Some(&seal)).await.unwrap();
            assert_eq!(sealed, Sealed::Yes);
            store.commit(tx).await.unwrap();
        }
    };
    tokio::join!(work(0), work(1), work(2));
    for index in 0..3 {
        let held = Held { slice: Some(Slice { index, of: 3 }), ..held.clone() };
        let row = store.read(&held).await.unwrap().unwrap();
        assert_eq!((row.position, row.revision), (Position::at(20), 20));
    }
    assert_eq!(store.read(&held).await.unwrap().unwrap().revision, held.revision);
}
