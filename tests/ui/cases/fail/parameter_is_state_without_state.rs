use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, mailer: &Mailer, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    let _ = mailer;
    tx.execute(&event.event_id).await
}

struct Mailer;

fn main() {}
