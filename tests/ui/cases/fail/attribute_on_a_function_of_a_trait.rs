use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

trait Biller {
    #[idempotent(key = "event_id", store = Stub, topic = "orders")]
    async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error>;
}

fn main() {}
