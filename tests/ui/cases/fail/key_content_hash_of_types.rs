use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = content_hash, store = Stub, topic = "orders", types = "order.*")]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(
    key = header("id"),
    store = Stub,
    topic = "orders",
    types = "order.*",
    missing_key = "content_hash"
)]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
