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
