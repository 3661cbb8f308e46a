use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", retry(max = 0, backof = "5", max = 3), on_failure = park_key(limit = 0), timeout = "0s", slices = 0)]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {
    let _ = bill::process(&Stub, OrderPlaced { event_id: String::new() });
}
