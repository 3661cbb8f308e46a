//! What the attribute makes of a handler, without Kafka and without a database: decoding an event and
//! finding its key, beside the same two lines written by hand.
//!
//! A handler with a field as its key must cost what the two lines cost, whatever else the attribute can
//! do; what it can do costs those who ask for it. `cargo bench --package idem-bench`.

#![expect(clippy::print_stdout, reason = "a program that talks")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use idem::{BoxError, Encoded, Event, EventOf, Key, Schemas, Subscriber, idempotent};
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

/// How many events, which are gone through again and again.
const EVENTS: u64 = 1000;
/// How often all of them are gone through in one measurement.
const PASSES: u32 = 50;
/// How many measurements, of all contenders in turns.
const ROUNDS: usize = 21;

#[derive(Deserialize)]
struct Order {
    event_id: Uuid,
    order_id: i64,
    cents: i64,
}

#[idempotent(key = "event_id", store = "postgres", topic = "orders")]
async fn by_field(order: Order, _db: &mut PgConnection) -> Result<(), sqlx::Error> {
    black_box((order.order_id, order.cents));
    Ok(())
}

#[idempotent(key = header("event-id"), store = "postgres", topic = "orders")]
async fn by_header(order: Order, _db: &mut PgConnection) -> Result<(), sqlx::Error> {
    black_box(order);
    Ok(())
}

#[idempotent(
    key = ("event_id", "order_id", header("event-id")),
    tenant = header("tenant"),
    store = "postgres",
    topic = "orders"
)]
async fn by_four_parts(order: Order, _db: &mut PgConnection) -> Result<(), sqlx::Error> {
    black_box(order);
    Ok(())
}

#[idempotent(key = content_hash, store = "postgres", topic = "orders")]
async fn by_content(order: Order, _db: &mut PgConnection) -> Result<(), sqlx::Error> {
    black_box(order);
    Ok(())
}

fn events() -> Vec<Event> {
    (0..EVENTS)
        .map(|order| {
            let id = Uuid::from_u128(u128::from(order) << 64 | 0x5eed);
            let payload = format!(
                r#"{{"event_id":"{id}","order_id":{order},"customer":"customer-{order:05}","cents":{},"currency":"EUR","placed_at":"2026-03-14T09:26:53Z","note":"leave it with the neighbours"}}"#,
                order * 7
            );
            let offset = i64::try_from(order).unwrap_or(i64::MAX);
            let mut event = Event::new(Arc::from("orders"), 0, offset, payload);
            let headers = [("event-id", id.to_string()), ("tenant", "acme".to_owned())];
            event.headers = headers.map(|(name, value)| (name, Some(value))).into_iter().collect();
            event
        })
        .collect()
}

/// The two lines.
fn by_hand(event: &Event) -> Result<(Order, Key), BoxError> {
    let order: Order = serde_json::from_slice(event.payload.as_deref().unwrap_or_default())?;
    let key = Key::new(order.event_id.to_string())?;
    Ok((order, key))
}

fn by_attribute<H: Subscriber>(
    event: &Event,
    schemas: &Schemas,
) -> Result<(EventOf<H>, Key), BoxError> {
    let order = H::decode(Encoded::new(event, schemas))?;
    let key = H::key(&order, Some(event))?;
    Ok((order, key))
}

/// The time of an event.
fn measured<T>(
    events: &[Event],
    act: impl Fn(&Event) -> Result<T, BoxError>,
) -> Result<Duration, BoxError> {
    let began = Instant::now();
    for event in (0..PASSES).flat_map(|_| events) {
        black_box(act(black_box(event))?);
    }
    Ok(began.elapsed() / (PASSES * u32::try_from(events.len())?))
}

/// What it is called, and one measurement of it.
type Contender<'a> = (&'static str, Box<dyn Fn() -> Result<Duration, BoxError> + 'a>);

fn main() -> Result<(), BoxError> {
    // Under `cargo test` it is only seen whether it runs.
    let rounds = if std::env::args().any(|it| it == "--bench") { ROUNDS } else { 1 };
    let (events, schemas) = (events(), Schemas::none());
    let schemas = &schemas;
    let contenders: [Contender<'_>; 5] = [
        ("by hand", Box::new(|| measured(&events, by_hand))),
        ("a field", Box::new(|| measured(&events, |it| by_attribute::<by_field>(it, schemas)))),
        ("a header", Box::new(|| measured(&events, |it| by_attribute::<by_header>(it, schemas)))),
        (
            "three parts and a tenant",
            Box::new(|| measured(&events, |it| by_attribute::<by_four_parts>(it, schemas))),
        ),
        (
            "a hash of the content",
            Box::new(|| measured(&events, |it| by_attribute::<by_content>(it, schemas))),
        ),
    ];
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for place in 0..contenders.len() {
            let place = (place + round) % contenders.len();
            times[place].push(contenders[place].1()?);
        }
    }
    println!("| key | ns/event | of that by hand | least and most ns |");
    println!("| :-- | --: | --: | --: |");
    times.iter_mut().for_each(|times| times.sort_unstable());
    let hand = times[0][rounds / 2].as_secs_f64();
    for ((name, _), times) in contenders.iter().zip(&times) {
        let median = times[rounds / 2];
        println!(
            "| {name} | {} | {:.2} | {}-{} |",
            median.as_nanos(),
            median.as_secs_f64() / hand,
            times[0].as_nanos(),
            times[rounds - 1].as_nanos()
        );
    }
    Ok(())
}
