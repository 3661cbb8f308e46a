use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub, topic = "orders", markers = "packed")]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    let event = || OrderPlaced { event_id: String::new(), order_id: 7 };
    let _ = bill::process(&Stub, event());
    let _ = idem::Processor::new(Stub).process::<bill>(event());
}
