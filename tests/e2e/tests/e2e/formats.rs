//! Avro with a registry, Protobuf, and tombstones.

use std::time::Duration;

use apache_avro::types::Value;
use idem::postgres::Postgres;
use idem::{
    Builder, Context, Counts, Kafka, LetterFilter, Replay, SchemaRegistry, Serves, Subscriber,
    TimestampKind, idempotent,
};
use idem_e2e_tests::{Registry, World, until};
use idem_test_services::Endpoints;
use prost::Message as _;
use serde::Deserialize;
use sqlx::PgConnection;

use crate::BIN;

/// Where a handler reads, and as whom.
pub(crate) struct Place {
    pub(crate) group: String,
    pub(crate) topic: String,
}

impl Place {
    pub(crate) fn of(world: &World) -> Self {
        Self { group: world.settings.group.clone(), topic: world.topic.clone() }
    }

    fn other(world: &World, name: &str) -> Self {
        let topic = format!("{}_{name}", world.topic);
        Self { group: format!("{}_{name}", world.settings.group), topic }
    }
}

/// Runs a handler until something has happened.
pub(crate) async fn run<H: Subscriber>(
    world: &World,
    place: &Place,
    registry: Option<SchemaRegistry>,
    happened: impl AsyncFnOnce(),
) -> Counts
where
    Postgres: Serves<H>,
{
    let store = world.settings.store().await.unwrap();
    let mut builder = Builder::new().kafka(Kafka::new(&world.settings.bootstrap));
    if let Some(registry) = registry {
        builder = builder.schema_registry(registry);
    }
    let builder = builder.group(&place.group).topic_name("orders", &place.topic);
    let app = builder.store(store).handler::<H>().build().unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    happened().await;
    handle.shutdown();
    run.await.unwrap().unwrap()
}

async fn invoice(
    tx: &mut PgConnection,
    scope: &str,
    id: &str,
    (number, cents): (i64, i64),
    customer: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into invoices values ($1, $2, $3, $4, $5)")
        .bind(scope)
        .bind(id)
        .bind(number)
        .bind(cents)
        .bind(customer)
        .execute(tx)
        .await?;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Order {
    event_id: String,
    order_id: i64,
    cents: i64,
    #[serde(default)]
    customer: Option<String>,
}

#[idempotent(key = "event_id", store = "postgres", topic = "orders", format = "avro")]
async fn bill_avro(order: Order, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let numbers = (order.order_id, order.cents);
    invoice(tx, "avro", &order.event_id, numbers, order.customer.as_deref()).await
}

/// The first schema of orders, and one with a field more, in another order.
const SCHEMAS: [&str; 2] = [
    r#"{"type": "record", "name": "Order", "fields": [
        {"name": "event_id", "type": "string"}, {"name": "order_id", "type": "long"},
        {"name": "cents", "type": "long"}]}"#,
    r#"{"type": "record", "name": "Order", "fields": [
        {"name": "customer", "type": ["null", "string"]}, {"name": "event_id", "type": "string"},
        {"name": "cents", "type": "long"}, {"name": "order_id", "type": "long"}]}"#,
];

/// An order in the schema of this id, 1 or 2; any other id is written as 1.
fn avro(id: u32, number: i64) -> Vec<u8> {
    let text = |text: String| Value::String(text);
    let event_id = ("event_id".to_owned(), text(format!("event-{number}")));
    let order_id = ("order_id".to_owned(), Value::Long(number));
    let cents = ("cents".to_owned(), Value::Long(number * 10));
    let customer = Value::Union(1, Box::new(text(format!("customer-{number}"))));
    let (schema, fields) = match id {
        2 => (SCHEMAS[1], vec![("customer".to_owned(), customer), event_id, cents, order_id]),
        _ => (SCHEMAS[0], vec![event_id, order_id, cents]),
    };
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let body = apache_avro::to_avro_datum(&schema, Value::Record(fields)).unwrap();
    [&[0][..], &id.to_be_bytes(), &body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_orders_wait_for_their_registry_and_are_billed_once() {
    let world = World::new("avro", 2, BIN).await;
    let registry = Registry::start();
    registry.away(true);
    let message = |id: u32, number: i64| {
        let partition = i32::from(number % 2 == 0);
        (partition, format!("event-{number}"), avro(id, number))
    };
    let numbers = (0..300).chain(0..100);
    let orders = numbers.map(|number| message(1 + u32::from(number % 3 == 0), number));
    world.kafka.produce_all(&world.topic, orders.chain([message(3, 300)]));
    let place = Place::of(&world);
    let reader = || SchemaRegistry::new(registry.url()).basic_auth("reader", "hunter2");
    let counts = run::<bill_avro>(&world, &place, Some(reader()), async || {
        until("the registry was asked", async || registry.asked() >= 3).await;
        assert_eq!((world.invoices().await, world.letters().await.len()), ((0, 0), 0));
        registry.schema(1, SCHEMAS[0]);
        registry.schema(2, SCHEMAS[1]);
        registry.away(false);
        world.until_drained().await;
    })
    .await;
    assert_eq!(world.invoices().await, (300, 300));
    assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), (300, 100, 1));
    let customers: i64 = sqlx::query_scalar("select count(customer) from invoices")
        .fetch_one(&world.db)
        .await
        .unwrap();
    assert_eq!(customers, 100, "of those that were written with the second schema");
    let letters = world.letters().await;
    let cause = letters[0].cause.clone().unwrap();
    assert_eq!(cause.class.as_str(), "decode");
    assert!(cause.error.contains("knows no schema 3"), "{}", cause.error);

    registry.schema(3, SCHEMAS[0]);
    let store = world.settings.store().await.unwrap();
    let replay = Replay::new(store, "ana").handler::<bill_avro>().schema_registry(reader());
    assert_eq!(replay.run(&LetterFilter::new()).await.unwrap().processed, 1);
    assert_eq!(world.invoices().await, (301, 301));
}

#[derive(Clone, PartialEq, prost::Message)]
struct Placed {
    #[prost(string, tag = "1")]
    event_id: String,
    #[prost(int64, tag = "2")]
    order_id: i64,
    #[prost(int64, tag = "3")]
    cents: i64,
}

impl Placed {
    fn of(number: i64) -> Self {
        Self { event_id: format!("event-{number}"), order_id: number, cents: number * 10 }
    }
}

#[idempotent(key = "event_id", store = "postgres", topic = "orders", format = "protobuf")]
async fn bill_protobuf(order: Placed, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let numbers = (order.order_id, order.cents);
    invoice(tx, "protobuf", &order.event_id, numbers, None).await
}

#[idempotent(
    key = "event_id",
    store = "postgres",
    topic = "orders",
    format = protobuf_registry(message = 1),
)]
async fn bill_framed(orders: Vec<Placed>, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    for order in orders {
        let numbers = (order.order_id, order.cents);
        invoice(&mut *tx, "framed", &order.event_id, numbers, None).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_orders_are_billed_once_with_a_frame_and_without() {
    let world = World::new("protobuf", 1, BIN).await;
    let (bare, framed) = (Place::of(&world), Place::other(&world, "framed"));
    world.kafka.create_topic(&framed.topic, 1, &[]).await;
    let messages = |frame: &'static [u8]| {
        (0..100).chain(0..30).map(move |number| {
            let payload = [frame, &Placed::of(number).encode_to_vec()].concat();
            (0, format!("event-{number}"), payload)
        })
    };
    world.kafka.produce_all(&bare.topic, messages(&[]));
    // The message is the second one of its file.
    world.kafka.produce_all(&framed.topic, messages(&[0, 0, 0, 0, 9, 2, 2]));
    // The first message of the file is another one, and a bare one has no frame.
    for payload in [&[0, 0, 0, 0, 9, 0][..], &Placed::of(7).encode_to_vec()] {
        world.kafka.produce_raw(&framed.topic, 0, "other", payload);
    }
    let drained = async |scope: &str, count: i64| {
        until("all are billed", async || {
            let billed: i64 = sqlx::query_scalar("select count(*) from invoices where scope = $1")
                .bind(scope)
                .fetch_one(&world.db)
                .await
                .unwrap();
            billed >= count
        })
        .await;
    };
    let counts = run::<bill_protobuf>(&world, &bare, None, async || {
        drained("protobuf", 100).await;
        world.until_drained().await;
    })
    .await;
    assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), (100, 30, 0));
    let counts = run::<bill_framed>(&world, &framed, None, async || {
        drained("framed", 100).await;
        until("two dead letters", async || world.letters().await.len() == 2).await;
    })
    .await;
    assert_eq!((counts.processed, counts.duplicates, counts.dead_lettered), (100, 30, 2));
    assert_eq!(world.invoices().await, (200, 200));
}

#[derive(Debug, Deserialize)]
struct Customer {
    cents: i64,
}

/// Keeps what a customer has, or that it is gone; and what the context says.
#[idempotent(key = offset, store = "postgres", topic = "orders")]
async fn follow(
    customer: Option<Customer>,
    cx: &Context,
    tx: &mut PgConnection,
) -> Result<(), idem::BoxError> {
    let age = cx.time().ok_or("no time")?.elapsed()?;
    if age > Duration::from_secs(600) || cx.timestamp_kind() != Some(TimestampKind::Created) {
        return Err(idem::permanent("the timestamp is another one").into());
    }
    if cx.topic().is_none() || cx.header("idempotency-key").is_none() {
        return Err(idem::permanent("the context is empty").into());
    }
    let id = format!("{}/{}", cx.partition().unwrap_or(-1), cx.offset().unwrap_or(-1));
    let name = std::str::from_utf8(cx.message_key().unwrap_or_default())?;
    let cents = customer.map_or(-1, |customer| customer.cents);
    invoice(tx, "follow", &id, (0, cents), Some(name)).await?;
    Ok(())
}

#[idempotent(key = header("idempotency-key"), store = "postgres", topic = "orders")]
async fn follow_many(
    customers: Vec<Option<Customer>>,
    contexts: &[Context],
    tx: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    for (customer, cx) in customers.into_iter().zip(contexts) {
        let cents = customer.map_or(-1, |customer| customer.cents);
        invoice(&mut *tx, "follow_many", cx.key().as_str(), (0, cents), None).await?;
    }
    Ok(())
}

#[idempotent(key = header("idempotency-key"), store = "postgres", topic = "orders")]
async fn follow_blindly(_: Customer, _: &mut PgConnection) -> Result<(), sqlx::Error> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_an_option_is_told_of_tombstones() {
    let endpoints = Endpoints::discover().unwrap();
    let compacted = [("cleanup.policy", "compact")];
    let world = World::with_topic(&endpoints, "tombstones", 1, &compacted, BIN).await;
    for (id, name, payload) in [
        ("1", "ann", Some(r#"{"cents": 5}"#)),
        ("2", "bob", Some(r#"{"cents": 7}"#)),
        ("3", "ann", None),
        ("3", "ann", None),
        ("4", "ann", Some(r#"{"cents": 9}"#)),
    ] {
        world.kafka.produce_as(&world.topic, name, id, payload.map(str::as_bytes));
    }
    let rows = async |scope: &str| -> Vec<(String, i64, Option<String>)> {
        let sql = "select event_id, cents, customer from invoices where scope = $1
                   order by written_at, event_id";
        sqlx::query_as(sql).bind(scope).fetch_all(&world.db).await.unwrap()
    };
    let row = |id: &str, cents, name: Option<&str>| (id.to_owned(), cents, name.map(str::to_owned));

    run::<follow>(&world, &Place::of(&world), None, async || world.until_drained().await).await;
    let (ann, bob) = (Some("ann"), Some("bob"));
    let expected =
        [("0/0", 5, ann), ("0/1", 7, bob), ("0/2", -1, ann), ("0/3", -1, ann), ("0/4", 9, ann)];
    assert_eq!(rows("follow").await, expected.map(|(id, cents, name)| row(id, cents, name)));

    let place = Place { group: format!("{}_many", world.settings.group), ..Place::of(&world) };
    run::<follow_many>(&world, &place, None, async || {
        until("all is followed", async || rows("follow_many").await.len() == 4).await;
    })
    .await;
    let expected = [("1", 5), ("2", 7), ("3", -1), ("4", 9)];
    assert_eq!(rows("follow_many").await, expected.map(|(id, cents)| row(id, cents, None)));

    let place = Place { group: format!("{}_blind", world.settings.group), ..Place::of(&world) };
    run::<follow_blindly>(&world, &place, None, async || {
        until("two dead letters", async || world.letters().await.len() == 2).await;
    })
    .await;
    let cause = world.letters().await[0].cause.clone().unwrap();
    assert!(cause.error.contains("tombstone") && cause.error.contains("Option"), "{}", cause.error);
}
