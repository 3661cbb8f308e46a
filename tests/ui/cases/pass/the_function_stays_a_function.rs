use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, cx: &idem::Context, n: idem::State<u8>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    assert_eq!((cx.attempt(), *n), (1, 3));
    tx.execute(&event.event_id).await
}

async fn test() {
    let cx = idem::Context::new("bill", idem::Key::new("e1").unwrap());
    let event = OrderPlaced { event_id: "e1".into() };
    bill(event, &cx, idem::State::new(3), &mut StubConnection).await.unwrap();
}

fn main() {
    let _ = test();
}
