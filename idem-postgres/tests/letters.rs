//! Dead letters and parked keys, as far as they are PostgreSQL's own.

mod common;

use common::letters::{cause, event, give_up, letter, letters, settle};
use common::{Fixture, finish, lend, on_store};
use idem_postgres::Postgres;
use idem_runtime::store::{Settlement, Terms, Writer};
use idem_runtime::{ErrorKind, LetterAction, LetterFilter, LetterState, Store};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// Longer than what an entry of an index can be, and it does not compress.
fn long_key() -> Vec<u8> {
    std::iter::repeat_with(|| *Uuid::new_v4().as_bytes()).take(1000).flatten().collect()
}

#[tokio::test]
async fn a_message_key_may_be_longer_than_what_fits_into_an_index() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        let key = long_key();
        give_up(&store, &mut held, &event(1, &key), LetterState::Parked).await.unwrap();
        give_up(&store, &mut held, &event(2, &key), LetterState::Waiting).await.unwrap();
        let row = store.read(&held).await.unwrap().unwrap();
        assert_eq!(row.parked, [("bill".to_owned(), key)]);
        settle(&store, letters(&store).await[0].id, LetterAction::Replayed).await.unwrap();
        let next = store.released(&held, 0, 10).await.unwrap();
        assert_eq!(next.iter().map(|it| it.event.offset).collect::<Vec<_>>(), [2]);
    })
    .await;
}

#[tokio::test]
async fn what_no_text_of_the_database_can_have_does_not_stop_a_lane() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        let mut event = event(1, b"k");
        event.headers = [("a\0b", Some("1")), ("c", None)].into_iter().collect();
        let cause = cause("no\0such card");
        let mut tx = store.begin(&Writer::Lane(&held), &Terms::default()).await.unwrap();
        let letter = letter(&event, LetterState::Dead, Some(&cause));
        store.give_up(&mut tx, &held, &[letter]).await.unwrap();
        finish(&store, tx, &mut held).await.unwrap();
        let found = letters(&store).await.remove(0);
        assert_eq!(found.cause.unwrap().error, "no\\0such card");
        let names: Vec<&str> = found.event.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a\\0b", "c"]);
    })
    .await;
}

#[tokio::test]
async fn large_events_are_given_up_in_several_statements() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        let events: Vec<_> = (0..5)
            .map(|offset| {
                let mut event = event(offset, b"k");
                event.payload = Some(vec![offset as u8; 7 << 20].into());
                event
            })
            .collect();
        let cause = cause("declined");
        let states = [LetterState::Parked, LetterState::Waiting];
        let letters: Vec<_> = events
            .iter()
            .zip(states.into_iter().chain(std::iter::repeat(LetterState::Waiting)))
            .map(|(event, state)| letter(event, state, Some(&cause)))
            .collect();
        let mut tx = store.begin(&Writer::Lane(&held), &Terms::default()).await.unwrap();
        store.give_up(&mut tx, &held, &letters).await.unwrap();
        finish(&store, tx, &mut held).await.unwrap();
        let whole = "select count(*) from {schema}.dead_letters
                     where octet_length(payload) = 7 * 1024 * 1024
                       and get_byte(payload, 9) = source_offset";
        assert_eq!(fixture.number(whole).await, 5);
        let waiting = "select waiting::bigint from {schema}.parked_keys";
        assert_eq!(fixture.number(waiting).await, 4);
    })
    .await;
}

#[tokio::test]
async fn a_parked_letter_without_a_message_key_is_refused_before_it_is_written() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        let mut event = event(1, b"");
        event.message_key = None;
        for state in [LetterState::Parked, LetterState::Waiting] {
            let error = give_up(&store, &mut held, &event, state).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store);
            assert!(error.to_string().contains("without a message key"), "{error}");
        }
        give_up(&store, &mut held, &event, LetterState::Dead).await.unwrap();
    })
    .await;
}

/// A rewind brings an event back whose letter is settled: nobody could release its key again.
#[tokio::test]
async fn an_event_whose_letter_is_settled_does_not_park_its_key_again() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        let event = event(1, b"k");
        give_up(&store, &mut held, &event, LetterState::Parked).await.unwrap();
        settle(&store, letters(&store).await[0].id, LetterAction::Dropped).await.unwrap();
        give_up(&store, &mut held, &event, LetterState::Parked).await.unwrap();
        assert_eq!(letters(&store).await[0].state, LetterState::Dropped);
        assert!(store.read(&held).await.unwrap().unwrap().parked.is_empty());
    })
    .await;
}

/// Rows that somebody deleted by hand.
#[tokio::test]
async fn an_event_that_waits_behind_nothing_is_worked_next() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        give_up(&store, &mut held, &event(1, b"k"), LetterState::Parked).await.unwrap();
        fixture.run("delete from {schema}.parked_keys").await;
        give_up(&store, &mut held, &event(2, b"k"), LetterState::Waiting).await.unwrap();
        let next = store.released(&held, 0, 10).await.unwrap();
        assert_eq!(next.len(), 1);
        let mut tx = store.begin(&Writer::Lane(&held), &Terms::default()).await.unwrap();
        store.unpark(&mut tx, &held, &[next[0].id]).await.unwrap();
        finish(&store, tx, &mut held).await.unwrap();
        assert_eq!(fixture.number("select count(*) from {schema}.parked_keys").await, 0);
    })
    .await;
}

#[tokio::test]
async fn what_a_later_release_has_written_says_so() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        give_up(&store, &mut held, &event(1, b"k"), LetterState::Dead).await.unwrap();
        fixture.run("update {schema}.dead_letters set failure_class = 'sunspots'").await;
        let error = store.letters(&LetterFilter::new()).await.unwrap_err();
        assert!(error.report().contains("`sunspots`"), "{}", error.report());
    })
    .await;
}

#[tokio::test]
async fn a_settlement_of_a_letter_that_is_not_there_is_an_error() {
    on_store(async |_fixture: Fixture, store: Postgres| {
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        assert!(store.lock_letter(&mut tx, 7).await.unwrap().is_none());
        let settlement =
            Settlement { action: LetterAction::Dropped, by: "ann", note: None, edit: None };
        let error = store.settle_letter(&mut tx, 7, &settlement).await.unwrap_err();
        assert!(error.to_string().contains("no letter 7"), "{error}");
        store.rollback(tx).await;
    })
    .await;
}

/// The replay of an event in offset mode has no claim, and its handler is lent the transaction.
#[tokio::test]
async fn a_replay_that_claims_nothing_is_guarded_all_the_same() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        give_up(&store, &mut held, &event(1, b"k"), LetterState::Parked).await.unwrap();
        let id = letters(&store).await[0].id;
        let effect = fixture.sql("insert into {schema}.effects values (1)");
        let replay = async |ending: &str| {
            let writer = Writer::Direct { attempt: Uuid::new_v4() };
            let mut tx = store.begin(&writer, &Terms::default()).await?;
            store.lock_letter(&mut tx, id).await?.expect("the letter is there");
            let (action, by) = (LetterAction::Replayed, "ann");
            let settlement = Settlement { action, by, note: None, edit: None };
            store.settle_letter(&mut tx, id, &settlement).await?;
            let handler = format!("{effect}; {ending}; {effect}");
            let _ = sqlx::raw_sql(AssertSqlSafe(handler)).execute(lend(&mut tx)).await;
            store.seal(&mut tx, &writer, None).await?;
            store.commit(tx).await
        };
        let endings = [
            "commit",
            "rollback",
            "commit and chain",
            "rollback and chain",
            "rollback; begin read write",
        ];
        for ending in endings {
            let error = replay(ending).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HandlerBroke, "{ending}: {error:?}");
            let open = "select count(*) from {schema}.dead_letters where state = 'parked'";
            assert_eq!((fixture.number(open).await, fixture.effects().await), (1, 0), "{ending}");
        }
        replay("select 1").await.unwrap();
        assert_eq!(letters(&store).await[0].state, LetterState::Replayed);
        assert_eq!(fixture.effects().await, 2);
    })
    .await;
}
