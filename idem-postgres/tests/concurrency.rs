//! Who waits for whom, and for how long.

mod common;

use std::time::{Duration, Instant};

use common::{DEADLINE, Fixture, batch, claim, lane_name, on_store, open_batch, seal_at, take};
use idem_postgres::Postgres;
use idem_runtime::packed::Digest;
use idem_runtime::store::{Claimed, PackedMarkers as _, Sealed, Terms, Writer};
use idem_runtime::{ErrorKind, Outcome, Store};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

#[tokio::test]
async fn of_concurrent_calls_with_one_key_one_does_the_work() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let effect = fixture.sql("insert into {schema}.effects values (1)");
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let (store, effect) = (store.clone(), effect.clone());
            calls.spawn_local(async move {
                store
                    .process_if_new("bill", "a", async |tx: &mut PgConnection| {
                        tx.execute(sqlx::AssertSqlSafe(effect)).await?;
                        Ok(())
                    })
                    .await
            });
        }
        let outcomes: Vec<_> =
            calls.join_all().await.into_iter().map(|outcome| outcome.unwrap()).collect();
        let processed = outcomes.iter().filter(|outcome| outcome.is_processed()).count();
        assert_eq!((processed, fixture.effects().await), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn look_ups_that_hang_hold_up_no_lane() {
    on_store(async |fixture: Fixture, store: Postgres| {
        store.close().await;
        let builder = fixture.builder().acquire_timeout(Duration::from_secs(3));
        let store = builder.lock_timeout(DEADLINE).connect().await.unwrap();
        let held = fixture.lane(&store, 0).await;
        let mut other = PgConnection::connect(&common::url()).await.unwrap();
        let lock = fixture.sql("begin; lock table {schema}.packs in access exclusive mode");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut other).await.unwrap();
        let mut look_ups = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let store = store.clone();
            look_ups.spawn(async move { store.find_packed("bill", Digest(1)).await });
        }
        let hanging = "select count(*) from pg_locks
            where relation = '{schema}.packs'::regclass and not granted";
        fixture.until("two look-ups wait for the lock", hanging, 2).await;

        assert_ne!(take(&store, 0).await.token, held.token);
        store.release(&held).await.unwrap();
        // Those that got no connection say what there are too few of.
        let error = look_ups.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
        assert!(error.to_string().contains("look-ups and upkeep are busy"), "{error}");
        other.execute("rollback").await.unwrap();
        let answers = look_ups.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "{answers:?}");
    })
    .await;
}

#[tokio::test]
async fn a_concurrent_duplicate_wins_when_the_first_one_rolls_back() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let first = fixture.lane(&store, 0).await;
        let mut second = fixture.lane(&store, 1).await;
        let (tx, _) = open_batch(&store, &first, &["a"]).await.unwrap();
        let waiting = {
            let store = store.clone();
            let mut second = second.clone();
            tokio::spawn(async move { batch(&store, &mut second, &["a"]).await })
        };
        fixture.until_lane_waits(&second).await;
        store.rollback(tx).await;
        assert_eq!(waiting.await.unwrap().unwrap(), [true]);
        second.revision += 1;
        assert_eq!(batch(&store, &mut second, &["a"]).await.unwrap(), [false]);
        assert_eq!(fixture.effects().await, 1);
    })
    .await;
}

#[tokio::test]
async fn sorted_claims_do_not_deadlock() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let keys: Vec<String> = (0..100).map(|n| format!("key-{n}")).collect();
        let mut lanes = tokio::task::JoinSet::new();
        for partition in 0..6 {
            let mut held = fixture.lane(&store, partition).await;
            let (store, keys) = (store.clone(), keys.clone());
            lanes.spawn(async move {
                let mut new = 0;
                // Each lane takes the keys in an order of its own; `claim` sorts within the batch.
                for round in 0..10 {
                    let rotated: Vec<&str> = (0..10)
                        .map(|n| (round * 10 + n * (partition + 1) as usize) % 100)
                        .map(|n| keys[n].as_str())
                        .collect();
                    let mut distinct = rotated.clone();
                    distinct.sort_unstable();
                    distinct.dedup();
                    let answer = batch(&store, &mut held, &distinct).await?;
                    new += answer.into_iter().filter(|new| *new).count();
                }
                Ok::<_, idem_runtime::Error>(new)
            });
        }
        let new: usize = lanes.join_all().await.into_iter().map(|new| new.unwrap()).sum();
        assert_eq!(fixture.markers().await, i64::try_from(new).unwrap());
        assert_eq!(fixture.effects().await, i64::try_from(new).unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_dropped_batch_closes_its_connection_and_frees_its_claims() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let first = fixture.lane(&store, 0).await;
        let mut second = fixture.lane(&store, 1).await;
        let sessions = format!(
            "select count(*) from pg_stat_activity where application_name = '{}'",
            lane_name(&first)
        );

        // Idle, with claims.
        let (tx, _) = open_batch(&store, &first, &["a"]).await.unwrap();
        drop(tx);
        fixture.until("the session is gone", &sessions, 0).await;
        assert_eq!(batch(&store, &mut second, &["a"]).await.unwrap(), [true]);

        // In the middle of a statement that never ends by itself.
        let (mut tx, _) = open_batch(&store, &first, &["b"]).await.unwrap();
        let asleep = format!("{sessions} and wait_event = 'PgSleep'");
        tokio::select! {
            _ = common::lend(&mut tx).execute("select pg_sleep(600)") => panic!("it ended"),
            () = fixture.until("the statement runs", &asleep, 1) => {}
        }
        drop(tx);
        fixture.until("the session is gone", &sessions, 0).await;
        assert_eq!(batch(&store, &mut second, &["b"]).await.unwrap(), [true]);
    })
    .await;
}

#[tokio::test]
async fn a_frozen_former_owner_is_ended_when_it_holds_up_the_new_ones_claim() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        // Nothing else ends it: neither the server's limit nor the waiting one's.
        let patient = fixture
            .builder()
            .idle_in_transaction_timeout(Duration::ZERO)
            .lock_timeout(Duration::from_secs(60))
            .takeover_patience(Duration::from_millis(50));
        let store = patient.connect().await.unwrap();
        let zombie = fixture.lane(&store, 0).await;
        let (mut frozen, _) = open_batch(&store, &zombie, &["a", "b"]).await.unwrap();

        // Taking over does not wait for it.
        let mut owner = take(&store, 0).await;
        // Its claims do, until it is ended.
        let began = Instant::now();
        let (tx, new) = open_batch(&store, &owner, &["b", "c"]).await.unwrap();
        assert_eq!(new, [true, true]);
        assert!(began.elapsed() < DEADLINE);
        store.rollback(tx).await;
        assert_eq!(batch(&store, &mut owner, &["a", "b", "c"]).await.unwrap(), [true; 3]);

        // It wakes up: its connection is gone, and it is told so as any lost connection is.
        let late = store.seal(&mut frozen, &Writer::Lane(&zombie), Some(&seal_at(1))).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Transient);
        store.rollback(frozen).await;
        assert_eq!((fixture.markers().await, fixture.effects().await), (3, 3));
    })
    .await;
}

#[tokio::test]
async fn nobody_but_a_fenced_owner_is_ended() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let impatient = fixture
            .builder()
            .takeover_patience(Duration::from_millis(10))
            .lock_timeout(Duration::from_millis(400))
            .connect()
            .await
            .unwrap();
        let owner = fixture.lane(&store, 0).await;
        let other = fixture.lane(&store, 1).await;

        // Another lane that works.
        let (tx, _) = open_batch(&store, &other, &["a"]).await.unwrap();
        let Err(error) = open_batch(&impatient, &owner, &["a"]).await else { panic!("claimed") };
        assert_eq!(error.kind(), ErrorKind::Transient);
        let mut tx = tx;
        let sealed = store.seal(&mut tx, &Writer::Lane(&other), Some(&seal_at(1))).await.unwrap();
        assert_eq!(sealed, Sealed::Yes);
        store.commit(tx).await.unwrap();

        // An operator, a call without Kafka, and somebody who only looks like a lane.
        let names = ["psql", "idem", "idem lane 1", &format!("idem lane 999 {}", Uuid::new_v4())];
        for (name, key) in names.into_iter().zip(["b", "c", "d", "e"]) {
            let mut operator = PgConnection::connect(&common::url()).await.unwrap();
            let sql = fixture.sql(&format!(
                "begin; set local application_name = '{name}';
                 insert into {{schema}}.markers (marker_id, scope, event_key)
                 values ({{schema}}.marker_id('bill', '{key}'), 'bill', '{key}')"
            ));
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut operator).await.unwrap();
            let Err(error) = open_batch(&impatient, &owner, &[key]).await else {
                panic!("claimed beside {name}")
            };
            assert_eq!(error.kind(), ErrorKind::Transient, "{name}");
            operator.execute("commit").await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(fixture.markers().await, 5);
    })
    .await;
}

#[tokio::test]
async fn taking_a_lane_waits_for_its_seal_and_for_nothing_else() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let first = fixture.lane(&store, 0).await;
        let (mut tx, _) = open_batch(&store, &first, &["a"]).await.unwrap();

        // Not sealed: no waiting, and the late seal finds nothing to move.
        let second = take(&store, 0).await;
        assert_eq!(second.position.offset, 0);
        let late = store.seal(&mut tx, &Writer::Lane(&first), Some(&seal_at(7))).await;
        assert_eq!(late.unwrap(), Sealed::No);
        store.rollback(tx).await;

        // Sealed: it waits, and reads what was committed meanwhile.
        let (mut tx, _) = open_batch(&store, &second, &["a"]).await.unwrap();
        let sealed = store.seal(&mut tx, &Writer::Lane(&second), Some(&seal_at(7))).await;
        assert_eq!(sealed.unwrap(), Sealed::Yes);
        let taking = {
            let store = store.clone();
            tokio::spawn(async move { take(&store, 0).await })
        };
        let waits = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
             and query like '%\"{}\".lanes%'",
            fixture.schema
        );
        fixture.until("the taker waits", &waits, 1).await;
        store.commit(tx).await.unwrap();
        let third = taking.await.unwrap();
        assert_eq!((third.position.offset, third.revision), (7, second.revision + 1));

        // Fenced from the first statement.
        let writer = Writer::Lane(&second);
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        let claimed = claim(&store, &mut tx, &writer, &["z"]).await.unwrap();
        assert_eq!(claimed, Claimed::Fenced);
        store.rollback(tx).await;
        assert_eq!(fixture.markers().await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_stricter_isolation_of_the_role_retries_and_keeps_the_promise() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        for isolation in ["repeatable read", "serializable"] {
            let options = common::options().options([(
                "default_transaction_isolation",
                // An escaped space, as in libpq's `options`.
                isolation,
            )]);
            let strict =
                Postgres::builder_with(options).schema(&fixture.schema).connect().await.unwrap();
            fixture.run("truncate {schema}.markers, {schema}.effects").await;
            let effect = fixture.sql("insert into {schema}.effects values (1)");
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let (store, effect) = (strict.clone(), effect.clone());
                calls.spawn_local(async move {
                    loop {
                        let effect = effect.clone();
                        let outcome = store
                            .process_if_new("bill", "a", async |tx: &mut PgConnection| {
                                tx.execute(sqlx::AssertSqlSafe(effect)).await?;
                                Ok(())
                            })
                            .await;
                        match outcome {
                            Err(error) if error.kind() == ErrorKind::Transient => {}
                            outcome => return outcome,
                        }
                    }
                });
            }
            let outcomes = calls.join_all().await;
            let processed =
                outcomes.iter().filter(|it| it.as_ref().is_ok_and(Outcome::is_processed));
            assert_eq!(processed.count(), 1, "{isolation}: {outcomes:?}");
            assert!(outcomes.iter().all(Result::is_ok), "{isolation}: {outcomes:?}");
            assert_eq!(fixture.effects().await, 1);

            // A claim that waited for one that committed is a failure that passes.
            let first = fixture.lane(&strict, 0).await;
            let second = fixture.lane(&strict, 1).await;
            let (mut tx, _) = open_batch(&strict, &first, &["x"]).await.unwrap();
            let waiting = {
                let (store, mut second) = (strict.clone(), second.clone());
                tokio::spawn(async move { batch(&store, &mut second, &["x"]).await })
            };
            fixture.until_lane_waits(&second).await;
            strict.seal(&mut tx, &Writer::Lane(&first), Some(&seal_at(9))).await.unwrap();
            strict.commit(tx).await.unwrap();
            let error = waiting.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transient, "{isolation}: {error:?}");

            // And a late seal is not a success, whatever it is called.
            let former = take(&strict, 0).await;
            let (mut tx, _) = open_batch(&strict, &former, &["y"]).await.unwrap();
            take(&strict, 0).await;
            let late = strict.seal(&mut tx, &Writer::Lane(&former), Some(&seal_at(9))).await;
            assert!(!matches!(late, Ok(Sealed::Yes)), "{isolation}: {late:?}");
            strict.rollback(tx).await;
        }
    })
    .await;
}
