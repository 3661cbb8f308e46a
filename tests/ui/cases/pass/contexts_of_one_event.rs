use idem::{Context, idempotent};
use idem_ui_tests::*;

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, contexts: &[Context]) -> Result<(), std::io::Error> {
    assert_eq!(contexts[0].key().as_str(), event.event_id);
    Ok(())
}

fn main() {
    let _ = bill::process;
}
