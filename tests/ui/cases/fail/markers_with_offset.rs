use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = offset, store = Stub, topic = "orders", markers = "packed")]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = offset, store = Stub, topic = "orders", markers = packed(events = 5))]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = offset, store = Stub, topic = "orders", markers = "rows")]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
