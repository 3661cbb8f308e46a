use idem::EventTypes;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(EventTypes)]
enum OrderEvent {
    #[event_type("order.placed")]
    #[event_type("order.placed.v2")]
    Placed(OrderPlaced),
}

fn main() {}
