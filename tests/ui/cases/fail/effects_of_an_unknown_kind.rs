use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, effects = external(unknown = "retri"))]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, effects = external(unknown = retry_after))]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, effects = external(unknown = retry_after("0s")))]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, effects = external(unknown = never("5m")))]
async fn call(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, effects = external(never))]
async fn sing(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
