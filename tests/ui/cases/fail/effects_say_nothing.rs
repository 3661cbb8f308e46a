use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, effects = "external")]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, effects = external())]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, effects = remote(unknown = "retry"))]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
