use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill() -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let _ = bill::process(&Stub, OrderPlaced { event_id: String::new() });
}
