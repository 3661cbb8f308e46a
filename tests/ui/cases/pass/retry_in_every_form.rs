use std::time::Duration;

use idem::{Handler, Policy, Retry, idempotent};
use idem_ui_tests::*;

const SECOND: Duration = Duration::from_secs(1);

macro_rules! handlers {
    ($($name:ident [$($retry:tt)+] $expected:expr;)+) => {
        $(
            #[idempotent(key = "event_id", store = Stub, $($retry)+)]
            async fn $name(event: OrderPlaced) -> Result<(), std::io::Error> {
                drop(event);
                Ok(())
            }
        )+

        fn main() {
            $(assert_eq!($name::POLICY, Policy::new().retry($expected), stringify!($name));)+
            assert_eq!(unsaid::POLICY, Policy::new());
        }
    };
}

handlers! {
    attempts [retry(max = 5)] Retry::new().max(5);
    one_attempt [retry(max = 1)] Retry::never();
    never [retry = "never"] Retry::never();
    never_bare [retry = never] Retry::never();
    forever [retry = "forever"] Retry::forever();
    pauses [retry(backoff = "200ms..30s")] Retry::new().backoff(SECOND / 5, SECOND * 30);
    pauses_with_spaces [retry(backoff = "1.5s .. 2m")] Retry::new().backoff(SECOND * 3 / 2, SECOND * 120);
    one_pause [retry(backoff = "1s")] Retry::new().backoff(SECOND, SECOND);
    jitter [retry(jitter)] Retry::new().jitter(true);
    with_jitter [retry(jitter = true)] Retry::new().jitter(true);
    without_jitter [retry(jitter = false)] Retry::new().jitter(false);
    total [retry(total = "0.5h")] Retry::new().total(SECOND * 1800);
    forever_at_a_pace [retry(max = "forever", backoff = "1s..5m")] Retry::forever().backoff(SECOND, SECOND * 300);
    all [retry(total = "10m", max = 5, jitter, backoff = "200ms..30s",),]
        Retry::new().max(5).backoff(SECOND / 5, SECOND * 30).jitter(true).total(SECOND * 600);
}

#[idempotent(key = "event_id", store = Stub)]
async fn unsaid(event: OrderPlaced) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}
