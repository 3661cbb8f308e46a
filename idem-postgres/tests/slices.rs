//! Slices and the row of their lane.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use common::letters::{cause, event, letter};
use common::{Fixture, claim, finish, on_store, owner, seal_at, take};
use idem_postgres::Postgres;
use idem_runtime::lane::{AttemptRow, Held, LaneId, LogIdentity, Position, Slice};
use idem_runtime::store::{Claimed, Reposition, Sealed, Terms, Writer};
use idem_runtime::{IsolationLevel, LetterState, Store};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const LEVELS: [IsolationLevel; 3] =
    [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

async fn claimed(
    store: &Postgres,
    slice: &Held,
    isolation: IsolationLevel,
    key: &str,
) -> <Postgres as Store>::Tx {
    let writer = Writer::Lane(slice);
    let terms = Terms { isolation, ..Terms::default() };
    let mut tx = store.begin(&writer, &terms).await.unwrap();
    let claimed = claim(store, &mut tx, &writer, &[key]).await.unwrap();
    assert_eq!(claimed, Claimed::Keys(vec![true]));
    tx
}

/// The one task of a lane works its slices and moves its position: neither may wait for the other.
#[tokio::test]
async fn a_lanes_position_moves_while_slices_are_open_and_sealed() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        store.cut(&held, 2).await.unwrap().unwrap();
        let slice =
            |index| Held { slice: Some(Slice { index, of: 2 }), revision: 0, ..held.clone() };
        let (mut open, mut sealed) = (slice(0), slice(1));
        let identity = LogIdentity::default();
        for (isolation, offset) in LEVELS.into_iter().zip(1..) {
            let late = claimed(&store, &open, isolation, &format!("a{offset}")).await;
            let mut tx = claimed(&store, &sealed, isolation, &format!("b{offset}")).await;
            let seal = seal_at(sealed.position.offset + 1);
            let answer = store.seal(&mut tx, &Writer::Lane(&sealed), Some(&seal)).await.unwrap();
            assert_eq!(answer, Sealed::Yes);

            let position = Position::at(offset);
            let to = Reposition { position, identity: &identity, new_log: None, slices: &[] };
            assert!(store.reposition(&held, &to).await.unwrap(), "{isolation:?}");
            held.revision += 1;

            store.commit(tx).await.unwrap();
            sealed.revision += 1;
            finish(&store, late, &mut open).await.unwrap();
        }
        assert_eq!(store.read(&held).await.unwrap().unwrap().revision, held.revision);
        assert_eq!(store.read(&open).await.unwrap().unwrap().revision, 3);
        assert_eq!(fixture.markers().await, 6);
    })
    .await;
}

#[tokio::test]
async fn taking_a_lane_waits_for_a_slice_that_is_sealed() {
    on_store(async |fixture: Fixture, store: Postgres| {
        for (isolation, n) in LEVELS.into_iter().zip(0..) {
            let held = fixture.lane(&store, n).await;
            store.cut(&held, 2).await.unwrap().unwrap();
            let slice = Held { slice: Some(Slice { index: 1, of: 2 }), revision: 0, ..held };
            let mut tx = claimed(&store, &slice, isolation, &n.to_string()).await;
            let sealed = store.seal(&mut tx, &Writer::Lane(&slice), Some(&seal_at(5))).await;
            assert_eq!(sealed.unwrap(), Sealed::Yes);
            let taking = {
                let store = store.clone();
                tokio::spawn(async move { take(&store, n).await })
            };
            let waits = format!(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                 and query like '%\"{}\".lanes%for update%'",
                fixture.schema
            );
            fixture.until("the taker waits", &waits, 1).await;
            store.commit(tx).await.unwrap();
            let now = Held { slice: slice.slice, ..taking.await.unwrap() };
            let row = store.read(&now).await.unwrap().unwrap();
            assert_eq!((row.revision, row.position.offset), (1, 5), "{isolation:?}");
        }
    })
    .await;
}

/// A slice forgets keys that are released and have nothing waiting, whichever slice's they are.
#[tokio::test]
async fn a_key_that_is_parked_again_while_another_slice_works_what_waited_is_not_forgotten() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        store.cut(&held, 2).await.unwrap().unwrap();
        let slice =
            |index| Held { slice: Some(Slice { index, of: 2 }), revision: 0, ..held.clone() };
        let (mut parking, mut working) = (slice(0), slice(1));
        let released = format!(
            "insert into {{schema}}.parked_keys (lane_id, scope, message_key, is_released)
             values ({}, 'bill', 'k', true)",
            held.number
        );
        fixture.run(&released).await;
        let (event, cause) = (event(1, b"k"), cause("declined"));
        let writer = Writer::Lane(&parking);
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        let new = letter(&event, LetterState::Parked, Some(&cause));
        store.give_up(&mut tx, &parking, &[new]).await.unwrap();
        let worked = {
            let store = store.clone();
            tokio::spawn(async move {
                let writer = Writer::Lane(&working);
                let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
                store.unpark(&mut tx, &working, &[]).await.unwrap();
                finish(&store, tx, &mut working).await.unwrap();
            })
        };
        let waits = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
             and query like '%\"{}\".parked_keys%'",
            fixture.schema
        );
        fixture.until("the other slice waits", &waits, 1).await;
        finish(&store, tx, &mut parking).await.unwrap();
        worked.await.unwrap();
        let parked = "select count(*) from {schema}.parked_keys where not is_released";
        assert_eq!(fixture.number(parked).await, 1);
    })
    .await;
}

/// Of an attempt that a former owner notes too late, the next one must not be said to have died.
#[tokio::test]
async fn an_attempt_that_is_noted_while_the_lane_is_taken_is_not_noted() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let former = fixture.lane(&store, 0).await;
        let mut taker = PgConnection::connect(&common::url()).await.unwrap();
        let sql = fixture.sql("begin; update {schema}.lanes set token = gen_random_uuid()");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut taker).await.unwrap();
        let noting = {
            let (store, former) = (store.clone(), former.clone());
            tokio::spawn(async move {
                let attempt = AttemptRow {
                    scope: String::new(),
                    offset: 7,
                    failures: 0,
                    first_failed_at: std::time::SystemTime::now(),
                    open: true,
                    deaths: 0,
                };
                store.note_attempt(&former, &attempt).await
            })
        };
        let waits = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
             and query like '%\"{}\".attempts%'",
            fixture.schema
        );
        fixture.until("the former owner waits", &waits, 1).await;
        taker.execute("commit").await.unwrap();
        assert!(!noting.await.unwrap().unwrap());
        assert_eq!(fixture.number("select count(*) from {schema}.attempts").await, 0);
        let id = LaneId { group: "billing".into(), topic: "orders".into(), partition: 0 };
        assert!(store.take(&id, &owner("next")).await.unwrap().unwrap().attempts.is_empty());
    })
    .await;
}
