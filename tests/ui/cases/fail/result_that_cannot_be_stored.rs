use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

struct Receipt(#[expect(dead_code)] i64);

#[idempotent(key = "event_id", store = Stub, store_result)]
async fn bill(event: OrderPlaced) -> Result<Receipt, std::io::Error> {
    Ok(Receipt(event.order_id))
}

fn main() {}
