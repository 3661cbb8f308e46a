use idem::{
    CloudEvent, DecodeError, Encoded, Event, Format, Handler, Schemas, Subscriber, idempotent,
};
use idem_ui_tests::*;
use prost::Message as _;

#[derive(Clone, PartialEq, prost::Message)]
struct Proto {
    #[prost(string, tag = "1")]
    event_id: String,
}

mod codec {
    /// JSON, backwards.
    pub struct Backwards;
}

impl<E: serde::de::DeserializeOwned> Format<E> for codec::Backwards {
    fn decode(event: &Event) -> Result<E, DecodeError> {
        let mut event = event.clone();
        let payload = event.payload.take().unwrap_or_default();
        event.payload = Some(payload.iter().rev().copied().collect());
        idem::decode_json(&event)
    }
}

macro_rules! handlers {
    ($($name:ident($event:ty) = [$($format:tt)*])+) => {$(
        #[idempotent(key = "event_id", store = Stub, topic = "orders" $($format)*)]
        async fn $name(event: $event, tx: &mut StubConnection) -> Result<(), std::io::Error> {
            tx.execute(&event.event_id).await
        }
    )+};
}

handlers! {
    unsaid(OrderPlaced) = []
    json(OrderPlaced) = [, format = "json"]
    json_bare(OrderPlaced) = [, format = json]
    protobuf(Proto) = [, format = "protobuf"]
    first(Proto) = [, format = "protobuf_registry"]
    second(Proto) = [, format = protobuf_registry(message = 1)]
    inside(Proto) = [, format = protobuf_registry(message = [1, 0]), retry = "never"]
    backwards(OrderPlaced) = [, format = codec::Backwards]
}

#[idempotent(key = content_hash, store = Stub, topic = "orders", format = "protobuf")]
async fn by_its_bytes(event: Proto, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

#[idempotent(
    key = header("id"),
    store = Stub,
    topic = "orders",
    format = "protobuf",
    missing_key = "content_hash"
)]
async fn by_its_bytes_instead(
    event: Proto,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

#[idempotent(key = ("source", "id"), store = Stub, topic = "orders", format = "cloudevents")]
async fn cloud(
    event: CloudEvent<OrderPlaced>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    tx.execute(&event.data.event_id).await
}

fn decode<H: Subscriber>(event: &Event) -> Result<idem::EventOf<H>, DecodeError> {
    H::decode(Encoded::new(event, &Schemas::none()))
}

fn event(payload: impl Into<Vec<u8>>) -> Event {
    Event::new("orders".into(), 0, 0, payload.into())
}

fn main() {
    let json = br#"{"event_id": "e1", "order_id": 7}"#;
    assert_eq!(decode::<unsaid>(&event(*json)).unwrap().order_id, 7);
    assert_eq!(decode::<json>(&event(*json)).unwrap().order_id, 7);
    assert_eq!(decode::<json_bare>(&event(*json)).unwrap().order_id, 7);
    let mut reversed = json.to_vec();
    reversed.reverse();
    assert_eq!(decode::<backwards>(&event(reversed)).unwrap().order_id, 7);

    let message = Proto { event_id: "e1".into() };
    let framed = |place: &[u8]| event([&[0, 0, 0, 0, 9], place, &message.encode_to_vec()].concat());
    assert_eq!(decode::<protobuf>(&event(message.encode_to_vec())).unwrap(), message);
    assert_eq!(decode::<first>(&framed(&[0])).unwrap(), message);
    assert_eq!(decode::<second>(&framed(&[2, 2])).unwrap(), message);
    assert_eq!(decode::<inside>(&framed(&[4, 2, 0])).unwrap(), message);
    assert!(decode::<inside>(&framed(&[2, 2])).is_err());

    let other = event(Proto { event_id: "e2".into() }.encode_to_vec());
    let bare = event(message.encode_to_vec());
    let key = |event: &Event| <by_its_bytes as Handler>::key(&message, Some(event)).unwrap();
    assert_eq!(key(&bare), key(&bare));
    assert_ne!(key(&bare), key(&other));
    assert_eq!(by_its_bytes_instead::content_key(&bare).unwrap(), key(&bare));

    let mut event = event(*json);
    assert!(decode::<cloud>(&event).is_err());
    event.headers = [("specversion", "1.0"), ("id", "7"), ("source", "/shop"), ("type", "placed")]
        .map(|(name, value)| (format!("ce_{name}"), Some(value)))
        .into_iter()
        .collect();
    let event = decode::<cloud>(&event).unwrap();
    let key = <cloud as Handler>::key(&event, None).unwrap();
    assert_eq!(key.as_str(), "5:/shop,1:7");
}
