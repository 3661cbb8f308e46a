use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = offset, store = Stub, topic = "orders", effects = external(unknown = "never"))]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", effects = external(unknown = "never"))]
async fn ship(_events: Vec<OrderPlaced>) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(
    key = "event_id",
    store = Stub,
    topic = "orders",
    on_failure = "park_key",
    effects = external(unknown = "never")
)]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(
    key = "reference",
    store = Stub,
    topic = "orders",
    missing_key = "process_without_guarantee",
    effects = external(unknown = "never")
)]
async fn call(_event: Referred) -> Result<(), std::io::Error> {
    Ok(())
}

#[derive(serde::Deserialize)]
struct Referred {
    reference: Option<String>,
}

fn main() {}
