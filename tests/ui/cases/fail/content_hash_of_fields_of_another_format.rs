use idem::idempotent;
use idem_ui_tests::*;

#[derive(Clone, PartialEq, prost::Message)]
struct Placed {
    #[prost(string, tag = "1")]
    event_id: String,
}

#[idempotent(
    key = content_hash("event_id"),
    store = Stub,
    topic = "orders",
    format = "protobuf"
)]
async fn bill(event: Placed, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {}
