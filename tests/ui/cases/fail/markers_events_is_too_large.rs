use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, topic = "orders", markers = packed(events = 100_000_000_000_000_000_000))]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
