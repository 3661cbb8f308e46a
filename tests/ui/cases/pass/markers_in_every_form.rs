use std::time::Duration;

use idem::{Handler, Markers, Policy, Subscriber, Window, idempotent};
use idem_ui_tests::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PACKED: Policy = Policy::new().markers(Markers::Packed);

macro_rules! handlers {
    ($($name:ident [$($markers:tt)+] $expected:expr;)+) => {
        $(
            #[idempotent(key = "event_id", store = Stub, topic = "orders", $($markers)+)]
            async fn $name(event: OrderPlaced) -> Result<(), std::io::Error> {
                drop(event);
                Ok(())
            }
        )+

        fn main() {
            $(
                assert_eq!($name::POLICY, $expected, stringify!($name));
                assert_eq!($name::TOPICS, ["orders"]);
            )+
            assert_eq!(by_the_header::POLICY, PACKED);
            assert_eq!(without_kafka::POLICY, Policy::new().markers(Markers::Rows));
            let event = OrderPlaced { event_id: String::new(), order_id: 7 };
            let _ = without_kafka::process(&Stub, event);
        }
    };
}

handlers! {
    rows [markers = "rows"] Policy::new().markers(Markers::Rows);
    rows_bare [markers = rows] Policy::new().markers(Markers::Rows);
    packed [markers = "packed"] PACKED;
    packed_bare [markers = packed] PACKED;
    a_week [markers = packed(window = "7d")] PACKED.window(Window::time(DAY * 7));
    half_a_day [markers = packed(window = "0.5d")] PACKED.window(Window::time(DAY / 2));
    so_many [markers = packed(events = 10_000_000)] PACKED.window(Window::DEFAULT.events(10_000_000));
    more_than_32_bits [markers = packed(events = 10_000_000_000)]
        PACKED.window(Window::DEFAULT.events(10_000_000_000));
    both [markers = packed(window = "36h", events = 5)]
        PACKED.window(Window::time(DAY * 3 / 2).events(5));
    in_any_order [markers = packed(events = 5, window = "36h",),]
        PACKED.window(Window::time(DAY * 3 / 2).events(5));
    beside_others [markers = packed, order_by = "message_key", slices = 8, on_failure = "stop"]
        PACKED.slices(8).on_failure(idem::OnFailure::Stop);
}

#[idempotent(
    key = ("event_id", header("tenant")),
    store = Stub,
    topic = "orders",
    markers = "packed",
)]
async fn by_the_header(events: Vec<OrderPlaced>) -> Result<(), std::io::Error> {
    drop(events);
    Ok(())
}

#[idempotent(key = "event_id", store = Stub, markers = "rows")]
async fn without_kafka(event: OrderPlaced) -> Result<(), std::io::Error> {
    drop(event);
    Ok(())
}
