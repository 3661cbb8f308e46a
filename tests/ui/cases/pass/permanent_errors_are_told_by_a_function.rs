use idem::{Failure, idempotent};
use idem_ui_tests::*;

#[derive(Debug)]
enum BillingError {
    Refused,
}

impl BillingError {
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused)
    }
}

impl std::fmt::Display for BillingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for BillingError {}

trait Judged {
    fn judge(&self) -> bool;
}

impl Judged for BillingError {
    fn judge(&self) -> bool {
        true
    }
}

mod judges {
    pub fn any<E>(_: &E) -> bool {
        true
    }
}

macro_rules! handlers {
    ($($name:ident $permanent:path, $output:ty;)+) => {$(
        #[idempotent(key = "event_id", store = Stub, topic = "orders", permanent = $permanent)]
        async fn $name(event: OrderPlaced) -> $output {
            drop(event);
            Ok(())
        }
    )+};
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), BillingError>;

handlers! {
    method BillingError::is_permanent, Result<(), BillingError>;
    generic judges::any, Result<(), BillingError>;
    generic_named judges::any::<BillingError>, Outcome;
    of_a_failure Failure::is_permanent, Result<(), Failure>;
    of_a_box crate::judges::any, Result<(), Boxed>;
}

#[idempotent(key = "event_id", store = Stub, permanent = <BillingError as Judged>::judge)]
async fn method_of_a_trait(events: Vec<OrderPlaced>) -> Outcome {
    drop(events);
    Err(BillingError::Refused)
}

type Io = std::io::Error;

#[idempotent(key = "event_id", store = Stub, permanent = judges::any)]
async fn of_an_unnamed(event: OrderPlaced) -> Result<(), impl std::error::Error + Send + Sync + use<>> {
    drop(event);
    Err(Io::other("refused"))
}

fn main() {}
