use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
fn bill(event: OrderPlaced, _: &mut StubConnection) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}

fn main() {
    let _ = bill::process(&Stub, OrderPlaced { event_id: String::new() });
}
