use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
    created_at: i64,
}

impl OrderPlaced {
    fn created_at(&self) -> i64 {
        self.created_at
    }
}

#[idempotent(key = with(OrderPlaced::created_at), store = Stub)]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
