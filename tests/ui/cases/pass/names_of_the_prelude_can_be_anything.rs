#![allow(unused, non_camel_case_types)]

mod core {}
mod std {}
mod alloc {}
mod idem {}

struct Result;
struct Option;
struct Vec;
struct Box;
struct Some;
struct Ok;
struct Send;
struct Future;
struct String;
struct Key;
struct Event;
struct Policy;
struct Retry;
struct Duration;
struct Many;
struct str;
struct bool;

use ::idem_ui_tests::OrderPlaced;

#[::idem::idempotent(key = ("order_id", "event_id"), store = ::idem_ui_tests::Stub, topic = "orders")]
async fn bill(
    event: OrderPlaced,
    cx: &::idem::Context,
    tx: &mut ::idem_ui_tests::StubConnection,
) -> ::std::result::Result<(), ::idem::Failure> {
    ::core::result::Result::Ok(())
}

#[::idem::idempotent(key = header("id"), store = ::idem_ui_tests::Stub, topic = "orders")]
async fn ship(event: OrderPlaced) -> ::std::result::Result<(), ::idem::Failure> {
    ::core::result::Result::Ok(())
}

fn is_permanent(_: &::idem::Failure) -> ::core::primitive::bool {
    true
}

#[::idem::idempotent(
    key = "event_id",
    store = ::idem_ui_tests::Stub,
    topic = "orders",
    retry(max = 5, backoff = "200ms..30s", jitter, total = "10m"),
    permanent = is_permanent,
    on_failure = park_key(limit = 5000),
    isolation = "serializable",
    timeout = "30s",
    order_by = "message_key",
)]
async fn audit(events: ::std::vec::Vec<OrderPlaced>) -> ::std::result::Result<(), ::idem::Failure> {
    ::core::result::Result::Ok(())
}

fn main() {
    let _ = bill::process;
}
