use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(events: &[OrderPlaced], tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&events[0].event_id).await
}

fn main() {}
