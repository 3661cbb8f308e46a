use idem::{Encoded, Event, Schemas, Subscriber, idempotent};
use idem_ui_tests::*;

#[idempotent(key = header("id"), store = Stub, topic = "customers")]
async fn one(event: Option<OrderPlaced>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    match event {
        Some(event) => tx.execute(&event.event_id).await,
        None => tx.execute("delete").await,
    }
}

#[idempotent(key = offset, store = Stub, topic = "customers", format = "cloudevents")]
async fn many(
    events: Vec<std::option::Option<idem::CloudEvent<OrderPlaced>>>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    for event in events.into_iter().flatten() {
        tx.execute(&event.data.event_id).await?;
    }
    Ok(())
}

fn main() {
    let schemas = Schemas::none();
    let mut event = Event::new("customers".into(), 0, 0, r#"{"event_id": "e1", "order_id": 7}"#);
    let decoded = one::decode(Encoded::new(&event, &schemas)).unwrap();
    assert_eq!(decoded.unwrap().order_id, 7);
    event.payload = None;
    assert!(one::decode(Encoded::new(&event, &schemas)).unwrap().is_none());
    assert!(many::decode(Encoded::new(&event, &schemas)).unwrap().is_none());
    // A payload that says `null` is one.
    event.payload = Some("null".into());
    assert!(one::decode(Encoded::new(&event, &schemas)).is_err());
}
