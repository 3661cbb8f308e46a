use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    order: Order,
}

#[derive(Deserialize)]
struct Order {
    id: String,
}

#[idempotent(key = order.idd, store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.order.id).await
}

fn main() {}
