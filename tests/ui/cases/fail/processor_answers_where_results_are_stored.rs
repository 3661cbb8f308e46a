use idem::idempotent;
use idem_ui_tests::{OrderPlaced, Stub};

#[idempotent(key = "event_id", store = Stub)]
async fn bill(_event: OrderPlaced) -> Result<(), std::io::Error> {
    Ok(())
}

async fn answer(event: OrderPlaced) {
    let _ = idem::Processor::new(Stub).answer::<bill>(event).await;
}

fn main() {
    let _ = answer;
}
