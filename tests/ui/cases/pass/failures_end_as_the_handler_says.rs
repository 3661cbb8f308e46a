use idem::{Handler, OnFailure, idempotent};
use idem_ui_tests::*;

macro_rules! handlers {
    ($($name:ident [$($value:tt)+] $expected:expr;)+) => {
        $(
            #[idempotent(key = "event_id", store = Stub, topic = "orders", on_failure = $($value)+)]
            async fn $name(event: OrderPlaced) -> Result<(), std::io::Error> {
                drop(event);
                Ok(())
            }
        )+

        fn main() {
            $(assert_eq!($name::POLICY.on_failure, Some($expected), stringify!($name));)+
        }
    };
}

handlers! {
    dead_letter ["dead_letter"] OnFailure::DeadLetter;
    park_key ["park_key"] OnFailure::PARK_KEY;
    park_key_bare [park_key] OnFailure::PARK_KEY;
    park_key_with_room [park_key(limit = 5000)] OnFailure::ParkKey { limit: 5000 };
    stop ["stop"] OnFailure::Stop;
}
