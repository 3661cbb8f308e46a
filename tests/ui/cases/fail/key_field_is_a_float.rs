use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    tenant: u32,
    event_id: f64,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    let _ = (event.tenant, event.event_id);
    tx.execute("").await
}

fn main() {}
