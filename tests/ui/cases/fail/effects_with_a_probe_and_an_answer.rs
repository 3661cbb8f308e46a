use idem::{Begun, Probed, idempotent};
use idem_ui_tests::{OrderPlaced, Stub};

async fn was_billed(_: &OrderPlaced, _: &Begun) -> Result<Probed, std::io::Error> {
    Ok(Probed::Done)
}

#[idempotent(
    key = "event_id",
    store = Stub,
    effects = external(unknown = "retry", probe = was_billed)
)]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, effects = external(probe = "was_billed"))]
async fn ship(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
