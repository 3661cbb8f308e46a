use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

type Database = Stub;

mod stores {
    pub type Pair<A, B> = <(A, B) as First>::Type;

    pub trait First {
        type Type;
    }

    impl<A, B> First for (A, B) {
        type Type = A;
    }
}

#[idempotent(key = "event_id", store = Database, topic = "orders")]
async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

#[idempotent(store = crate::stores::Pair<Stub, Other>, key = event_id, topic = "orders")]
async fn ship(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.event_id).await
}

fn main() {
    let _ = ship::process(&Stub, OrderPlaced { event_id: "e1".into() });
}
