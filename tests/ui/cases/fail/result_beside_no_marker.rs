use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = offset, store = Stub, topic = "orders", store_result, payload_check = "warn")]
async fn bill(event: OrderPlaced) -> Result<i64, std::io::Error> {
    Ok(event.order_id)
}

fn main() {}
