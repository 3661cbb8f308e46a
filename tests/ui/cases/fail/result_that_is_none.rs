use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, store_result)]
async fn bill(event: OrderPlaced) -> i64 {
    event.order_id
}

fn main() {}
