use idem::idempotent;
use idem_ui_tests::*;

struct Order {
    event_id: String,
}

#[idempotent(key = header("id"), store = Stub, topic = "orders")]
async fn bill(event: Option<Order>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    let _ = (event, tx);
    Ok(())
}

fn main() {}
