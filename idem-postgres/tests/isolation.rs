//! Transactions that see less of others than the default.

#![expect(clippy::expect_used, reason = "what is missing fails the test")]

mod common;

use common::{Fixture, claim, finish, lend, on_store, seal_at};
use idem_postgres::Postgres;
use idem_runtime::lane::{Held, Slice};
use idem_runtime::store::{Claimed, Fault, Sealed, Terms, Writer};
use idem_runtime::{ErrorKind, IsolationLevel, Result, Store};
use sqlx::{AssertSqlSafe, Executor as _};

const STRICTER: [IsolationLevel; 2] =
    [IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

fn terms(isolation: IsolationLevel) -> Terms {
    Terms { isolation, ..Terms::default() }
}

/// A batch up to its seal.
async fn open(
    store: &Postgres,
    held: &Held,
    isolation: IsolationLevel,
    key: &str,
) -> Result<<Postgres as Store>::Tx> {
    let writer = Writer::Lane(held);
    let mut tx = store.begin(&writer, &terms(isolation)).await?;
    assert_eq!(claim(store, &mut tx, &writer, &[key]).await?, Claimed::Keys(vec![true]));
    let effect = format!("insert into {}.effects values (1)", store.schema());
    lend(&mut tx).execute(AssertSqlSafe(effect)).await.expect("an effect");
    Ok(tx)
}

async fn batch(
    store: &Postgres,
    held: &mut Held,
    isolation: IsolationLevel,
    key: &str,
) -> Result<()> {
    let tx = open(store, held, isolation, key).await?;
    finish(store, tx, held).await
}

#[tokio::test]
async fn a_transaction_has_the_level_it_asks_for_and_the_guard_with_it() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        for (isolation, level) in STRICTER.into_iter().zip(["repeatable read", "serializable"]) {
            let mut tx = open(&store, &held, isolation, level).await.unwrap();
            let found: String =
                sqlx::query_scalar("select current_setting('transaction_isolation')")
                    .fetch_one(lend(&mut tx))
                    .await
                    .unwrap();
            assert_eq!(found, level);
            finish(&store, tx, &mut held).await.unwrap();
            let kept = (fixture.markers().await, fixture.effects().await);

            let mut tx = open(&store, &held, isolation, "refused").await.unwrap();
            let failed = lend(&mut tx).execute("commit").await.unwrap_err();
            assert_eq!(Postgres::fault(&failed), Fault::HandlerBroke, "{level}");
            let late = store.seal(&mut tx, &Writer::Lane(&held), Some(&seal_at(9))).await;
            assert_eq!(late.unwrap_err().kind(), ErrorKind::HandlerBroke, "{level}");
            store.rollback(tx).await;
            assert_eq!((fixture.markers().await, fixture.effects().await), kept, "{level}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_concurrent_duplicate_is_a_failure_that_passes_and_never_an_answer() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let (mut first, second) = (fixture.lane(&store, 0).await, fixture.lane(&store, 1).await);
        for isolation in STRICTER {
            let key = format!("{isolation:?}");
            let tx = open(&store, &first, isolation, &key).await.unwrap();
            let waiting = {
                let (store, second, key) = (store.clone(), second.clone(), key.clone());
                tokio::spawn(async move {
                    let writer = Writer::Lane(&second);
                    let mut tx = store.begin(&writer, &terms(isolation)).await?;
                    claim(&store, &mut tx, &writer, &[&key]).await
                })
            };
            fixture.until_lane_waits(&second).await;
            finish(&store, tx, &mut first).await.unwrap();
            let error = waiting.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transient, "{isolation:?}: {error:?}");

            // Tried again, it is a duplicate.
            let writer = Writer::Lane(&second);
            let mut tx = store.begin(&writer, &terms(isolation)).await.unwrap();
            let claimed = claim(&store, &mut tx, &writer, &[&key]).await.unwrap();
            assert_eq!(claimed, Claimed::Keys(vec![false]));
            store.rollback(tx).await;
        }
        assert_eq!((fixture.markers().await, fixture.effects().await), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn a_conflict_in_a_handler_or_at_its_commit_passes() {
    on_store(async |fixture: Fixture, store: Postgres| {
        fixture
            .run("create table {schema}.stock (n bigint); insert into {schema}.stock values (1)")
            .await;
        let update = fixture.sql("update {schema}.stock set n = n + 1");
        let read = fixture.sql("select n from {schema}.stock");
        let held = fixture.lane(&store, 0).await;
        for isolation in STRICTER {
            let mut tx = open(&store, &held, isolation, "a").await.unwrap();
            lend(&mut tx).execute(AssertSqlSafe(read.clone())).await.unwrap();
            fixture.run(&update).await;
            let failed = lend(&mut tx).execute(AssertSqlSafe(update.clone())).await.unwrap_err();
            assert_eq!(Postgres::fault(&failed), Fault::Transient, "{isolation:?}");
            assert!(store.rollback(tx).await);
        }

        // Each reads what the other writes: of two serializable transactions one has to go.
        let mut lanes = Vec::new();
        for partition in [1, 2] {
            let held = fixture.lane(&store, partition).await;
            let key = partition.to_string();
            let mut tx = open(&store, &held, IsolationLevel::Serializable, &key).await.unwrap();
            lend(&mut tx).execute(AssertSqlSafe(read.clone())).await.unwrap();
            lanes.push((held, tx));
        }
        let insert = fixture.sql("insert into {schema}.stock values (1)");
        let mut failures = 0;
        for (mut held, mut tx) in lanes {
            let written = lend(&mut tx).execute(AssertSqlSafe(insert.clone())).await;
            if let Err(error) = written {
                assert_eq!(Postgres::fault(&error), Fault::Transient);
                failures += 1;
            } else if let Err(error) = finish(&store, tx, &mut held).await {
                assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
                failures += 1;
            }
        }
        assert_eq!(failures, 1);
    })
    .await;
}

/// A table of lanes that fits on a page is read from one end to the other unless the planner is
/// told otherwise; serializable lanes would fail because of each other most of the time then.
#[tokio::test]
async fn serializable_lanes_that_have_nothing_in_common_do_not_disturb_each_other() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        const BATCHES: i64 = 25;
        let store = fixture.builder().max_connections(6).connect().await.unwrap();
        let mut whole = Vec::new();
        for partition in 0..4 {
            whole.push(fixture.lane(&store, partition).await);
        }
        let divided = fixture.lane(&store, 4).await;
        let revisions = store.cut(&divided, 2).await.unwrap().unwrap();
        let slices = revisions.into_iter().zip(0..).map(|(revision, index)| Held {
            revision,
            slice: Some(Slice { index, of: 2 }),
            ..divided.clone()
        });
        whole.extend(slices);
        fixture.run("analyze {schema}.lanes; analyze {schema}.lane_slices").await;
        // First at the default level, which leaves plans behind on all connections.
        for isolation in [IsolationLevel::ReadCommitted, IsolationLevel::Serializable] {
            let mut lanes = tokio::task::JoinSet::new();
            for mut held in std::mem::take(&mut whole) {
                let store = store.clone();
                lanes.spawn(async move {
                    let conflicts = batches(&store, &mut held, isolation, BATCHES).await;
                    (held, conflicts)
                });
            }
            let (all, conflicts): (Vec<Held>, Vec<i64>) =
                lanes.join_all().await.into_iter().unzip();
            let (conflicts, batches) = (conflicts.iter().sum::<i64>(), BATCHES * 6);
            assert!(conflicts * 10 < batches, "{conflicts} conflicts in {batches} batches");
            whole = all;
        }
    })
    .await;
}

/// Works so many batches, each as often as it takes; answers how many were in vain.
async fn batches(
    store: &Postgres,
    held: &mut Held,
    isolation: IsolationLevel,
    batches: i64,
) -> i64 {
    let mut conflicts = 0;
    for n in 0..batches {
        let key = format!("{} {:?} {isolation:?} {n}", held.number, held.slice);
        while let Err(error) = batch(store, held, isolation, &key).await {
            assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
            conflicts += 1;
            assert!(conflicts < 50 * batches, "a lane does not get on");
        }
    }
    conflicts
}

#[tokio::test]
async fn a_late_owner_is_not_sealed_at_any_level() {
    on_store(async |fixture: Fixture, store: Postgres| {
        for isolation in STRICTER {
            let held = fixture.lane(&store, 0).await;
            store.cut(&held, 2).await.unwrap().unwrap();
            let slice = Held { slice: Some(Slice { index: 0, of: 2 }), revision: 0, ..held };
            let mut tx = open(&store, &slice, isolation, "a").await.unwrap();
            common::take(&store, 0).await;
            let late = store.seal(&mut tx, &Writer::Lane(&slice), Some(&seal_at(9))).await;
            match late {
                Ok(Sealed::No) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}"),
                Ok(Sealed::Yes) => panic!("{isolation:?}: sealed"),
            }
            store.rollback(tx).await;
        }
        assert_eq!(fixture.markers().await, 0);
    })
    .await;
}

/// The server keeps a statement's plan when the cost of reading by index is another one.
#[tokio::test]
async fn serializable_transactions_do_not_share_their_plans_with_others() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let store = fixture.builder().max_connections(1).connect().await.unwrap();
        let mut held = fixture.lane(&store, 0).await;
        batch(&store, &mut held, IsolationLevel::ReadCommitted, "a").await.unwrap();
        batch(&store, &mut held, IsolationLevel::Serializable, "b").await.unwrap();
        let mut tx = open(&store, &held, IsolationLevel::Serializable, "c").await.unwrap();
        let own = format!(
            "select count(*) filter (where statement like '/* serializable */%'), count(*)
             from pg_prepared_statements
             where statement like '%\"{}\".lanes%' and statement not like '%pg_prepared%'",
            fixture.schema
        );
        let own: (i64, i64) =
            sqlx::query_as(AssertSqlSafe(own)).fetch_one(lend(&mut tx)).await.unwrap();
        assert_eq!(own, (2, 4), "the claim and the seal, of both");
        store.rollback(tx).await;
    })
    .await;
}
