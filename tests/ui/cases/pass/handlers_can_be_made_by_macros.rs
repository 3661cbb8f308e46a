use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

macro_rules! handler {
    ($name:ident, $event:ty, $key:literal, $field:ident, $store:ty, $topic:literal, $tx:ty) => {
        #[idempotent(key = $key, store = $store, topic = $topic)]
        async fn $name(event: $event, tx: $tx) -> Result<(), std::io::Error> {
            tx.execute(&event.$field).await
        }
    };
    (pair $name:ident, $field:ident) => {
        #[idempotent(key = ($field, "tenant"), store = Stub, topics = ["orders"])]
        async fn $name(event: Pair, tx: &mut StubConnection) -> Result<(), std::io::Error> {
            tx.execute(&event.$field).await
        }
    };
}

#[derive(Deserialize)]
struct Pair {
    tenant: u8,
    event_id: String,
}

handler!(bill, OrderPlaced, "event_id", event_id, Stub, "orders", &mut StubConnection);
handler!(pair ship, event_id);

fn main() {
    let event = Pair { tenant: 1, event_id: "e1".into() };
    assert_eq!(event.tenant, 1);
    assert_eq!(<ship as idem::Handler>::key(&event, None).unwrap().as_str(), "2:e1,1:1");
    let _ = bill::process;
}
