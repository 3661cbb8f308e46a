use idem::idempotent;
use idem_ui_tests::*;

struct Order {
    event_id: String,
}

#[idempotent(key = ("source", "id"), store = Stub, topic = "orders", format = "cloudevents")]
async fn bill(event: idem::CloudEvent<Order>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.data.event_id).await
}

fn main() {}
