use idem::idempotent;
use idem_ui_tests::*;

#[idempotent(key = "event_id", store = Stub, topic = "orders", format = "protobuff")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
