use idem::{Answers, Outcome, PayloadCheck, idempotent};
use idem_ui_tests::{OrderPlaced, Stub, StubConnection};

#[derive(serde::Serialize, serde::Deserialize)]
struct Receipt {
    order: i64,
}

#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl Refused {
    fn always(&self) -> bool {
        true
    }
}

#[idempotent(
    key = "event_id",
    store = Stub,
    topic = "orders",
    store_result = 512,
    payload_check = dead_letter,
    permanent = Refused::always,
)]
async fn bill(event: OrderPlaced, _tx: &mut StubConnection) -> Result<Receipt, Refused> {
    Ok(Receipt { order: event.order_id })
}

#[idempotent(key = "event_id", store = Stub, store_result)]
async fn confirm(event: OrderPlaced) -> anyhow_like::Result<Option<String>> {
    Ok(Some(event.event_id))
}

/// A type alias of a result.
mod anyhow_like {
    pub type Result<T> = std::result::Result<T, std::io::Error>;
}

fn is<H: Answers<Answer = A>, A>() {}

async fn webhook(event: OrderPlaced) -> Option<Receipt> {
    let outcome: Outcome<Receipt> = bill::process(&Stub, event).await.ok()?;
    outcome.value()
}

fn main() {
    is::<bill, Receipt>();
    is::<confirm, Option<String>>();
    assert_eq!(<bill as idem::Handler>::POLICY.payload_check, Some(PayloadCheck::DeadLetter));
    let _ = webhook;
}
