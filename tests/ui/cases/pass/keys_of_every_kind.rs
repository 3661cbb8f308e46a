use idem::{Content, Event, Handler, Key, KeyError, KeyPart, KeySource, idempotent};
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
    message_key: u8,
    reference: Option<String>,
}

impl OrderPlaced {
    fn made(&self) -> Key {
        Key::new(format!("made-{}", self.tenant)).unwrap()
    }

    fn borrowed(&self) -> &str {
        &self.header
    }

    fn tried(&self) -> Result<String, KeyError> {
        self.reference.clone().ok_or_else(|| KeyError::missing("no reference"))
    }

    fn perhaps(&self) -> Option<&String> {
        self.reference.as_ref()
    }

    fn tried_perhaps(&self) -> Result<Option<String>, KeyError> {
        Ok(self.reference.clone())
    }
}

mod keys {
    pub(super) fn number<E>(_: &E) -> u64 {
        7
    }
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
    message_key [message_key]
    called_message_key ["message_key"]
    content [content_hash]
    content_of_some [content_hash("tenant", "order.id")]
    content_of_some_that_may_be_absent [content_hash("tenant", optional("order.id", "coupon"))]
    content_of_most [content_hash(except("sent_at"))]
    function [with(OrderPlaced::made)]
    function_that_borrows [with(OrderPlaced::borrowed)]
    function_that_fails [with(OrderPlaced::tried)]
    function_of_a_module [with(keys::number)]
    function_of_a_type [with(keys::number::<OrderPlaced>)]
    of_all [("tenant", header("idempotency-key"), message_key, with(OrderPlaced::made), order.id)]
    of_the_message [(message_key, content_hash)]
    of_functions [(with(OrderPlaced::borrowed), with(keys::number))]
    tenant_and_field ["type", tenant = "tenant"]
    tenant_in_a_header ["type", tenant = header("idempotency-key")]
    tenant_and_several [("type", "header"), tenant = with(keys::number)]
    tenant_and_content [content_hash, tenant = "tenant"]
    missing ["reference", missing_key = "dead_letter"]
    missing_in_several [("tenant", "reference", header("none")), missing_key = "stop"]
    missing_in_a_function [with(OrderPlaced::perhaps), missing_key = process_without_guarantee]
    missing_in_one_that_fails [with(OrderPlaced::tried_perhaps), missing_key = "content_hash"]
    missing_or_not [("tenant", with(OrderPlaced::made)), missing_key = "content_hash"]
    never_missing ["tenant", missing_key = "dead_letter"]
}

fn key<H>() -> String
where
    H: Handler<Input = idem::One<OrderPlaced>>,
{
    let (event, source) = events();
    let key: Key = H::key(&event, Some(&source)).unwrap();
    key.to_string()
}

fn is_missing<H>() -> bool
where
    H: Handler<Input = idem::One<OrderPlaced>>,
{
    let (mut event, source) = events();
    event.reference = None;
    H::key(&event, Some(&source)).unwrap_err().is_missing()
}

fn hashed(content: Content) -> String {
    Key::content(&events().1, content).unwrap().to_string()
}

fn events() -> (OrderPlaced, Event) {
    let event = OrderPlaced {
        tenant: 7,
        order: Order { id: OrderId([0xab, 0xcd]) },
        r#type: "placed".into(),
        pair: (1, (2, "x".into())),
        header: "h".into(),
        offset: -1,
        message_key: 9,
        reference: Some("r".into()),
    };
    let mut source = Event::new("orders".into(), 2, 40, r#"{"tenant":7,"order":{"id":1},"sent_at":1}"#);
    source.message_key = Some("m".into());
    source.headers = [("idempotency-key", Some("k1"))].into_iter().collect();
    (event, source)
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
    assert_eq!(key::<message_key>(), "m");
    assert_eq!(key::<called_message_key>(), "9");
    assert_eq!(key::<content>(), hashed(Content::ALL));
    assert_eq!(key::<content_of_some>(), hashed(Content::only(&["order.id", "tenant"])));
    let optional = Content::only(&["tenant"]).optional(&["order.id", "coupon"]);
    assert_eq!(key::<content_of_some_that_may_be_absent>(), hashed(optional));
    assert_eq!(key::<content_of_most>(), hashed(Content::except(&["sent_at"])));
    assert_eq!(key::<function>(), "made-7");
    assert_eq!(key::<function_that_borrows>(), "h");
    assert_eq!(key::<function_that_fails>(), "r");
    assert_eq!(key::<function_of_a_module>(), "7");
    assert_eq!(key::<function_of_a_type>(), "7");
    assert_eq!(key::<of_all>(), "1:7,2:k1,1:m,6:made-7,4:abcd");
    assert_eq!(key::<of_the_message>(), format!("1:m,71:{}", hashed(Content::ALL)));
    assert_eq!(key::<of_functions>(), "1:h,1:7");
    assert_eq!(key::<tenant_and_field>(), "1:7,6:placed");
    assert_eq!(key::<tenant_in_a_header>(), "2:k1,6:placed");
    assert_eq!(key::<tenant_and_several>(), "1:7,6:placed,1:h");
    assert_eq!(key::<tenant_and_content>(), format!("1:7,71:{}", hashed(Content::ALL)));
    assert_eq!(key::<missing>(), "r");
    assert_eq!(key::<missing_in_a_function>(), "r");
    assert_eq!(key::<missing_in_one_that_fails>(), "r");
    assert_eq!(key::<missing_or_not>(), "1:7,6:made-7");
    assert_eq!(key::<never_missing>(), "7");
    assert!(is_missing::<missing>() && is_missing::<missing_in_several>());
    assert!(is_missing::<missing_in_a_function>() && is_missing::<missing_in_one_that_fails>());
    assert!(is_missing::<function_that_fails>());
    assert_eq!([function::KEY, of_functions::KEY], [KeySource::Event; 2]);
    assert_eq!([header::KEY, of_all::KEY, tenant_in_a_header::KEY], [KeySource::Message; 3]);
    assert_eq!(offset::KEY, KeySource::Offset);
}
