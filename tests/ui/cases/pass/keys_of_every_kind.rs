use idem::{Event, Handler, Key, KeyError, KeyPart, KeySource, idempotent};
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    tenant: u32,
    order: Order,
    r#type: String,
    pair: (u8, (u8, String)),
    header: String,
    offset: i64,
}

#[derive(Deserialize)]
struct Order {
    id: OrderId,
}

#[derive(Deserialize)]
struct OrderId([u8; 2]);

impl KeyPart for OrderId {
    fn write(&self, text: &mut String) -> Result<(), KeyError> {
        self.0.write(text)
    }
}

macro_rules! handlers {
    ($($name:ident [$($key:tt)+])+) => {$(
        #[idempotent(key = $($key)+, store = Stub, topic = "orders")]
        async fn $name(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
            tx.execute(&event.r#type).await
        }
    )+};
}

handlers! {
    nested ["order.id"]
    nested_bare [order.id]
    keyword ["type"]
    raw ["r#type"]
    raw_bare [r#type]
    index ["pair.1.1"]
    index_bare [pair.1.1]
    several [("tenant", order.id)]
    one_in_a_tuple [("tenant",)]
    parenthesized [("tenant")]
    called_header ["header"]
    called_offset ["offset"]
    header [header("idempotency-key")]
    offset [offset]
}

fn key<H>() -> String
where
    H: Handler<Input = idem::One<OrderPlaced>>,
{
    let event = OrderPlaced {
        tenant: 7,
        order: Order { id: OrderId([0xab, 0xcd]) },
        r#type: "placed".into(),
        pair: (1, (2, "x".into())),
        header: "h".into(),
        offset: -1,
    };
    let mut source = Event::new("orders".into(), 2, 40, "{}");
    source.headers = [("idempotency-key", Some("k1"))].into_iter().collect();
    let key: Key = H::key(&event, Some(&source)).unwrap();
    key.to_string()
}

fn main() {
    assert_eq!(key::<nested>(), "abcd");
    assert_eq!(key::<nested_bare>(), "abcd");
    assert_eq!(key::<keyword>(), "placed");
    assert_eq!(key::<raw>(), "placed");
    assert_eq!(key::<raw_bare>(), "placed");
    assert_eq!(key::<index>(), "x");
    assert_eq!(key::<index_bare>(), "x");
    assert_eq!(key::<several>(), "1:7,4:abcd");
    assert_eq!(key::<one_in_a_tuple>(), "7");
    assert_eq!(key::<parenthesized>(), "7");
    assert_eq!(key::<called_header>(), "h");
    assert_eq!(key::<called_offset>(), "-1");
    assert_eq!(key::<header>(), "k1");
    assert_eq!(key::<offset>(), "orders/2/40");
    assert_eq!(header::KEY, KeySource::Header("idempotency-key"));
    assert_eq!(offset::KEY, KeySource::Offset);
}
