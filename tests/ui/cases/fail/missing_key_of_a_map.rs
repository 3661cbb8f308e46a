use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
    #[allow(dead_code, reason = "only its type matters")]
    labels: std::collections::HashMap<String, String>,
}

#[idempotent(key = ("event_id", "labels"), missing_key = "stop", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
