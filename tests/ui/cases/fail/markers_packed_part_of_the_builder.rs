use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, topic = "orders", markers = packed(window = "7d", stale = "skip", memory = 1024))]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
