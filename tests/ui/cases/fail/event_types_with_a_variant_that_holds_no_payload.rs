use idem::EventTypes;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(EventTypes)]
enum OrderEvent {
    #[event_type("order.placed")]
    Placed,
    #[event_type("order.moved")]
    Moved { order: OrderPlaced },
    #[event_type("order.split")]
    Split(OrderPlaced, OrderPlaced),
}

fn main() {}
