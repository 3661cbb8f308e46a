use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, topic = "orders", store_result)]
async fn bill(events: Vec<OrderPlaced>) -> Result<usize, std::io::Error> {
    Ok(events.len())
}

fn main() {}
