use idem::EventTypes;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(EventTypes)]
enum OrderEvent {
    #[event_type("order.placed")]
    Placed(OrderPlaced),
    #[event_type("order.moved", "order.placed")]
    Moved(OrderPlaced),
}

fn main() {}
