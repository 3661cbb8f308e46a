use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, store_result)]
async fn bill(event: OrderPlaced) -> Result<impl Sized, std::io::Error> {
    Ok(event.order_id)
}

fn main() {}
