use idem::idempotent;
use idem_ui_tests::*;

#[idempotent(key = header("id"), store = Stub)]
async fn bill(event: Option<OrderPlaced>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    let _ = (event, tx);
    Ok(())
}

fn main() {}
