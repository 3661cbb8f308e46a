//! Nobody waits in a circle.

#![expect(clippy::expect_used, reason = "what is missing fails the test")]

mod common;

use common::letters::{cause, event, letter};
use common::{Fixture, claim, finish, key, lend, on_store, owner, seal_at};
use idem_postgres::Postgres;
use idem_runtime::lane::{Held, LaneId, Slice};
use idem_runtime::store::{Claim, Claimed, Sealed, Settlement, Terms, Writer};
use idem_runtime::{Error, LetterAction, LetterFilter, LetterState, MarkerState, Result, Store};
use sqlx::Executor as _;
use uuid::Uuid;

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
    let Some(letter) = store.released(held, 0, 1).await?.into_iter().next() else {
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
