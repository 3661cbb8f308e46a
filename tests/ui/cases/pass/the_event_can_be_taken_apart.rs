use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(OrderPlaced { event_id, .. }: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event_id).await
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn ship(mut event: OrderPlaced, #[allow(unused)] tx: &mut StubConnection) -> Result<(), std::io::Error> {
    event.event_id.clear();
    Ok(())
}

#[idempotent(key = "0.event_id", store = Stub, topic = "orders")]
async fn pair((event, _): (OrderPlaced, u8), tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
