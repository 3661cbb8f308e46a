use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, topic = "orders", markers = "packed", store_result)]
async fn bill(event: OrderPlaced) -> Result<i64, std::io::Error> {
    Ok(event.order_id)
}

#[idempotent(
    key = "event_id",
    store = Stub,
    topic = "orders",
    markers = packed(window = "7d"),
    payload_check = "warn",
)]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(
    key = "event_id",
    store = Stub,
    topic = "orders",
    effects = external(unknown = "never"),
    markers = packed,
)]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
