//! A crate with the strictest lints.
#![forbid(nonstandard_style, unsafe_code, missing_docs, unused)]
#![deny(warnings, future_incompatible, rust_2018_idioms, let_underscore)]
#![deny(unreachable_pub, single_use_lifetimes, unused_qualifications, missing_debug_implementations)]

use idem::{Context, State, idempotent};
use idem_ui_tests::*;

/// Bills an order.
#[idempotent(key = "event_id", store = Stub, topic = "orders")]
pub async fn bill_order(
    event: OrderPlaced,
    _cx: &Context,
    limit: State<u32>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    if *limit > 0 { tx.execute(&event.event_id).await } else { Ok(()) }
}

/// Audits orders.
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
    slices = 8,
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

fn is_permanent(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

#[idempotent(key = header("id"), store = Stub, topic = "orders")]
async fn in_private(event: OrderPlaced) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}

#[idempotent(key = ("event_id", "order_id"), store = Stub)]
#[cfg(any())]
async fn not_compiled(event: Missing) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    assert_eq!(<in_private as idem::Handler>::SCOPE, "in_private");
}
