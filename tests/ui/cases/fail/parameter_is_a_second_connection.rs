use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(
    event: OrderPlaced,
    tx: &mut StubConnection,
    cx: &idem::Context,
    tx2: &mut StubConnection,
) -> Result<(), std::io::Error> {
    let _ = (cx, tx2);
    tx.execute(&event.event_id).await
}

fn main() {}
