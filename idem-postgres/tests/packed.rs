//! Packed markers: what PostgreSQL locks, sees and stores.

#![expect(clippy::expect_used, reason = "what is missing fails the test")]

mod common;

use std::time::Duration;

use common::{Fixture, batch, claim, finish, key, lend, on_store, owner, seal_at, take};
use idem_postgres::Postgres;
use idem_runtime::lane::{Held, LaneId, LogIdentity, Position, Slice};
use idem_runtime::packed::{
    Digest, Floor, Merged, NewPack, NewRun, Pack, PackRow, Repack, RunPart, WindowId,
};
use idem_runtime::store::PackedMarkers as _;
use idem_runtime::store::{Claimed, Instance, Opening, RELOAD, Sealed, Terms, Writer};
use idem_runtime::{ErrorKind, IsolationLevel, MarkerMode, Registration, Result, Store};
use sqlx::{AssertSqlSafe, Executor as _};

const STRICTER: [IsolationLevel; 2] =
    [IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

type Tx = <Postgres as Store>::Tx;

fn digest(n: i64) -> Digest {
    Digest(u128::from(n.unsigned_abs() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Packs these, each with the offset that its digest is of.
async fn pack(store: &Postgres, tx: &mut Tx, held: &Held, offsets: &[i64]) -> Result<bool> {
    let entries = offsets.iter().map(|offset| (*offset, digest(*offset))).collect();
    pack_entries(store, tx, held, entries).await
}

async fn pack_entries(
    store: &Postgres,
    tx: &mut Tx,
    held: &Held,
    entries: Vec<(i64, Digest)>,
) -> Result<bool> {
    let pack = Pack { entries, spans: Vec::new() };
    let (first_offset, last_offset) = pack.offsets().expect("there is something in it");
    let data = pack.encode();
    let pack = NewPack {
        scope: "bill",
        partitions: 4,
        first_offset,
        last_offset,
        count: u32::try_from(pack.entries.len()).expect("few"),
        every_slice: false,
        data: &data,
    };
    Ok(store.pack(tx, held, &[pack]).await?.is_some())
}

async fn packed_batch(store: &Postgres, held: &mut Held, offsets: &[i64]) {
    let mut tx = store.begin(&Writer::Lane(held), &Terms::default()).await.expect("begins");
    assert!(pack(store, &mut tx, held, offsets).await.expect("packs"));
    finish(store, tx, held).await.expect("commits");
}

fn window(held: &Held) -> WindowId<'static> {
    WindowId { lane: held.number, scope: "bill", slice: held.slice }
}

async fn rows(store: &Postgres, held: &Held) -> Vec<PackRow> {
    store.packs(&window(held), 0, 10_000).await.expect("reads")
}

async fn add_run(store: &Postgres, held: &Held, row: i64, digests: &[i64]) -> i64 {
    let mut digests: Vec<Digest> = digests.iter().map(|n| digest(*n)).collect();
    digests.sort_unstable();
    let bytes: Vec<u8> = digests.iter().flat_map(|it| it.to_bytes()).collect();
    let run = NewRun {
        id: NewRun::unused(),
        window: window(held),
        count: u64::try_from(digests.len()).expect("few"),
        filter: &[],
        digests: &bytes,
    };
    assert!(store.add_run(held, &[row], &run).await.expect("writes"), "the row is there");
    run.id
}

/// A run of a row of another lane.
async fn add_run_of(store: &Postgres, held: &Held, other: &Held, row: i64) -> bool {
    let id = NewRun::unused();
    let run = NewRun { id, window: window(other), count: 0, filter: &[], digests: &[] };
    store.add_run(held, &[row], &run).await.expect("writes")
}

#[tokio::test]
async fn a_packed_batch_is_two_statements_that_read_no_table_but_the_lanes() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let store = fixture.builder().max_connections(1).connect().await.unwrap();
        let mut held = fixture.lane(&store, 0).await;
        for offset in 1..4 {
            packed_batch(&store, &mut held, &[offset]).await;
        }
        let mut tx = store.begin(&Writer::Lane(&held), &Terms::default()).await.unwrap();
        assert!(pack(&store, &mut tx, &held, &[5]).await.unwrap());
        let statements: Vec<String> = sqlx::query_scalar(
            "select statement from pg_prepared_statements
             where statement not like '%pg_prepared_statements%'
               and statement not like '%client_connection%'
             order by prepare_time",
        )
        .persistent(false)
        .fetch_all(lend(&mut tx))
        .await
        .unwrap();
        assert_eq!(statements.len(), 2, "{statements:#?}");
        assert!(statements[0].contains(".packs") && !statements[0].contains("markers"));
        assert!(!statements[0].contains("for "), "nothing is locked: {}", statements[0]);
        store.rollback(tx).await;
    })
    .await;
}

#[tokio::test]
async fn taking_a_lane_does_not_wait_for_a_batch_that_has_packed() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        let mut tx = store.begin(&Writer::Lane(&held), &Terms::default()).await.unwrap();
        assert!(pack(&store, &mut tx, &held, &[1]).await.unwrap());
        // A foreign key to the lane would make it wait until the lock's time is over.
        let now = take(&store, 0).await;
        let late = store.seal(&mut tx, &Writer::Lane(&held), Some(&seal_at(2))).await;
        assert_eq!(late.unwrap(), Sealed::No);
        store.rollback(tx).await;
        assert!(rows(&store, &now).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn batches_that_see_less_of_others_pack_as_well() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut lanes = [fixture.lane(&store, 0).await, fixture.lane(&store, 1).await];
        let mut offset = 0;
        for isolation in STRICTER {
            let terms = Terms { isolation, ..Terms::default() };
            for claims in [false, true] {
                offset += 1;
                let mut open = Vec::new();
                // Both at once: they have nothing in common.
                for held in &lanes {
                    let writer = Writer::Lane(held);
                    let mut tx = store.begin(&writer, &terms).await.unwrap();
                    if claims {
                        let name = format!("{isolation:?} {}", held.number);
                        let new = claim(&store, &mut tx, &writer, &[&name]).await.unwrap();
                        assert_eq!(new, Claimed::Keys(vec![true]));
                    }
                    assert!(pack(&store, &mut tx, held, &[offset]).await.unwrap());
                    let effect = fixture.sql("insert into {schema}.effects values (1)");
                    lend(&mut tx).execute(AssertSqlSafe(effect)).await.unwrap();
                    open.push(tx);
                }
                for (tx, held) in open.into_iter().zip(&mut lanes) {
                    finish(&store, tx, held).await.unwrap();
                }
            }
            let mut tx = store.begin(&Writer::Lane(&lanes[0]), &terms).await.unwrap();
            assert!(pack(&store, &mut tx, &lanes[0], &[99]).await.unwrap());
            lend(&mut tx).execute("commit").await.unwrap_err();
            let late = store.seal(&mut tx, &Writer::Lane(&lanes[0]), Some(&seal_at(99))).await;
            assert_eq!(late.unwrap_err().kind(), ErrorKind::HandlerBroke, "{isolation:?}");
            store.rollback(tx).await;
        }
        assert_eq!(fixture.effects().await, 8);
        assert_eq!(fixture.number("select count(*) from {schema}.packs").await, 8);
    })
    .await;
}

#[tokio::test]
async fn a_run_of_another_lanes_rows_waits_for_none_of_its_batches() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let zero = fixture.lane(&store, 0).await;
        let mut one = fixture.lane(&store, 1).await;
        packed_batch(&store, &mut one, &[1]).await;
        let row = rows(&store, &one).await[0].id;
        let writer = Writer::Lane(&one);
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        assert!(pack(&store, &mut tx, &one, &[2]).await.unwrap());
        assert_eq!(store.seal(&mut tx, &writer, Some(&seal_at(3))).await.unwrap(), Sealed::Yes);
        assert!(add_run_of(&store, &zero, &one, row).await);
        store.commit(tx).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn who_puts_another_lanes_rows_into_a_run_locks_that_lane_before_them() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let zero = fixture.lane(&store, 0).await;
        let mut one = fixture.lane(&store, 1).await;
        packed_batch(&store, &mut one, &[1]).await;
        let row = rows(&store, &one).await[0].id;
        // As one who forgets a key: the lane, and then its rows.
        let mut forgets = fixture.app.begin().await.unwrap();
        let lock = "select 1 from {schema}.lanes where lane_id = $1 for update";
        let lock = sqlx::query(AssertSqlSafe(fixture.sql(lock))).bind(one.number);
        lock.execute(&mut *forgets).await.unwrap();
        let adding = {
            let (store, zero, one) = (store.clone(), zero.clone(), one.clone());
            tokio::spawn(async move { add_run_of(&store, &zero, &one, row).await })
        };
        let waits = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
             and query like '%\"{}\".lanes%'",
            fixture.schema
        );
        fixture.until("who writes the run waits", &waits, 1).await;
        let delete = "with found as (
                          select pack_id from {schema}.packs where pack_id = $1 for update nowait
                      )
                      delete from {schema}.packs using found where packs.pack_id = found.pack_id";
        let delete = sqlx::query(AssertSqlSafe(fixture.sql(delete))).bind(row);
        let deleted = delete.execute(&mut *forgets).await.expect("nobody has it");
        assert_eq!(deleted.rows_affected(), 1);
        forgets.commit().await.unwrap();
        assert!(!adding.await.unwrap(), "the row is gone");
    })
    .await;
}

#[tokio::test]
async fn a_run_that_a_snapshot_is_too_old_for_is_never_an_answer() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        packed_batch(&store, &mut held, &[1]).await;
        packed_batch(&store, &mut held, &[2]).await;
        let all = rows(&store, &held).await;
        for (isolation, row) in STRICTER.into_iter().zip(all) {
            let terms = Terms { isolation, ..Terms::default() };
            let writer = Writer::Lane(&held);
            let mut tx = store.begin(&writer, &terms).await.unwrap();
            lend(&mut tx).execute("select 1").await.unwrap();
            // The owner has put its digests out of its memory, and asks for them here.
            let run = add_run(&store, &held, row.id, &[row.first_offset]).await;
            let asked = [(run, digest(row.first_offset))];
            let early = store.in_runs(&mut tx, &asked).await.unwrap_err();
            assert_eq!(early.kind(), ErrorKind::Transient, "{isolation:?}");
            store.rollback(tx).await;
            let mut tx = store.begin(&writer, &terms).await.unwrap();
            assert_eq!(store.in_runs(&mut tx, &asked).await.unwrap(), [true]);
            store.rollback(tx).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_from_outside_waits_for_the_slice_that_is_sealed() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        store.cut(&held, 2).await.unwrap().unwrap();
        let slice = Some(Slice { index: 1, of: 2 });
        let slice = Held { slice, revision: 0, ..held.clone() };
        let mut tx = store.begin(&Writer::Lane(&slice), &Terms::default()).await.unwrap();
        assert!(pack(&store, &mut tx, &slice, &[7]).await.unwrap());
        let sealed = store.seal(&mut tx, &Writer::Lane(&slice), Some(&seal_at(8))).await;
        assert_eq!(sealed.unwrap(), Sealed::Yes);

        let outside = tokio::spawn({
            let (store, number) = (store.clone(), held.number);
            async move {
                let writer = Writer::Direct { attempt: uuid::Uuid::new_v4() };
                let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
                let pack = Pack { entries: vec![(7, digest(7))], spans: Vec::new() };
                let data = pack.encode();
                let pack = NewPack {
                    scope: "bill",
                    partitions: 0,
                    first_offset: 7,
                    last_offset: 7,
                    count: 1,
                    every_slice: false,
                    data: &data,
                };
                let new = store.pack_direct(&mut tx, number, 7, &pack, digest(7)).await.unwrap();
                assert_eq!(store.seal(&mut tx, &writer, None).await.unwrap(), Sealed::Yes);
                store.commit(tx).await.unwrap();
                new
            }
        });
        let waits = "select count(*) from pg_stat_activity
                     where wait_event_type = 'Lock' and query like '%{schema}.lane_slices%'";
        fixture.until("it waits for the slice", waits, 1).await;
        store.commit(tx).await.unwrap();
        assert!(!outside.await.unwrap(), "the slice had packed it");
        let late = Held { revision: 1, ..slice };
        let mut tx = store.begin(&Writer::Lane(&late), &Terms::default()).await.unwrap();
        let sealed = store.seal(&mut tx, &Writer::Lane(&late), Some(&seal_at(9))).await;
        assert_eq!(sealed.unwrap(), Sealed::No, "the slice is ahead");
        store.rollback(tx).await;
    })
    .await;
}

#[tokio::test]
async fn keys_are_forgotten_while_their_rows_are_merged_and_written() {
    on_store(async |fixture: Fixture, store: Postgres| {
        const KEYS: i64 = 60;
        let mut held = fixture.lane(&store, 0).await;
        let digests = store.digest_key().await.unwrap();
        let of = |n: i64| digests.digest(&key(&format!("k{n}")));
        for n in 0..KEYS {
            let mut tx = store.begin(&Writer::Lane(&held), &Terms::default()).await.unwrap();
            let packed = pack_entries(&store, &mut tx, &held, vec![(n, of(n))]).await;
            assert!(packed.unwrap());
            finish(&store, tx, &mut held).await.unwrap();
        }
        let merger = tokio::spawn({
            let (store, held) = (store.clone(), held.clone());
            async move {
                let (mut done, mut in_vain) = (0, 0);
                loop {
                    let all = rows(&store, &held).await;
                    let [one, two, ..] = &all[..] else { return (done, in_vain) };
                    let parts = [one, two].map(|row| (row.last_at, Pack::decode(row).unwrap()));
                    let pack = Pack::merge(parts);
                    let (first_offset, last_offset) = pack.offsets().unwrap();
                    let row = PackRow {
                        first_offset,
                        last_offset,
                        count: one.count + two.count,
                        last_at: two.last_at.max(one.last_at),
                        first_at: two.first_at.min(one.first_at),
                        data: pack.encode(),
                        ..one.clone()
                    };
                    let new = Repack { row: &row, scope: "bill" };
                    match store.repack(&held, &[one.id, two.id], &new).await.unwrap() {
                        true => done += 1,
                        false => in_vain += 1,
                    }
                }
            }
        });
        for n in (0..KEYS).step_by(3) {
            assert!(store.forget_marker("bill", &key(&format!("k{n}"))).await.unwrap(), "{n}");
        }
        merger.await.unwrap();
        let left: Vec<(i64, Digest)> = rows(&store, &held)
            .await
            .iter()
            .flat_map(|row| Pack::decode(row).unwrap().entries)
            .collect();
        let mut left: Vec<i64> = left.iter().map(|(offset, _)| *offset).collect();
        left.sort_unstable();
        assert_eq!(left, (0..KEYS).filter(|n| n % 3 != 0).collect::<Vec<_>>());
        let revision = store.read(&held).await.unwrap().unwrap().revision;
        assert_eq!(revision, held.revision + RELOAD * (KEYS / 3));
    })
    .await;
}

#[tokio::test]
async fn forgetting_a_key_waits_for_the_batch_that_packs_it() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        let digests = store.digest_key().await.unwrap();
        // It was packed before, so that its lane is known to have it.
        for offset in [1, 2] {
            let mut tx = store.begin(&Writer::Lane(&held), &Terms::default()).await.unwrap();
            let entries = vec![(offset, digests.digest(&key("a")))];
            assert!(pack_entries(&store, &mut tx, &held, entries).await.unwrap());
            if offset == 1 {
                finish(&store, tx, &mut held).await.unwrap();
                continue;
            }
            let sealed = store.seal(&mut tx, &Writer::Lane(&held), Some(&seal_at(9))).await;
            assert_eq!(sealed.unwrap(), Sealed::Yes);
            let forget = tokio::spawn({
                let store = store.clone();
                async move { store.forget_marker("bill", &key("a")).await }
            });
            let waits = "select count(*) from pg_stat_activity
                         where wait_event_type = 'Lock' and query like '%{schema}.lanes%for update%'";
            fixture.until("it waits for the lane", waits, 1).await;
            store.commit(tx).await.unwrap();
            assert!(forget.await.unwrap().unwrap());
        }
        assert!(rows(&store, &held).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_forgotten_instance_leaves_no_packed_markers() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let group = "fleet.a";
        let seen = Instance { broadcast: "fleet", group, forget_after: None };
        store.keep_instance(&seen).await.unwrap();
        let scopes = [("bill", MarkerMode::Packed)];
        let registration = Registration {
            group,
            scopes: &scopes,
            windows: &[],
            adopt: &[],
            retire: &[],
            broadcast: Some("fleet"),
        };
        store.register(&registration).await.unwrap();
        let lanes = [(0, Position::at(0))];
        let identity = LogIdentity::default();
        let opening = Opening { group, topic: "orders", identity: &identity, lanes: &lanes };
        store.open_topic(&opening).await.unwrap();
        let id = LaneId { group: group.into(), topic: "orders".into(), partition: 0 };
        let mut held = store.take(&id, &owner("a")).await.unwrap().unwrap().held();
        for offset in 1..4 {
            packed_batch(&store, &mut held, &[offset]).await;
        }
        let row = rows(&store, &held).await[0].id;
        add_run(&store, &held, row, &[1]).await;
        assert!(
            store
                .forget_packs(&held, "bill", &[], Some(Floor { offset: 1, is_early: false }))
                .await
                .unwrap()
        );
        // Another group's stay.
        let mut other = fixture.lane(&store, 0).await;
        let mut tx = store.begin(&Writer::Lane(&other), &Terms::default()).await.unwrap();
        let data = Pack { entries: vec![(1, digest(1))], spans: Vec::new() }.encode();
        let pack = NewPack {
            scope: "another",
            partitions: 1,
            first_offset: 1,
            last_offset: 1,
            count: 1,
            every_slice: false,
            data: &data,
        };
        assert!(store.pack(&mut tx, &other, &[pack]).await.unwrap().is_some());
        finish(&store, tx, &mut other).await.unwrap();

        fixture.run("update {schema}.instances set seen_at = now() - interval '1 hour'").await;
        let after = Some(Duration::from_secs(60));
        let look = Instance { broadcast: "fleet", group: "fleet.b", forget_after: after };
        assert_eq!(store.keep_instance(&look).await.unwrap(), [group]);
        assert_eq!(fixture.number("select count(*) from {schema}.packs").await, 1);
        for table in ["runs", "run_blocks", "windows"] {
            let left = format!("select count(*) from {{schema}}.{table}");
            assert_eq!(fixture.number(&left).await, 0, "{table}");
        }
    })
    .await;
}

#[tokio::test]
async fn digests_are_stored_as_they_are_and_read_by_people() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        let offsets: Vec<i64> = (0..2000).collect();
        packed_batch(&store, &mut held, &offsets).await;
        let plain = "select (pg_column_size(data) = octet_length(data))::int::bigint
                     from {schema}.packs";
        assert_eq!(fixture.number(plain).await, 1);
        let known = format!(
            "select count(*) from {{schema}}.packs where position('\\x{:032x}'::bytea in data) > 0",
            digest(1234).0
        );
        assert_eq!(fixture.number(&known).await, 1);
        // And a batch of rows beside it is another thing.
        assert_eq!(batch(&store, &mut held, &["a"]).await.unwrap(), [true]);
    })
    .await;
}

#[tokio::test]
async fn a_key_from_outside_misses_no_slice_of_a_lane_that_is_divided_meanwhile() {
    for isolation in STRICTER {
        on_store(async move |fixture: Fixture, store: Postgres| {
            let held = fixture.lane(&store, 0).await;
            let writer = Writer::Direct { attempt: uuid::Uuid::new_v4() };
            let terms = Terms { isolation, ..Terms::default() };
            let mut tx = store.begin(&writer, &terms).await.unwrap();
            // As a replay does first: from here on it sees what is there now.
            assert!(store.lock_letter(&mut tx, 1).await.unwrap().is_none());
            let slices = store.cut(&held, 2).await.unwrap().unwrap();
            let slice = Some(Slice { index: 1, of: 2 });
            let slice = Held { slice, revision: slices[1], ..held.clone() };
            assert!(store.packs(&window(&slice), 0, 10).await.unwrap().is_empty());
            let data = Pack { entries: vec![(7, digest(7))], spans: Vec::new() }.encode();
            let new = NewPack {
                scope: "bill",
                partitions: 0,
                first_offset: 7,
                last_offset: 7,
                count: 1,
                every_slice: false,
                data: &data,
            };
            let packed = store.pack_direct(&mut tx, held.number, 7, &new, digest(7)).await;
            assert_eq!(packed.unwrap_err().kind(), ErrorKind::Transient, "{isolation:?}");
            store.rollback(tx).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_lane_that_has_packed_markers_is_not_deleted_by_hand() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        packed_batch(&store, &mut held, &[1]).await;
        let delete = fixture.sql("delete from {schema}.lanes");
        let refused = sqlx::raw_sql(AssertSqlSafe(delete.clone())).execute(&fixture.app).await;
        let error = refused.expect_err("it has packed markers");
        let error = error.as_database_error().expect("the database refuses");
        assert_eq!(error.code().as_deref(), Some("23001"));
        for part in ["topic orders", "partition 0", "packed markers"] {
            assert!(error.message().contains(part), "{error}");
        }
        assert_eq!(fixture.number("select count(*) from {schema}.lanes").await, 1);
        // Who means that everything is done again.
        fixture.run("delete from {schema}.packs").await;
        fixture.run("delete from {schema}.lanes").await;
        assert_eq!(fixture.number("select count(*) from {schema}.lanes").await, 0);
    })
    .await;
}

/// A lane of the group `billing` with so many rows of `bill`, which is retired.
async fn retired(fixture: &Fixture, store: &Postgres, rows: i64) -> Held {
    let scopes = [("bill", MarkerMode::Packed), ("ship", MarkerMode::Packed)];
    let retire = ["bill".to_owned()];
    for (scopes, retire) in [(&scopes[..], &[][..]), (&scopes[1..], &retire[..])] {
        let group = "billing";
        let registration =
            Registration { group, scopes, windows: &[], adopt: &[], retire, broadcast: None };
        store.register(&registration).await.expect("registers");
    }
    let held = fixture.lane(store, 0).await;
    fixture
        .run(&format!(
            "insert into {{schema}}.packs (lane_id, log, slices, slice, scope, partitions,
                                           first_offset, last_offset, digests, data)
             select lane_id, 0, 0, 0, scope, 4, n, n, 0, ''
             from {{schema}}.lanes
             cross join generate_series(1, {rows}) as n
             cross join unnest(array['bill', 'ship']) as scope"
        ))
        .await;
    held
}

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

#[tokio::test]
async fn what_a_retired_scope_has_is_deleted_in_parts_by_one_and_its_lane_moved_once() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = retired(&fixture, &store, 2_500).await;
        let before = store.read(&held).await.unwrap().unwrap().revision;
        let (one, other) = tokio::join!(
            store.forget_retired("billing", AT_ONCE),
            store.forget_retired("billing", AT_ONCE),
        );
        assert!(one.unwrap().len() + other.unwrap().len() >= 1);
        let left = "select count(*) from {schema}.packs where scope = ";
        assert_eq!(fixture.number(&format!("{left}'bill'")).await, 0);
        assert_eq!(fixture.number(&format!("{left}'ship'")).await, 2_500);
        let moved = store.read(&held).await.unwrap().unwrap().revision - before;
        assert!([RELOAD, 2 * RELOAD].contains(&moved), "not with every part: {moved}");
    })
    .await;
}

#[tokio::test]
async fn who_deletes_unfinished_runs_waits_for_who_finishes_one() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        packed_batch(&store, &mut held, &[1]).await;
        let digests = digest(1).to_bytes();
        let id = NewRun::unused();
        let part = RunPart { id, window: window(&held), had: 0, digests: &digests };
        assert!(store.extend_run(&held, &part).await.unwrap());
        // As one whose commit is on its way.
        let mut finishes = fixture.app.begin().await.unwrap();
        for finish in [
            "update {schema}.packs set run_id = $1",
            "update {schema}.runs set is_finished = true where run_id = $1",
        ] {
            let finish = sqlx::query(AssertSqlSafe(fixture.sql(finish))).bind(id);
            finish.execute(&mut *finishes).await.unwrap();
        }
        let sweeping = {
            let (store, held) = (store.clone(), held.clone());
            tokio::spawn(async move { store.sweep_runs(&held, "bill", 10).await })
        };
        let waits = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
             and query like '%\"{}\".runs%'",
            fixture.schema
        );
        fixture.until("who deletes waits", &waits, 1).await;
        finishes.commit().await.unwrap();
        assert!(!sweeping.await.unwrap().unwrap(), "there is nothing unfinished any more");
        assert_eq!(store.run_blocks(id, None, 10).await.unwrap().len(), 1);
        assert_eq!(store.runs_of(&[id]).await.unwrap()[0].count, 1);
    })
    .await;
}

#[tokio::test]
async fn who_merges_runs_waits_for_who_forgets_a_key_and_is_refused() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let mut held = fixture.lane(&store, 0).await;
        packed_batch(&store, &mut held, &[1]).await;
        let row = rows(&store, &held).await[0].id;
        let run = add_run(&store, &held, row, &[1]).await;
        let digests = digest(1).to_bytes();
        let id = NewRun::unused();
        let part = RunPart { id, window: window(&held), had: 0, digests: &digests };
        assert!(store.extend_run(&held, &part).await.unwrap());
        // As one who forgets a key: the lane, and then the run.
        let mut forgets = fixture.app.begin().await.unwrap();
        let lock = "select 1 from {schema}.lanes where lane_id = $1 for update";
        let lock = sqlx::query(AssertSqlSafe(fixture.sql(lock))).bind(held.number);
        lock.execute(&mut *forgets).await.unwrap();
        let merging = {
            let (store, held) = (store.clone(), held.clone());
            tokio::spawn(async move {
                let of = [(run, 1)];
                let window = window(&held);
                let merged = Merged { id, window, count: 1, filter: b"filter", of: &of };
                store.merge_runs(&held, &merged).await
            })
        };
        let waits = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
             and query like '%\"{}\".lanes%'",
            fixture.schema
        );
        fixture.until("who merges waits", &waits, 1).await;
        let less = "update {schema}.runs set digests = digests - 1 where run_id = $1";
        let less = sqlx::query(AssertSqlSafe(fixture.sql(less))).bind(run);
        less.execute(&mut *forgets).await.expect("nobody has it");
        forgets.commit().await.unwrap();
        assert!(!merging.await.unwrap().unwrap(), "it has another number of digests");
        assert_eq!(store.runs(&window(&held), &[], 10).await.unwrap()[0].id, run);
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_retired_scope_is_deleted_before_its_lane_is_moved() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = retired(&fixture, &store, 10).await;
        // A batch that is sealed, and whose owner is frozen.
        let writer = Writer::Lane(&held);
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        let seal = seal_at(1);
        assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await.unwrap(), Sealed::Yes);
        let waiting = fixture.builder().lock_timeout(Duration::from_millis(50)).connect().await;
        let error = waiting.unwrap().forget_retired("billing", AT_ONCE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
        let left = "select count(*) from {schema}.packs where scope = 'bill'";
        assert_eq!(fixture.number(left).await, 10);
        // Whoever loads a window from now on is told.
        assert!(store.window(&window(&held)).await.unwrap().is_forgotten);
        store.rollback(tx).await;
        assert_eq!(store.forget_retired("billing", None).await.unwrap(), ["bill"]);
        assert_eq!(fixture.number(left).await, 0);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_deleted_of_a_scope_that_is_registered_again_while_it_is_forgotten() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = retired(&fixture, &store, 10).await;
        // Who forgets has begun, and does not know yet which lanes there are.
        let mut lock = fixture.app.begin().await.unwrap();
        let all = fixture.sql("lock table {schema}.lanes in access exclusive mode");
        sqlx::raw_sql(AssertSqlSafe(all)).execute(&mut *lock).await.unwrap();
        let forgetting = {
            let store = store.clone();
            tokio::spawn(async move { store.forget_retired("billing", AT_ONCE).await })
        };
        let waits = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
             and query like '%\"{}\".lanes%'",
            fixture.schema
        );
        fixture.until("who forgets waits", &waits, 1).await;
        // Meanwhile another one has forgotten all, and the scope has something again.
        fixture
            .run(
                "update {schema}.scopes set state = 'active', retired_at = null, forgotten_at = null
                 where scope = 'bill'",
            )
            .await;
        lock.commit().await.unwrap();
        assert!(forgetting.await.unwrap().unwrap().is_empty());
        let left = "select count(*) from {schema}.packs where scope = 'bill'";
        assert_eq!(fixture.number(left).await, 10);
        assert_eq!(store.read(&held).await.unwrap().unwrap().revision, held.revision);
    })
    .await;
}

#[tokio::test]
async fn data_beside_another_row_of_the_store_says_that_its_digests_are_of_another_key() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        let id = store.digest_key().await.unwrap().id();
        assert_eq!(store.note_digest_key(&held, id).await.unwrap(), Some(id));
        fixture.run("delete from {schema}.store; insert into {schema}.store default values").await;
        let known = store.window(&window(&held)).await.unwrap().digest_key;
        assert_eq!(known, Some(id));
        assert_ne!(store.digest_key().await.unwrap().id(), id);
    })
    .await;
}
