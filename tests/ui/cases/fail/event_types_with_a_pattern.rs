use idem::EventTypes;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(EventTypes)]
enum OrderEvent {
    #[event_type("order.*")]
    Placed(OrderPlaced),
}

fn main() {}
