use idem::{EventTypes, idempotent};
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(EventTypes)]
enum OrderEvent {
    #[event_type("order.placed")]
    Placed(OrderPlaced),
}

#[idempotent(key = header("id"), store = Stub, topic = "orders", types = OrderEvent)]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {
    let OrderEvent::Placed(_) = OrderEvent::Placed(OrderPlaced { event_id: String::new() });
}
