use std::time::Duration;

use idem::{Begun, Handler, Probed, State, UnknownEnd, idempotent};
use idem_ui_tests::{OrderPlaced, Stub, StubConnection};

struct Payments;

impl Payments {
    async fn was_charged(&self, _key: &idem::Key) -> Result<bool, std::io::Error> {
        Ok(true)
    }
}

async fn was_charged(event: &OrderPlaced, begun: &Begun) -> Result<Probed, idem::Failure> {
    let payments = begun.state::<Payments>().ok_or("no client of the payments")?;
    assert_eq!(event.event_id, begun.key().as_str());
    Ok(match payments.was_charged(begun.key()).await? {
        true => Probed::Done,
        false => Probed::NotDone,
    })
}

#[idempotent(key = "event_id", store = Stub, topic = "orders", effects = external(probe = was_charged))]
async fn charge(
    event: OrderPlaced,
    payments: State<Payments>,
    tx: &mut StubConnection,
) -> Result<(), std::io::Error> {
    drop(payments);
    tx.execute(&event.event_id).await
}

#[idempotent(effects = external(unknown = retry_after("5m")), key = "event_id", store = Stub)]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(effects = external(unknown = never), key = "event_id", store = Stub, timeout = "5s")]
async fn text(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn spawned() {
    std::thread::spawn(|| {
        fn is_send<T: Send>(_: T) {}
        is_send(charge::process(&Stub, OrderPlaced { event_id: "e".to_owned(), order_id: 1 }));
    });
}

fn main() {
    assert_eq!(charge::POLICY.unknown_end, Some(UnknownEnd::Probe));
    let minutes = Duration::from_secs(300);
    assert_eq!(mail::POLICY.unknown_end, Some(UnknownEnd::RetryAfter(minutes)));
    assert_eq!(text::POLICY.unknown_end, Some(UnknownEnd::Never));
    let _ = spawned;
}
