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

#[idempotent(
    key = header("id"),
    store = Stub,
    topic = "orders",
    types = OrderEvent,
    format = "cloudevents",
)]
async fn bill(event: OrderEvent, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    let OrderEvent::Placed(order) = event;
    tx.execute(&order.event_id).await
}

fn main() {}
