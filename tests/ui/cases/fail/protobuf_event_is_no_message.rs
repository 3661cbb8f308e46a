use idem::idempotent;
use idem_ui_tests::*;

struct Order {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", format = "protobuf")]
async fn bill(event: Order, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
