use idem::idempotent;
use idem_ui_tests::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct OrderPlaced {
    event_id: String,
}

type Connection = StubConnection;
type Cx<'a> = &'a idem::Context;

struct Mailer;
struct Clock;

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn bill(event: OrderPlaced, cx: &idem::Context, mailer: idem::State<Mailer>, tx: &mut Connection) -> Result<(), std::io::Error> {
    let _ = (cx, mailer);
    tx.execute(&event.event_id).await
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn ship(event: OrderPlaced, tx: &mut Connection, clock: idem::State<Clock>, mailer: idem::State<Mailer>, cx: Cx<'_>) -> Result<(), std::io::Error> {
    let _ = (cx, mailer, clock);
    tx.execute(&event.event_id).await
}

#[idempotent(key = "event_id", store = Stub, topic = "orders")]
async fn log(event: OrderPlaced) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}

fn main() {}
