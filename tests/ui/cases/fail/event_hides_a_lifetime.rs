use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: Borrowed, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

#[derive(Deserialize)]
struct Borrowed<'a> {
    event_id: &'a str,
}

fn main() {}
