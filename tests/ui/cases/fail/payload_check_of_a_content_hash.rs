use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = content_hash, store = Stub, topic = "orders", payload_check = "stop")]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
