use std::time::Duration;

use idem::{Handler, IsolationLevel, Policy, idempotent};
use idem_ui_tests::*;

macro_rules! handlers {
    ($($name:ident [$($words:tt)+] $expected:expr;)+) => {
        $(
            #[idempotent(key = "event_id", store = Stub, $($words)+)]
            async fn $name(event: OrderPlaced) -> Result<(), std::io::Error> {
                drop(event);
                Ok(())
            }
        )+

        fn main() {
            $(assert_eq!($name::POLICY, $expected, stringify!($name));)+
        }
    };
}

handlers! {
    read_committed [isolation = "read_committed"]
        Policy::new().isolation(IsolationLevel::ReadCommitted);
    repeatable_read [isolation = "repeatable_read"]
        Policy::new().isolation(IsolationLevel::RepeatableRead);
    serializable [isolation = "serializable"]
        Policy::new().isolation(IsolationLevel::Serializable);
    seconds [timeout = "30s"] Policy::new().timeout(Duration::from_secs(30));
    millis [timeout = "1500ms"] Policy::new().timeout(Duration::from_millis(1500));
    micros [timeout = "0.25ms"] Policy::new().timeout(Duration::from_micros(250));
    both [timeout = "1h", isolation = serializable]
        Policy::new().isolation(IsolationLevel::Serializable).timeout(Duration::from_secs(3600));
}
