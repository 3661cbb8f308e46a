use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
pub struct OrderPlaced {
    pub event_id: String,
}

pub mod handlers {
    use super::*;

    /// In a module, under its own name and another.
    #[idempotent(key = "event_id", store = Stub, topic = "orders")]
    pub async fn bill(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
        tx.execute(&event.event_id).await
    }

    pub(super) mod inner {
        use super::*;

        #[idempotent(key = "event_id", store = Stub, topic = "orders")]
        pub(in super::super) async fn ship(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
            super::bill(event, tx).await
        }
    }
}
use handlers::bill as invoice;
use handlers::inner::ship;

fn subscribe<H: idem::Subscriber>() -> &'static str {
    H::SCOPE
}

fn main() {
    #[idempotent(key = "event_id", store = Stub, topic = "orders")]
    async fn in_a_function(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), std::io::Error> {
        invoice(event, tx).await
    }
    assert_eq!(subscribe::<invoice>(), "bill");
    assert_eq!(subscribe::<ship>(), "ship");
    assert_eq!(subscribe::<in_a_function>(), "in_a_function");
    let _ = (invoice::process, ship::process);
}
