use idem::idempotent;
use idem_ui_tests::*;

#[derive(serde::Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(
    key = "event_id",
    store = Stub,
    topic = "orders",
    types = "order.*",
    type_from = field("type"),
    format = "avro",
)]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
