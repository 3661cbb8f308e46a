//! Nothing to run: clippy, which CI runs on all targets, finds no fault with generated code.
#![forbid(nonstandard_style, unsafe_code)]
#![deny(missing_docs, clippy::all, clippy::pedantic)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]
#![deny(clippy::missing_docs_in_private_items)]

use idem::{Context, Handler, State, idempotent};
use idem_ui_tests::{OrderPlaced, Stub, StubConnection};

/// A handler with everything.
///
/// # Errors
/// When the connection fails.
#[idempotent(key = ("event_id", order_id), store = Stub, topics = ["orders", "returns"])]
pub async fn bill_order(
    event: OrderPlaced,
    cx: &Context,
    limit: State<i64>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    if event.order_id < *limit && cx.attempt() < 3 {
        tx.execute(&event.event_id).await?;
    }
    Ok(())
}

/// A batch handler with every word.
///
/// # Errors
/// When the connection fails.
#[idempotent(
    key = "event_id",
    store = Stub,
    topic = "orders",
    retry(max = 5, backoff = "200ms..30s", jitter, total = "10m"),
    permanent = is_permanent,
    on_failure = park_key(limit = 5000),
    isolation = "serializable",
    timeout = "30s",
    order_by = "message_key",
    slices = 8
)]
pub async fn audit_orders(
    events: Vec<OrderPlaced>,
    contexts: &[Context],
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    for (event, _) in events.iter().zip(contexts) {
        tx.execute(&event.event_id).await?;
    }
    Ok(())
}

/// One with a key of every kind.
///
/// # Errors
/// When the connection fails.
#[idempotent(
    key = ("event_id", header("id"), message_key, content_hash(except("sent_at")), with(number)),
    tenant = order_id,
    missing_key = "dead_letter",
    store = Stub,
    topic = "orders"
)]
pub async fn keep_orders(
    event: OrderPlaced,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

/// One with a key made by a function, which is allowed what is not needed.
///
/// # Errors
/// When the connection fails.
#[idempotent(
    key = with(always),
    tenant = header("authorization"),
    store = Stub,
    topic = "orders",
    allow(secret_key, reason = "a test has no secrets")
)]
pub async fn number_orders(
    event: OrderPlaced,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

/// Its number, if it has one.
fn number(event: &OrderPlaced) -> Option<i64> {
    (event.order_id > 0).then_some(event.order_id)
}

/// Its number, always.
fn always(event: &OrderPlaced) -> i64 {
    event.order_id
}

/// Whether trying again is of no use.
fn is_permanent(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

/// A private one, keyed by its place.
#[idempotent(key = offset, store = Stub, topic = "orders")]
async fn count(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

#[test]
fn handlers_are_registered_by_their_names() {
    assert_eq!(
        [bill_order::SCOPE, audit_orders::SCOPE, count::SCOPE],
        ["bill_order", "audit_orders", "count"]
    );
}
