use idem::idempotent;
use idem_ui_tests::*;

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: Option<OrderPlaced>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    let _ = (event, tx);
    Ok(())
}

fn main() {}
