use idem::idempotent;
use idem_ui_tests::*;

#[idempotent(key = ("event_id", order_id), store = Stub, topic = "orders")]
async fn bill(events: Vec<Option<OrderPlaced>>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    let _ = (events, tx);
    Ok(())
}

fn main() {}
