use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Boxed>;

#[derive(Debug)]
enum BillingError {
    Refused,
}

impl std::fmt::Display for BillingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for BillingError {}

#[idempotent(key = "event_id", store = Stub)]
async fn own(event: OrderPlaced) -> Result<(), BillingError> {
    if event.event_id.is_empty() { Err(BillingError::Refused) } else { Ok(()) }
}

#[idempotent(key = "event_id", store = Stub)]
async fn boxed(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), Boxed> {
    Ok(tx.execute(&event.event_id).await?)
}

#[idempotent(key = "event_id", store = Stub)]
async fn alias(event: OrderPlaced, tx: &mut StubConnection) -> Outcome {
    Ok(tx.execute(&event.event_id).await?)
}

#[idempotent(key = "event_id", store = Stub)]
async fn failure(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), idem::Failure> {
    Ok(tx.execute(&event.event_id).await?)
}

#[idempotent(key = "event_id", store = Stub)]
async fn text(_: OrderPlaced) -> Result<(), String> {
    Err("refused".to_owned())
}

#[idempotent(key = "event_id", store = Stub)]
async fn unnamed(event: OrderPlaced, tx: &mut StubConnection) -> Result<(), impl std::error::Error + Send + Sync + use<>> {
    tx.execute(&event.event_id).await
}

fn main() {}
