//! Dead letters and parked keys, as far as they are PostgreSQL's own.

mod common;

use common::letters::{cause, event, give_up, letter, letters, settle};
use common::{Fixture, claim, finish, key, lend, on_store, owner, seal_at};
use idem_postgres::Postgres;
use idem_runtime::lane::Held;
use idem_runtime::store::{Claim, Claimed, Sealed, Settlement, Terms, Writer};
use idem_runtime::{
    Error, ErrorKind, LetterAction, LetterFilter, LetterState, MarkerState, Result, Store,
};
use sqlx::{Connection as _, Executor as _};
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
        let next = store.released(&held, 10).await.unwrap();
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
        let next = store.released(&held, 10).await.unwrap();
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

/// One pass of a lane over this key: what arrives is claimed, and waits if the key is parked.
async fn arrive(store: &Postgres, held: &mut Held, offset: i64) -> Result<()> {
    let (event, marker) = (event(offset, b"k"), key(&format!("e{offset}")));
    let parked_key = [("bill", &b"k"[..])];
    let writer = Writer::Lane(held);
    let mut tx = store.begin(&writer, &Terms::default()).await?;
    let claim = Claim { offset: Some(offset), ..Claim::new("bill", &marker) };
    // In the one order and in the other.
    let parked = if offset % 2 == 0 {
        store.claim(&mut tx, &writer, &[claim]).await?;
        store.parked(&mut tx, held, &parked_key).await?
    } else {
        let parked = store.parked(&mut tx, held, &parked_key).await?;
        let state = if parked == [None] { MarkerState::Processed } else { MarkerState::Parked };
        store.claim(&mut tx, &writer, &[Claim { state, ..claim }]).await?;
        parked
    };
    if parked != [None] {
        store.give_up(&mut tx, held, &[letter(&event, LetterState::Waiting, None)]).await?;
    }
    finish(store, tx, held).await
}

/// What became of a parked event: replayed, as an operator does it.
async fn replay(store: &Postgres, id: i64) -> Result<()> {
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    let mut tx = store.begin(&writer, &Terms::default()).await?;
    let letter = store.lock_letter(&mut tx, id).await?.expect("the letter is there");
    let key = key(&format!("e{}", letter.event.offset));
    let claim = Claim { reclaim: true, ..Claim::new("bill", &key) };
    assert_eq!(store.claim(&mut tx, &writer, &[claim]).await?, Claimed::Keys(vec![true]));
    let effect = format!("insert into {}.effects values (1)", store.schema());
    lend(&mut tx).execute(sqlx::AssertSqlSafe(effect)).await.expect("an effect");
    let settlement =
        Settlement { action: LetterAction::Replayed, by: "ann", note: None, edit: None };
    store.settle_letter(&mut tx, id, &settlement).await?;
    assert_eq!(store.seal(&mut tx, &writer, None).await?, Sealed::Yes);
    store.commit(tx).await
}

/// What waits is dropped, one after the other, until nothing does.
async fn drop_waiting(store: &Postgres) -> Result<()> {
    let waiting = LetterFilter::new().state(LetterState::Waiting).limit(1);
    while let Some(letter) = store.letters(&waiting).await?.first() {
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut tx = store.begin(&writer, &Terms::default()).await?;
        // It may have been worked meanwhile.
        let locked = store.lock_letter(&mut tx, letter.id).await?;
        if locked.is_some_and(|letter| letter.state == LetterState::Waiting) {
            let settlement =
                Settlement { action: LetterAction::Dropped, by: "bob", note: None, edit: None };
            store.settle_letter(&mut tx, letter.id, &settlement).await?;
        }
        store.seal(&mut tx, &writer, None).await?;
        store.commit(tx).await?;
    }
    Ok(())
}

/// Works one released event of the lane, if there is one.
async fn work_released(store: &Postgres, held: &mut Held) -> Result<bool> {
    let Some(letter) = store.released(held, 1).await?.into_iter().next() else {
        return Ok(false);
    };
    let writer = Writer::Lane(held);
    let mut tx = store.begin(&writer, &Terms::default()).await?;
    let key = key(&format!("e{}", letter.event.offset));
    let claim =
        Claim { reclaim: true, offset: Some(letter.event.offset), ..Claim::new("bill", &key) };
    store.claim(&mut tx, &writer, &[claim]).await?;
    store.unpark(&mut tx, held, &[letter.id]).await?;
    finish(store, tx, held).await?;
    Ok(true)
}

/// A lane and two operators, each with a connection of its own, at the same key all the time: they
/// wait for each other and never in a circle, and nothing is left behind.
#[tokio::test]
async fn lanes_and_operators_do_not_deadlock_over_a_parked_key() {
    on_store(async |fixture: Fixture, store: Postgres| {
        const ROUNDS: i64 = 30;
        let operator = fixture.builder().max_connections(1).connect().await.unwrap();
        let other = fixture.builder().max_connections(1).connect().await.unwrap();
        let mut held = fixture.lane(&store, 0).await;
        for round in 0..ROUNDS {
            let first = round * 10;
            // The event that fails: its marker says so.
            let event = event(first, b"k");
            let (cause, key) = (cause("declined"), key(&format!("e{first}")));
            let writer = Writer::Lane(&held);
            let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
            let claim = Claim {
                state: MarkerState::Parked,
                offset: Some(first),
                ..Claim::new("bill", &key)
            };
            store.claim(&mut tx, &writer, &[claim]).await.unwrap();
            let parked = letter(&event, LetterState::Parked, Some(&cause));
            store.give_up(&mut tx, &held, &[parked]).await.unwrap();
            finish(&store, tx, &mut held).await.unwrap();
            let filter = LetterFilter::new().state(LetterState::Parked);
            let id = store.letters(&filter).await.unwrap()[0].id;

            let lane = async {
                for offset in first + 1..first + 6 {
                    arrive(&store, &mut held, offset).await?;
                    work_released(&store, &mut held).await?;
                }
                while work_released(&store, &mut held).await? {}
                Ok::<_, Error>(())
            };
            let (worked, replayed, dropped) =
                tokio::join!(lane, replay(&operator, id), drop_waiting(&other));
            worked.unwrap_or_else(|error| panic!("the lane: {error:?}"));
            replayed.unwrap_or_else(|error| panic!("the operator: {error:?}"));
            dropped.unwrap_or_else(|error| panic!("the other operator: {error:?}"));
            while work_released(&store, &mut held).await.unwrap() {}
        }
        assert_eq!(fixture.effects().await, ROUNDS);
        assert_eq!(fixture.number("select count(*) from {schema}.parked_keys").await, 0);
        let left = "select count(*) from {schema}.dead_letters
                    where state not in ('replayed', 'dropped')";
        assert_eq!(fixture.number(left).await, 0);
    })
    .await;
}

#[tokio::test]
async fn slices_and_their_takers_do_not_deadlock() {
    on_store(async |fixture: Fixture, store: Postgres| {
        use idem_runtime::lane::{LaneId, Slice};
        fixture.lane(&store, 0).await;
        let id = LaneId { group: "billing".into(), topic: "orders".into(), partition: 0 };
        let mut sealed = 0;
        for round in 0..15 {
            let held = store.take(&id, &owner("a test")).await.unwrap().unwrap().held();
            let revisions = store.cut(&held, 4).await.unwrap().unwrap();
            let mut slices = tokio::task::JoinSet::new();
            for (revision, index) in revisions.into_iter().zip(0..) {
                let slice = Some(Slice { index, of: 4 });
                let (store, slice) = (store.clone(), Held { revision, slice, ..held.clone() });
                slices.spawn(async move {
                    let (mut slice, mut sealed) = (slice, 0);
                    for n in 0..5 {
                        let writer = Writer::Lane(&slice);
                        let mut tx = store.begin(&writer, &Terms::default()).await?;
                        let key = format!("{round}-{index}-{n}");
                        match claim(&store, &mut tx, &writer, &[&key]).await? {
                            Claimed::Keys(_) => {}
                            _ => return Ok(sealed),
                        }
                        // Not calm, so that all want the lane's row before their seals.
                        store.forget_attempts(&mut tx, &slice, &[n], true).await?;
                        let to = seal_at(slice.position.offset + 1);
                        if store.seal(&mut tx, &writer, Some(&to)).await? == Sealed::No {
                            store.rollback(tx).await;
                            return Ok(sealed);
                        }
                        store.commit(tx).await?;
                        slice.revision += 1;
                        sealed += 1;
                    }
                    Ok::<_, Error>(sealed)
                });
            }
            // In the midst of them.
            store.take(&id, &owner("another")).await.unwrap().unwrap();
            for slice in slices.join_all().await {
                sealed += slice.unwrap();
            }
        }
        let moved = "select sum(revision)::bigint from {schema}.lane_slices";
        assert_eq!(fixture.number(moved).await, sealed);
        assert_eq!(fixture.markers().await, sealed);
    })
    .await;
}

#[tokio::test]
async fn a_statement_limit_ends_a_claim_that_is_stuck() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        let mut other = sqlx::PgConnection::connect(&common::url()).await.unwrap();
        let sql = fixture
            .sql("begin; insert into {schema}.markers (scope, event_key) values ('bill', 'stuck')");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut other).await.unwrap();
        let limit = std::time::Duration::from_millis(50);
        let terms = Terms { statement_timeout: Some(limit), ..Terms::default() };
        let began = std::time::Instant::now();
        let writer = Writer::Lane(&held);
        let mut tx = store.begin(&writer, &terms).await.unwrap();
        let error = claim(&store, &mut tx, &writer, &["stuck"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
        // Sooner than `lock_timeout`.
        assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(store.rollback(tx).await, "the connection is good");
        other.execute("rollback").await.unwrap();
    })
    .await;
}
