use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
    #[allow(dead_code, reason = "only its type matters")]
    order: Option<Order>,
}

#[derive(Deserialize)]
struct Order;

#[idempotent(key = ("event_id", "order"), missing_key = "stop", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
