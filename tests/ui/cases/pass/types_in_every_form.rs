use idem::{Event, EventType, EventTypes, Subscriber, idempotent};
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

#[derive(Deserialize)]
struct OrderMoved {
    to: String,
}

#[derive(EventTypes)]
enum OrderEvent {
    #[event_type("order.placed", "order.placed.v2")]
    Placed(OrderPlaced),
    #[event_type("order.moved")]
    Moved(OrderMoved),
}

macro_rules! handlers {
    ($($name:ident [$($words:tt)+])+) => {$(
        #[idempotent(key = "event_id", store = Stub, topic = "orders", $($words)+)]
        async fn $name(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
            tx.execute(&event.event_id).await
        }
    )+};
}

handlers! {
    one [types = "order.*.us-west"]
    list [types = ["order.#", "return.placed"]]
    by_header [types = "#", type_from = header("ce_type")]
    by_field [types = "#", type_from = field("meta.type")]
    by_topic [types = "orders.*", type_from = topic]
}

#[idempotent(key = header("id"), store = Stub, topic = "orders", types = OrderEvent)]
async fn follow(event: OrderEvent, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    match event {
        OrderEvent::Placed(order) => tx.execute(&order.event_id).await,
        OrderEvent::Moved(order) => tx.execute(&order.to).await,
    }
}

mod events {
    pub(super) use super::OrderEvent as Orders;
}

#[idempotent(
    key = header("id"),
    store = Stub,
    topics = ["orders", regex("^orders\\.[a-z]{2,4}$")],
    types = events::Orders,
)]
async fn follow_batches(
    events: Vec<events::Orders>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    tx.execute(&events.len().to_string()).await
}

fn main() {
    assert_eq!(one::TYPES, Some(&["order.*.us-west"][..]));
    assert_eq!(list::TYPES, Some(&["order.#", "return.placed"][..]));
    assert_eq!((one::event_type(), one::BY_TYPE), (None, false));
    assert_eq!(by_header::event_type(), Some(EventType::header("ce_type")));
    assert_eq!(by_field::event_type(), Some(EventType::field("meta.type")));
    assert_eq!(by_topic::event_type(), Some(EventType::topic()));
    assert_eq!(follow::TYPES, Some(&["order.placed", "order.placed.v2", "order.moved"][..]));
    assert!(follow::BY_TYPE && follow_batches::BY_TYPE);
    assert_eq!(follow_batches::TOPICS, ["orders", "^orders\\.[a-z]{2,4}$"]);

    let placed = Event::new("orders".into(), 0, 0, r#"{"event_id":"e1"}"#);
    let moved = Event::new("orders".into(), 0, 1, r#"{"to":"us"}"#);
    for event_type in ["order.placed", "order.placed.v2"] {
        let decoded = follow::decode_as(&placed, event_type).unwrap();
        assert!(matches!(decoded, OrderEvent::Placed(order) if order.event_id == "e1"));
    }
    let decoded = follow::decode_as(&moved, "order.moved").unwrap();
    assert!(matches!(decoded, OrderEvent::Moved(order) if order.to == "us"));
    assert!(follow::decode_as(&moved, "order.placed").is_err());
    assert!(follow::decode_as(&moved, "order").is_err());
    assert!(follow::decode(&placed).is_err());
}
