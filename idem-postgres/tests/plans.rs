//! What a batch without a failure costs: no more statements than it needs, and none that reads a
//! table from one end to the other.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

mod common;

use std::time::Duration;

use common::{Fixture, batch, claim, key, lend, on_schema, on_store, open_batch};
use idem_postgres::Postgres;
use idem_runtime::lane::{LogIdentity, Position};
use idem_runtime::store::{Claimed, Instance, Opening, Terms, Writer};
use idem_runtime::{Key, MarkerMode, Registration, Store};
use sqlx::{AssertSqlSafe, PgConnection};

const PREPARED: &str = "
    select name, statement from pg_prepared_statements
    where statement not like '%pg_prepared_statements%' and statement not like '%client_connection%'
    order by prepare_time";

/// The statements that were prepared in this session, with their names.
async fn prepared(connection: &mut PgConnection) -> Vec<(String, String)> {
    sqlx::query_as(PREPARED).persistent(false).fetch_all(connection).await.unwrap()
}

#[tokio::test]
async fn a_batch_without_a_failure_is_a_claim_and_a_seal_of_one_kind() {
    on_store(async |fixture: Fixture, _store: Postgres| {
        let store = fixture.builder().max_connections(1).connect().await.unwrap();
        let mut held = fixture.lane(&store, 0).await;
        for keys in [&["a", "b", "c"][..], &["c", "d"], &["e"], &[]] {
            batch(&store, &mut held, keys).await.unwrap();
        }
        let (mut tx, _) = open_batch(&store, &held, &["f"]).await.unwrap();
        let statements = prepared(lend(&mut tx)).await;
        assert_eq!(statements.len(), 2, "{statements:#?}");
        let (claim, seal) = (&statements[0].1, &statements[1].1);
        assert!(claim.contains("on conflict (marker_id) do nothing"), "{claim}");
        assert!(!claim.contains("state"), "{claim}");
        assert!(seal.contains("update") && !seal.contains("for share"), "{seal}");
        for table in ["dead_letters", "parked_keys", "attempts", "lane_slices"] {
            assert!(!claim.contains(table) && !seal.contains(table), "{table}");
        }
        store.rollback(tx).await;
    })
    .await;
}

/// The plan of a statement that was prepared in this session, as it was run with these arguments.
async fn plan(connection: &mut PgConnection, of: &str, arguments: &str) -> String {
    let statements = prepared(connection).await;
    let (name, _) = statements.iter().find(|(_, text)| text.contains(of)).unwrap();
    let explain = format!("explain (analyze, buffers, timing off) execute {name} ({arguments})");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
        .persistent(false)
        .fetch_all(connection)
        .await
        .unwrap();
    lines.join("\n")
}

/// How many pages a plan has looked at.
fn pages(plan: &str) -> u64 {
    let buffers = plan.lines().find(|line| line.contains("Buffers:")).unwrap_or_default();
    let number = |word: &str| word.split_once('=').and_then(|it| it.1.parse::<u64>().ok());
    buffers.split([' ', ',']).filter_map(number).sum()
}

#[tokio::test]
async fn asking_what_was_given_up_on_costs_nothing_when_nothing_was() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        // As it is before the server has looked at the table, and after.
        for (from, analyze) in [(0, ""), (50_000, "analyze {schema}.markers")] {
            fixture
                .run(&format!(
                    "insert into {{schema}}.markers
                         (marker_id, scope, event_key, lane_id, source_offset)
                     select {{schema}}.marker_id('bill', 'k' || n), 'bill', 'k' || n, 1, n
                     from generate_series({from}, {from} + 49999) as n; {analyze}"
                ))
                .await;
            let keys: Vec<Key> = (0..500).map(|n| key(&format!("k{}", from + n * 99))).collect();
            let mut keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
            keys.sort_unstable();
            let writer = Writer::Lane(&held);
            let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
            let known = claim(&store, &mut tx, &writer, &keys).await.unwrap();
            assert_eq!(known, Claimed::Keys(vec![false; 500]));
            let asked: Vec<Key> = keys.iter().map(|text| key(text)).collect();
            let asked: Vec<(&str, &Key)> = asked.iter().map(|key| ("bill", key)).collect();
            let answer = store.given_up(&mut tx, &asked).await.unwrap();
            assert_eq!(answer, vec![None; 500]);

            let ids = fixture.sql(&format!(
                "select array_agg({{schema}}.marker_id('bill', key))::text
                 from unnest(array['{}']) as key",
                keys.join("','")
            ));
            let ids: String =
                sqlx::query_scalar(AssertSqlSafe(ids)).fetch_one(&fixture.app).await.unwrap();
            let arguments = format!("array_fill('bill'::text, array[500]), '{ids}', array['bill']");
            let of = "asked.place, known.state";
            let nothing = plan(lend(&mut tx), of, &arguments).await;
            assert!(nothing.contains("markers_given_up_idx"), "{nothing}");
            assert!(!nothing.contains("Seq Scan on markers"), "{nothing}");
            assert!(pages(&nothing) <= 10, "one look tells that there is nothing: {nothing}");
            store.rollback(tx).await;

            fixture
                .run(
                    "insert into {schema}.markers (marker_id, scope, event_key, state)
                     values ({schema}.marker_id('bill', 'dead'), 'bill', 'dead', 1)",
                )
                .await;
            let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
            assert_eq!(store.given_up(&mut tx, &asked).await.unwrap(), vec![None; 500]);
            let something = plan(lend(&mut tx), of, &arguments).await;
            assert!(!something.contains("Seq Scan on markers"), "{something}");
            // The two pages that a small index has, for each key, and none of the table.
            assert!(pages(&something) <= 1020, "{something}");
            store.rollback(tx).await;
            fixture.run("delete from {schema}.markers where state <> 0").await;
        }
    })
    .await;
}

#[tokio::test]
async fn many_keys_are_looked_up_by_index_whatever_the_server_believes() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let store = {
            store.close().await;
            fixture.builder().max_connections(1).connect().await.unwrap()
        };
        let held = fixture.lane(&store, 0).await;
        let keys: Vec<String> = (0..100).map(|n| format!("k{n:03}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        // Prepared and planned while the table is empty, then again with many rows in it.
        for filled in [false, true] {
            if filled {
                fixture
                    .run(
                        "insert into {schema}.markers (marker_id, scope, event_key)
                         select {schema}.marker_id('bill', 'x' || n), 'bill', 'x' || n
                         from generate_series(1, 20000) as n",
                    )
                    .await;
            }
            let writer = Writer::Lane(&held);
            for _ in 0..7 {
                let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
                let claimed = claim(&store, &mut tx, &writer, &keys).await.unwrap();
                assert_eq!(claimed, Claimed::Keys(vec![true; 100]));
                let scans: (i64, i64) = sqlx::query_as(AssertSqlSafe(fixture.sql(
                    "select seq_scan, idx_scan from pg_stat_xact_user_tables
                     where relid = '{schema}.markers'::regclass",
                )))
                .fetch_one(lend(&mut tx))
                .await
                .unwrap();
                assert_eq!(scans.0, 0, "the table is never read from one end to the other");
                assert!(scans.1 >= 100, "{scans:?}");
                let statements = prepared(lend(&mut tx)).await;
                assert!(statements.iter().any(|it| it.1.contains("claim_keys")), "{statements:#?}");
                store.rollback(tx).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_waits_and_what_is_to_be_forwarded_is_found_by_index() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        // Many letters that are settled, many that wait behind other keys.
        fixture
            .run(
                "insert into {schema}.dead_letters
                     (lane_id, source_offset, digest, partition, state, scope, group_name, topic,
                      message_key, forwarded_at)
                 select lane_id, n, n, 0, case n % 2 when 0 then 'replayed' else 'waiting' end,
                        'bill', group_name, topic, (n % 100)::text::bytea, now()
                 from {schema}.lanes cross join generate_series(1, 20000) as n;
                 insert into {schema}.parked_keys (lane_id, scope, message_key, waiting, is_released)
                 select lane_id, 'bill', n::text::bytea, 200, n = 7
                 from {schema}.lanes cross join generate_series(1, 99, 2) as n;
                 analyze {schema}.dead_letters; analyze {schema}.parked_keys",
            )
            .await;
        let next = store.released(&held, 0, 10).await.unwrap();
        let offsets: Vec<i64> = next.iter().map(|it| it.event.offset).collect();
        assert_eq!(offsets, (0..10).map(|n| n * 100 + 7).collect::<Vec<_>>());
        assert!(store.unforwarded(&[held.number], 10).await.unwrap().is_empty());

        // These run on connections that are not lent: their plans are asked for elsewhere.
        let queries = [
            ("released", RELEASED, "dead_letters_waiting_idx"),
            ("unforwarded", UNFORWARDED, "dead_letters_unforwarded_idx"),
        ];
        for (what, query, index) in queries {
            let explain = fixture.sql(&format!("explain (analyze, buffers, timing off) {query}"));
            let lines: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&fixture.app).await.unwrap();
            let plan = lines.join("\n");
            assert!(plan.contains(index), "{what}: {plan}");
            assert!(pages(&plan) < 100, "{what}: {plan}");
        }
    })
    .await;
}

const RELEASED: &str = "
    select next.dead_letter_id from {schema}.parked_keys key cross join lateral (
        select waiting.dead_letter_id, waiting.source_offset from {schema}.dead_letters waiting
        where waiting.lane_id = key.lane_id and waiting.scope = key.scope
          and sha256(waiting.message_key) = key.key_digest and waiting.state = 'waiting'
        order by waiting.source_offset limit 10
    ) as next
    where key.lane_id = (select min(lane_id) from {schema}.lanes) and key.is_released
    order by next.source_offset, next.dead_letter_id limit 10";

const UNFORWARDED: &str = "
    select dead_letter_id, payload from {schema}.dead_letters letter
    where letter.lane_id = any(array[1, 2]::bigint[]) and letter.state in ('dead', 'parked')
      and letter.forwarded_at is null
    order by dead_letter_id limit 10";

#[tokio::test]
async fn an_instance_is_forgotten_without_reading_the_markers_from_one_end_to_the_other() {
    on_schema(async |fixture: Fixture| {
        let name = format!("{} migrates", fixture.schema);
        let migrator = Postgres::builder_with(common::options().application_name(&name))
            .schema(&fixture.schema)
            .connect()
            .await
            .unwrap();
        migrator.migrate().await.unwrap();
        migrator.close().await;
        // What it has read is counted by then.
        let sessions =
            format!("select count(*) from pg_stat_activity where application_name = '{name}'");
        fixture.until("it is gone", &sessions, 0).await;

        let store = fixture.store().await;
        let group = "fleet.a";
        let seen = Instance { broadcast: "fleet", group, forget_after: None };
        store.keep_instance(&seen).await.unwrap();
        let scopes = [("bill@a", MarkerMode::Rows)];
        let broadcast = Some("fleet");
        let registration =
            Registration { group, scopes: &scopes, windows: &[], adopt: &[], retire: &[], broadcast };
        store.register(&registration).await.unwrap();
        let identity = LogIdentity::default();
        let lanes = [(0, Position::at(0))];
        let opening = Opening { group, topic: "orders", identity: &identity, lanes: &lanes };
        store.open_topic(&opening).await.unwrap();
        // Few among many, and more than what is looked at in one transaction.
        fixture
            .run(
                "insert into {schema}.markers (marker_id, lane_id, source_offset, scope, event_key)
                 select {schema}.marker_id(scope, n::text), lane_id, n, scope, n::text
                 from {schema}.lanes cross join generate_series(1, 40000) as n
                 cross join lateral (
                     select case n % 4 when 0 then 'bill@a' else 'ship' end as scope
                 ) as of;
                 analyze {schema}.markers;
                 update {schema}.instances set seen_at = now() - interval '1 hour'",
            )
            .await;
        let counted = |column: &str| {
            format!(
                "select {column} from pg_stat_user_tables where relid = '{{schema}}.markers'::regclass"
            )
        };
        let before = fixture.number(&counted("seq_scan")).await;
        let forget_after = Some(Duration::from_secs(60));
        let look = Instance { broadcast: "fleet", group: "fleet.b", forget_after };
        assert_eq!(store.keep_instance(&look).await.unwrap(), [group]);
        // A session counts what it has done when it ends, if not before.
        store.close().await;
        fixture.until("what was deleted is counted", &counted("n_tup_del"), 10_000).await;
        assert_eq!(fixture.number(&counted("seq_scan")).await, before);
        let left = "select count(*) from {schema}.markers where scope = 'ship'";
        assert_eq!((fixture.markers().await, fixture.number(left).await), (30_000, 30_000));
        let store = fixture.store().await;
        assert!(store.lanes(group, "orders").await.unwrap().is_empty());
        assert!(store.keep_instance(&look).await.unwrap().is_empty(), "it is gone");
    })
    .await;
}

#[tokio::test]
async fn a_packed_key_is_looked_for_in_its_scopes_rows_as_they_are_read() {
    on_store(async |fixture: Fixture, store: Postgres| {
        let held = fixture.lane(&store, 0).await;
        // A scope of many, in a lane of many.
        fixture
            .run(
                "insert into {schema}.packs (lane_id, log, slices, slice, scope, partitions,
                                             first_offset, last_offset, digests, data)
                 select lane_id + n % 20, 0, 0, 0, 'scope' || n / 20 % 20, 4, n, n, 50,
                        decode(repeat(md5(n::text), 50), 'hex')
                 from {schema}.lanes cross join generate_series(1, 40000) as n;
                 analyze {schema}.packs",
            )
            .await;
        assert_eq!(held.number, fixture.number("select max(lane_id) from {schema}.lanes").await);
        // These run on connections that are not lent: their plans are asked for elsewhere.
        for (what, query, index) in [
            ("in a scope", FIND_PACKED, "packs_scope_idx"),
            ("in a lane", FIND_PACKED_IN_LANE, "packs_pkey"),
        ] {
            let explain = fixture.sql(&format!("explain (analyze, buffers, timing off) {query}"));
            let lines: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&fixture.app).await.unwrap();
            let plan = lines.join("\n");
            assert!(plan.contains(index), "{what}: {plan}");
            assert!(!plan.contains("Seq Scan on packs"), "{what}: {plan}");
            // What is sorted is kept, or written to a file.
            assert!(!plan.contains("Sort"), "{what}: {plan}");
        }
    })
    .await;
}

const FIND_PACKED: &str = "
    select lane.group_name, lane.topic, lane.partition, pack.pack_id, pack.data
    from {schema}.packs pack join {schema}.lanes lane using (lane_id)
    where pack.scope = 'scope7' and position('\\x0123456789abcdef'::bytea in pack.data) > 0";

const FIND_PACKED_IN_LANE: &str = "
    select pack.pack_id, pack.data from {schema}.packs pack
    where pack.scope = 'scope7' and pack.lane_id = (select max(lane_id) from {schema}.lanes)
      and position('\\x0123456789abcdef'::bytea in pack.data) > 0 and pack.pack_id > 0
    order by pack.pack_id limit 16";
