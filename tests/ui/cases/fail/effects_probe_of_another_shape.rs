use idem::{Begun, Probed, idempotent};
use idem_ui_tests::{OrderPlaced, Stub};

fn at_once(_: &OrderPlaced, _: &Begun) -> Result<Probed, std::io::Error> {
    Ok(Probed::Done)
}

#[idempotent(key = "event_id", store = Stub, effects = external(probe = at_once))]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

async fn yes_or_no(_: &OrderPlaced, _: &Begun) -> bool {
    true
}

#[idempotent(key = "event_id", store = Stub, effects = external(probe = yes_or_no))]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

async fn of_another(_: &String, _: &Begun) -> Result<Probed, std::io::Error> {
    Ok(Probed::Unknown)
}

#[idempotent(key = "event_id", store = Stub, effects = external(probe = of_another))]
async fn mail(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
