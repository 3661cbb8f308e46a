use idem::EventTypes;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(EventTypes)]
struct OrderEvent {
    placed: OrderPlaced,
}

fn main() {}
