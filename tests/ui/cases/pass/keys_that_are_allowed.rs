use idem::{Handler, idempotent};
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reading {
    taken_at: i64,
    token: String,
    idempotency_token: String,
    sensor: u32,
}

#[idempotent(
    key = "taken_at",
    tenant = "sensor",
    store = Stub,
    allow(timestamp_key, reason = "a sensor takes one reading a second")
)]
async fn one_a_second(event: Reading, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.token).await
}

#[idempotent(
    key = ("token", header("date")),
    store = Stub,
    topic = "readings",
    allow(secret_key, reason = "it is a token of a parser, not of a person"),
)]
async fn token(event: Reading, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.token).await
}

#[idempotent(
    key = header("authorization-date"),
    tenant = header("authorization"),
    store = Stub,
    topic = "readings",
    allow(secret_key, timestamp_key, reason = "test data")
)]
async fn both(event: Reading, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.token).await
}

#[idempotent(
    key = with(Reading::taken_at),
    store = Stub,
    allow(timestamp_key, reason = "there is one sensor"),
)]
async fn one_sensor(event: Reading, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.token).await
}

impl Reading {
    fn taken_at(&self) -> i64 {
        self.taken_at
    }
}

// A content hash shows no secret, and a time within it may be beside another field.
#[idempotent(key = content_hash("apiKey", "createdAt"), store = Stub, topic = "readings")]
async fn hashed(event: Reading, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.token).await
}

// A time beside an identifier needs no word, and nor does a token that tells requests apart.
#[idempotent(key = ("idempotency_token", "taken_at"), store = Stub)]
async fn neither(event: Reading, tx: &mut StubConnection) -> Result<(), std::io::Error> {
    tx.execute(&event.token).await
}

fn main() {
    assert_eq!(one_a_second::ALLOWED, [("timestamp_key", "a sensor takes one reading a second")]);
    assert_eq!(token::ALLOWED, [("secret_key", "it is a token of a parser, not of a person")]);
    assert_eq!(one_sensor::ALLOWED, [("timestamp_key", "there is one sensor")]);
    assert!(hashed::ALLOWED.is_empty());
    assert_eq!(both::ALLOWED.len(), 2);
    assert!(neither::ALLOWED.is_empty());
}
