use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {
    assert_eq!(<bill as idem::Handler>::SCOPE, "bill");
    assert_eq!(<bill as idem::Handler>::KEY, idem::KeySource::Event);
    assert_eq!(<bill as idem::Subscriber>::TOPICS, ["orders"]);
    let event = OrderPlaced { event_id: "e1".into() };
    let key = <bill as idem::Handler>::key(&event, None).unwrap();
    assert_eq!(key.as_str(), "e1");
}
