use idem::idempotent;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = String)]
async fn bill(event: OrderPlaced) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}

fn main() {}
