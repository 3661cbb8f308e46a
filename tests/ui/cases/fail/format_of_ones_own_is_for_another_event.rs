use idem::idempotent;
use idem_ui_tests::*;

struct Numbers;

impl idem::Format<i64> for Numbers {
    fn decode(_: &idem::Event) -> Result<i64, idem::DecodeError> {
        Ok(7)
    }
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", format = Numbers)]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
