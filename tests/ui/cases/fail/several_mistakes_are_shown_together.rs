use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(kye = "event_id", store = "postgress", topic = "new orders", scope = "a b")]
fn bill(event: &OrderPlaced, tx: &mut StubConnection) {
    drop((event, tx));
}

fn main() {
    let _ = bill::process(&Stub, OrderPlaced { event_id: String::new() });
}
