//! What "the same event" means: each kind of key, and events without one.

use idem::postgres::Postgres;
use idem::{
    Builder, Context, Counts, DeadLetter, DeadLetters, Idem, Kafka, Key, LetterEdit, LetterFilter,
    Outcome, Replay, Serves, Store as _, Subscriber, idempotent,
};
use idem_e2e_tests::kafka::NewMessage;
use idem_e2e_tests::{World, until};
use serde::Deserialize;
use sqlx::PgConnection;

use crate::BIN;

#[derive(Debug, Clone, Deserialize)]
struct Payment {
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    id: Option<String>,
    cents: i64,
}

impl Payment {
    fn reference(&self) -> Option<String> {
        self.id.as_ref().map(|id| format!("{id}-{}", self.cents))
    }
}

macro_rules! handlers {
    ($($name:ident [$($key:tt)+])+) => {$(
        #[idempotent(key = $($key)+, store = "postgres", topic = "orders")]
        async fn $name(
            event: Payment,
            cx: &Context,
            tx: &mut PgConnection,
        ) -> Result<(), idem::BoxError> {
            pay(event, cx, tx).await
        }
    )+};
}

handlers! {
    by_field_and_header [("tenant", header("request-id"))]
    by_message_key [message_key]
    by_content [content_hash]
    by_most_of_the_content [content_hash(except("sent_at", "trace"))]
    by_function [with(Payment::reference), tenant = "tenant", missing_key = "dead_letter"]
    unmarked ["id", missing_key = "process_without_guarantee"]
    buried ["id", missing_key = "dead_letter"]
    stopped ["id", missing_key = "stop"]
    hashed ["id", missing_key = "content_hash"]
}

/// Writes what it is told as an invoice; a negative amount is refused until it is mended.
async fn pay(event: Payment, cx: &Context, tx: &mut PgConnection) -> Result<(), idem::BoxError> {
    let sql = "insert into invoices (scope, event_id, order_id, cents) values ($1, $2, $3, $4)";
    let insert = sqlx::query(sql).bind(cx.scope()).bind(cx.key().as_str());
    insert.bind(cx.offset().unwrap_or(-1)).bind(event.cents).execute(&mut *tx).await?;
    let mended = "select exists (select from mended)";
    if event.cents < 0 && !sqlx::query_scalar::<_, bool>(mended).fetch_one(tx).await? {
        return Err(idem::permanent("a negative amount").into());
    }
    Ok(())
}

async fn app<H: Subscriber>(world: &World) -> Idem
where
    Postgres: Serves<H>,
{
    Builder::new()
        .kafka(Kafka::new(&world.settings.bootstrap))
        .group(&world.settings.group)
        .store(world.settings.store().await.unwrap())
        .topic_name("orders", &world.topic)
        .handler::<H>()
        .build()
        .unwrap()
}

/// Runs the handler until all there is was worked.
async fn drain<H: Subscriber>(world: &World) -> Counts
where
    Postgres: Serves<H>,
{
    let app = app::<H>(world).await;
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_drained().await;
    handle.shutdown();
    run.await.unwrap().unwrap()
}

fn payload(payload: &str) -> NewMessage<'_> {
    NewMessage { payload, ..NewMessage::default() }
}

async fn keys(world: &World) -> Vec<String> {
    let sql = "select event_id from invoices order by written_at, order_id";
    sqlx::query_scalar(sql).fetch_all(&world.db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_and_a_header_are_one_key_wherever_it_comes_from() {
    let world = World::new("key_tuple", 2, BIN).await;
    let (a, b) = (r#"{"tenant":"a","cents":1}"#, r#"{"tenant":"b","cents":1}"#);
    const ONE: &[(&str, &[u8])] =
        &[("request-id", b"1"), ("correlation-id", b"c1"), ("causation-id", b"e0")];
    const TWO: &[(&str, &[u8])] = &[("request-id", b"2")];
    let message = |partition, payload, id: &'static [(&'static str, &'static [u8])]| NewMessage {
        partition,
        headers: id,
        payload,
        key: None,
    };
    let messages = [
        message(0, a, ONE),
        message(1, a, ONE),
        message(0, a, TWO),
        message(1, b, ONE),
        message(0, b, ONE),
        // Without the header, and with one that is no text.
        message(0, a, &[("correlation-id", b"c1")]),
        message(1, a, &[("request-id", &[0xff])]),
    ];
    world.kafka.produce_messages(&world.topic, messages);
    let counts = drain::<by_field_and_header>(&world).await;
    assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), (3, 2, 2));
    let mut all = keys(&world).await;
    all.sort_unstable();
    assert_eq!(all, ["1:a,1:1", "1:a,1:2", "1:b,1:1"]);

    // Markers and letters say which chain they belong to.
    let store = world.settings.store().await.unwrap();
    let chain = async |key: &str| {
        let key = Key::written(key).unwrap();
        let marker = store.marker("by_field_and_header", &key).await.unwrap().unwrap();
        (marker.correlation_id, marker.causation_id)
    };
    assert_eq!(chain("1:a,1:1").await, (Some("c1".to_owned()), Some("e0".to_owned())));
    assert_eq!(chain("1:a,1:2").await, (None, None));
    let letters = DeadLetters::new(store.clone(), "ana");
    let of_chain = LetterFilter::new().correlation_id("c1");
    let found = letters.list(&of_chain).await.unwrap();
    let [letter] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&letter.key, letter.event.partition), (&None, 0));

    // With the header that it lacked, it is worked as any other, and still of its chain.
    let edit = LetterEdit::new().header("request-id", "3");
    letters.edit_event(letter.id, &edit, "it had none").await.unwrap();
    for expected in [1, 0] {
        let replay = Replay::new(store.clone(), "ana").handler::<by_field_and_header>();
        assert_eq!(replay.run(&of_chain).await.unwrap().processed, expected);
    }
    assert!(keys(&world).await.contains(&"1:a,1:3".to_owned()));
    assert_eq!(chain("1:a,1:3").await, (Some("c1".to_owned()), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_key_of_any_bytes_is_a_key() {
    let world = World::new("message_key", 2, BIN).await;
    let message_keys: [&[u8]; 5] = [b"c1", &[0xff, 0], b"0xff00", "é".as_bytes(), b"c2"];
    let messages = message_keys.iter().flat_map(|key| {
        let one = |partition| NewMessage { partition, key: Some(key), ..payload(r#"{"cents":1}"#) };
        [one(0), one(1)]
    });
    let without = payload(r#"{"cents":1}"#);
    let empty = NewMessage { key: Some(b""), ..without };
    world.kafka.produce_messages(&world.topic, messages.chain([without, empty]));
    let counts = drain::<by_message_key>(&world).await;
    assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), (5, 5, 2));
    let mut keys = keys(&world).await;
    keys.sort_unstable();
    assert_eq!(keys, ["0x307866663030", "0xff00", "c1", "c2", "é"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_in_other_words_is_one_event() {
    let world = World::new("content", 2, BIN).await;
    let same = [
        r#"{"cents":100,"tenant":"a","items":[1,{"x":1,"y":2}]}"#,
        "{ \"items\" : [ 1.0, {\"y\":2,\"x\":1} ],\n \"tenant\":\"\\u0061\", \"cents\": 100 }",
    ];
    let other = [
        r#"{"cents":100,"tenant":"a","items":[{"x":1,"y":2},1]}"#,
        r#"{"cents":100,"tenant":"a","items":[1,{"x":1,"y":null}]}"#,
    ];
    let at = |partition, text| NewMessage { partition, ..payload(text) };
    let same = same.iter().flat_map(|text| [at(0, text), at(1, text)]);
    world.kafka.produce_messages(&world.topic, same.chain(other.iter().map(|it| at(1, it))));
    let counts = drain::<by_content>(&world).await;
    assert_eq!((counts.processed, counts.duplicates), (3, 3));
    assert!(keys(&world).await.iter().all(|key| key.starts_with("sha256:")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_when_an_event_is_sent_again_can_be_left_out_of_its_content() {
    let world = World::new("content_except", 1, BIN).await;
    let messages = [
        r#"{"cents":1,"sent_at":1,"trace":"x"}"#,
        r#"{"cents":1,"sent_at":2}"#,
        r#"{"cents":2,"sent_at":1,"trace":"x"}"#,
    ];
    world.kafka.produce_messages(&world.topic, messages.map(payload));
    let counts = drain::<by_most_of_the_content>(&world).await;
    assert_eq!((counts.processed, counts.duplicates), (2, 1));
}

/// Two events with a key, one of them twice, and two without.
const SOME: [&str; 5] = [
    r#"{"id":"p1","cents":1}"#,
    r#"{"cents":2}"#,
    r#"{"id":"p1","cents":1}"#,
    r#"{"id":"","cents":2}"#,
    r#"{"id":"p2","cents":3}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_key_is_processed_each_time_it_is_sent_where_that_is_asked_for() {
    let world = World::new("unmarked", 1, BIN).await;
    for pass in 1..=2_i64 {
        world.kafka.produce_messages(&world.topic, SOME.map(payload));
        let counts = drain::<unmarked>(&world).await;
        let expected = if pass == 1 { (4, 2, 1) } else { (2, 2, 3) };
        assert_eq!((counts.processed, counts.unmarked, counts.duplicates), expected);
        assert_eq!(world.invoices().await.0, 2 + 2 * pass);
        assert_eq!(world.processed().await, 2, "markers");
    }
    let place = format!("{}/0/1", world.topic);
    assert!(keys(&world).await.contains(&place), "the handler was told the place");
    assert!(world.letters().await.is_empty());

    // The same without Kafka.
    let store = world.settings.store().await.unwrap();
    let event =
        |id: Option<&str>| Payment { tenant: String::new(), id: id.map(str::to_owned), cents: 7 };
    for (id, outcome) in [
        (None, Outcome::Processed(())),
        (None, Outcome::Processed(())),
        (Some("p1"), Outcome::Duplicate(None)),
    ] {
        assert_eq!(unmarked::process(&store, event(id)).await.unwrap(), outcome);
    }
    assert_eq!((world.invoices().await.0, world.processed().await), (8, 2));
    let error = buried::process(&store, event(None)).await.unwrap_err();
    assert_eq!(error.kind(), idem::ErrorKind::Key);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_key_is_buried_or_known_by_its_content() {
    let world = World::new("keyless", 1, BIN).await;
    for pass in 1..=2 {
        world.kafka.produce_messages(&world.topic, SOME.map(payload));
        let counts = drain::<buried>(&world).await;
        let expected = if pass == 1 { (2, 1, 2) } else { (0, 3, 2) };
        assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), expected);
    }
    let letters = world.letters().await;
    assert!(letters.iter().all(|it| it.key.is_none()) && letters.len() == 4, "{letters:?}");

    let world = World::new("keyless_hash", 1, BIN).await;
    for pass in 1..=2 {
        world.kafka.produce_messages(&world.topic, SOME.map(payload));
        world.kafka.produce_messages(&world.topic, [payload(r#"{ "cents" : 2 }"#)]);
        let counts = drain::<hashed>(&world).await;
        // The one with an empty id has another content than the one without an id.
        let expected = if pass == 1 { (4, 2) } else { (0, 6) };
        assert_eq!((counts.processed, counts.duplicates), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_key_stops_its_lane_where_that_is_asked_for() {
    let world = World::new("keyless_stop", 1, BIN).await;
    world.kafka.produce_messages(&world.topic, SOME.map(payload));
    let app = app::<stopped>(&world).await;
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    until("the lane stopped", async || handle.stopped_lanes().len() == 1).await;
    let line = handle.stopped_lanes().join("");
    let place = format!("topic {}, partition 0, offset 1, scope stopped", world.topic);
    assert!(line.contains(&place), "{line}");
    handle.shutdown();
    assert_eq!(run.await.unwrap().unwrap_err().kind(), idem::ErrorKind::Key);
    assert_eq!((world.invoices().await, world.positions().await), ((1, 1), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_key_of_a_tenant_is_hashed_and_its_dead_letter_replayed_once() {
    let world = World::new("long_key", 1, BIN).await;
    let id = "x".repeat(300);
    let event = |tenant: &str, cents: i64| {
        format!(r#"{{"tenant":"{tenant}","id":"{id}","cents":{cents}}}"#)
    };
    let texts = [event("a", 1), event("b", 1), event("a", 1), event("a", -1), event("a", -1)];
    world.kafka.produce_messages(&world.topic, texts.iter().map(|it| payload(it)));
    let counts = drain::<by_function>(&world).await;
    assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), (2, 2, 1));
    let letters = world.letters().await;
    let [DeadLetter { key: Some(key), .. }] = &letters[..] else { panic!("{letters:?}") };
    assert!(key.as_str().starts_with("sha256:"), "{key}");
    assert!(keys(&world).await.iter().all(|key| key.starts_with("sha256:")));

    sqlx::query("insert into mended values ('all')").execute(&world.db).await.unwrap();
    let filter = LetterFilter::new().key(key.as_str());
    for expected in [1, 0] {
        let store = world.settings.store().await.unwrap();
        let replay = Replay::new(store, "ana").handler::<by_function>();
        assert_eq!(replay.run(&filter).await.unwrap().processed, expected);
    }
    // Its marker is the replayed one's: sent again, it is a duplicate.
    world.kafka.produce_messages(&world.topic, texts.iter().map(|it| payload(it)));
    assert_eq!(drain::<by_function>(&world).await.duplicates, 5);
    assert_eq!(world.invoices().await, (3, 3));
}
