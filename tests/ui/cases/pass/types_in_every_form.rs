use idem::{CloudEvent, Encoded, Event, EventType, EventTypes, Schemas, Subscriber, idempotent};
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
    #[event_type("order.closed")]
    Closed(serde::de::IgnoredAny),
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
        OrderEvent::Closed(_) => tx.execute("closed").await,
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

#[idempotent(key = header("id"), store = Stub, topic = "orders", types = OrderEvent)]
async fn forget(
    event: Option<OrderEvent>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    tx.execute(if event.is_some() { "changed" } else { "deleted" }).await
}

#[idempotent(
    key = ("source", "id"),
    store = Stub,
    topic = "orders",
    types = "order.#",
    type_from = field("type"),
    format = "cloudevents",
)]
async fn cloud(
    event: CloudEvent<OrderPlaced>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    tx.execute(&event.data.event_id).await
}

#[idempotent(key = header("id"), store = Stub, topic = "orders", types = "#", format = "protobuf")]
async fn binary(event: (), tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&format!("{event:?}")).await
}

fn read<H: Subscriber>(event: &Event) -> Result<idem::EventOf<H>, idem::DecodeError> {
    H::decode(Encoded::new(event, &Schemas::none()))
}

fn read_as<H: Subscriber>(
    event: &Event,
    event_type: &str,
) -> Result<idem::EventOf<H>, idem::DecodeError> {
    H::decode_as(Encoded::new(event, &Schemas::none()), event_type)
}

fn main() {
    assert_eq!(one::TYPES, Some(&["order.*.us-west"][..]));
    assert_eq!(list::TYPES, Some(&["order.#", "return.placed"][..]));
    assert_eq!((one::event_type(), one::BY_TYPE), (None, false));
    assert_eq!(by_header::event_type(), Some(EventType::header("ce_type")));
    assert_eq!(by_field::event_type(), Some(EventType::field("meta.type")));
    assert_eq!(by_topic::event_type(), Some(EventType::topic()));
    let types = ["order.placed", "order.placed.v2", "order.moved", "order.closed"];
    assert_eq!(follow::TYPES, Some(&types[..]));
    assert!(follow::BY_TYPE && follow_batches::BY_TYPE);
    assert_eq!(follow_batches::TOPICS, ["orders", "^orders\\.[a-z]{2,4}$"]);

    let placed = Event::new("orders".into(), 0, 0, r#"{"event_id":"e1"}"#);
    let moved = Event::new("orders".into(), 0, 1, r#"{"to":"us"}"#);
    for event_type in ["order.placed", "order.placed.v2"] {
        let decoded = read_as::<follow>(&placed, event_type).unwrap();
        assert!(matches!(decoded, OrderEvent::Placed(order) if order.event_id == "e1"));
    }
    let decoded = read_as::<follow>(&moved, "order.moved").unwrap();
    assert!(matches!(decoded, OrderEvent::Moved(order) if order.to == "us"));
    // Whatever it says.
    for event in [&placed, &moved] {
        let decoded = read_as::<follow>(event, "order.closed");
        assert!(matches!(decoded, Ok(OrderEvent::Closed(_))));
    }
    assert!(read_as::<follow>(&moved, "order.placed").is_err());
    assert!(read_as::<follow>(&moved, "order").is_err());
    assert!(read::<follow>(&placed).is_err());

    let mut deleted = placed.clone();
    deleted.payload = None;
    assert!(read_as::<follow>(&deleted, "order.placed").is_err());
    assert!(matches!(read_as::<forget>(&deleted, "order.placed"), Ok(None)));
    assert!(matches!(read_as::<forget>(&moved, "order.moved"), Ok(Some(OrderEvent::Moved(_)))));
    assert!(read_as::<forget>(&moved, "order").is_err());
    assert!(matches!(read::<forget>(&deleted), Ok(None)));
    assert!(read::<forget>(&placed).is_err());

    assert_eq!(cloud::event_type(), Some(EventType::field("type")));
    assert!(follow::HAS_FIELDS && cloud::HAS_FIELDS && !binary::HAS_FIELDS);
}
