use idem::{Handler, idempotent};
use idem_ui_tests::*;

#[idempotent(key = "event_id", store = Stub, topic = "orders", order_by = "message_key")]
async fn four(event: OrderPlaced) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}

#[idempotent(slices = 256, order_by = message_key, key = header("id"), store = Stub, topic = "orders")]
async fn many(event: OrderPlaced) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}

fn main() {
    assert_eq!(four::POLICY.slices, Some(4));
    assert_eq!(many::POLICY.slices, Some(256));
}
