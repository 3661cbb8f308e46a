use idem::idempotent;
use serde::Deserialize;

#[idempotent(key = "event_id", store = Stub)]
#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

fn main() {
    let _ = OrderPlaced { event_id: String::new() };
}
