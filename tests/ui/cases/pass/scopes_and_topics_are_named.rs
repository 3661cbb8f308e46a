use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topics = ["orders", "orders.v2",], scope = "billing.v1",)]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

#[idempotent(key = "event_id", store = Stub)]
async fn r#match(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {
    assert_eq!(<bill as idem::Handler>::SCOPE, "billing.v1");
    assert_eq!(<bill as idem::Subscriber>::TOPICS, ["orders", "orders.v2"]);
    assert_eq!(<r#match as idem::Handler>::SCOPE, "match");
}
