use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

use idem::Store as _;

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn spawn<F: Future<Output: Send> + Send + 'static>(_: F) {}

fn main() {
    spawn(async {
        let event = OrderPlaced { event_id: "e1".into() };
        bill::process(&Stub, event).await
    });
    spawn(async {
        let event = OrderPlaced { event_id: "e1".into() };
        idem::Processor::new(Stub).process::<bill>(event).await
    });
    let order = 7;
    spawn(async move {
        Stub.process_if_new("scope", "key", async |tx: &mut StubConnection| {
            tx.execute("insert").await?;
            Ok(order)
        })
        .await
    });
    spawn(async { Stub.is_processed("scope", "key").await });
    spawn(async { Stub.mark_processed("scope", "key", None).await });
}
