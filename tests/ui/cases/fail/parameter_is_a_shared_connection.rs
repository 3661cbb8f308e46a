use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &StubConnection) -> Result<(), std::io::Error> {
    let _ = (event.event_id, tx);
    Ok(())
}

fn main() {}
