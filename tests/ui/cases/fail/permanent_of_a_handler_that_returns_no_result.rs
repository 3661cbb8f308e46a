use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(Debug)]
enum BillingError {
    Refused,
}

impl std::fmt::Display for BillingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for BillingError {}

fn is_permanent(_: &BillingError) -> bool {
    true
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", permanent = is_permanent)]
async fn bill(event: OrderPlaced) -> Option<()> {
    drop(event);
    None
}

fn main() {}
