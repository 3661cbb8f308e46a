extern crate alloc;

use idem::{Context, Handler, Many, State, Subscriber, idempotent};
use idem_ui_tests::*;

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(events: Vec<OrderPlaced>, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&events[0].event_id).await
}

/// With all that a handler can ask for.
#[idempotent(key = ("event_id", order_id), store = Stub, topic = "orders", retry(max = 3))]
async fn with_contexts(
    mut events: std::vec::Vec<OrderPlaced>,
    contexts: &[Context],
    limit: State<usize>,
    tx: &mut StubConnection,
) -> Result<(), idem::Failure> {
    events.truncate(*limit);
    for (event, cx) in events.iter().zip(contexts) {
        tx.execute(&format!("{} {}", event.event_id, cx.key())).await?;
    }
    Ok(())
}

#[idempotent(key = header("id"), store = Stub, topic = "orders")]
async fn by_header(events: ::alloc::vec::Vec<OrderPlaced>) -> Result<(), std::io::Error> {
    drop(events);
    Ok(())
}

#[idempotent(key = offset, store = Stub, topic = "orders")]
async fn of_vectors(events: Vec<Vec<u8>>) -> Result<(), std::io::Error> {
    drop(events);
    Ok(())
}

/// One event that is a list.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Orders(Vec<OrderPlaced>);

#[idempotent(key = header("id"), store = Stub, topic = "orders")]
async fn of_a_list(event: Orders) -> Result<(), std::io::Error> {
    drop(event.0);
    Ok(())
}

fn batch<H: Handler<Input = Many<E>> + Subscriber, E>() {}

fn main() {
    batch::<bill, OrderPlaced>();
    batch::<with_contexts, OrderPlaced>();
    batch::<by_header, OrderPlaced>();
    batch::<of_vectors, Vec<u8>>();
    let event = OrderPlaced { event_id: "e1".into(), order_id: 7 };
    assert_eq!(bill::key(&event, None).unwrap().as_str(), "e1");
    assert_eq!(with_contexts::key(&event, None).unwrap().as_str(), "2:e1,1:7");
    let _ = bill::process(&Stub, event);
}
