use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, topic = "orders", payload_check = "deadletter")]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", payload_check)]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", fingerprint = "warn")]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
