use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, store_result = "16KiB")]
async fn bill(event: OrderPlaced) -> Result<i64, std::io::Error> {
    Ok(event.order_id)
}

#[idempotent(key = "event_id", store = Stub, store_result = 0)]
async fn ship(event: OrderPlaced) -> Result<i64, std::io::Error> {
    Ok(event.order_id)
}

fn main() {}
