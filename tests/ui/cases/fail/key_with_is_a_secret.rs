use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

impl OrderPlaced {
    fn access_token(&self) -> &str {
        &self.event_id
    }
}

#[idempotent(key = ("event_id", with(OrderPlaced::access_token)), store = Stub)]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
