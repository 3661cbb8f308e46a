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

fn main() {
    let _ = bill::process;
}
