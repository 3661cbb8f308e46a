use std::time::Duration;

use super::Builder;
use crate::broadcast::Broadcast;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::handler::{Call, Handler, One, Subscriber};
use crate::kafka::Kafka;
use crate::key::{Key, KeyError};
use crate::memory::Memory;
use crate::pipeline::policy::Start;
use crate::routing::{EventType, Unmatched};
use crate::state::Needs;

macro_rules! handler {
    ($name:ident, $scope:literal, $topics:expr, $types:expr $(, $has_fields:literal)?) => {
        struct $name;

        impl Handler for $name {
            type Store = Memory;
            type Input = One<()>;
            const SCOPE: &'static str = $scope;

            fn needs(_: &mut Needs) {}

            fn key(_: &(), _: Option<&Event>) -> Result<Key, KeyError> {
                Key::new("k")
            }

            async fn handle(_: One<()>, _: Call<'_, Self>) -> Result<(), Failure> {
                Ok(())
            }
        }

        impl Subscriber for $name {
            const TOPICS: &'static [&'static str] = $topics;
            const TYPES: Option<&'static [&'static str]> = $types;
            $(const HAS_FIELDS: bool = $has_fields;)?

            fn decode(_: Encoded<'_>) -> Result<(), DecodeError> {
                Ok(())
            }
        }
    };
}

handler!(Plain, "plain", &["orders"], None);
handler!(Regions, "regions", &["^orders\\."], Some(&["order.#"]));
handler!(Broken, "broken", &["^orders("], Some(&["order..placed", "**"]));
handler!(Taken, "g.unmatched", &["orders"], Some(&["a"]));
handler!(Binary, "binary", &["orders"], Some(&["a"]), false);

fn group() -> Builder<super::With<Memory>> {
    Builder::new().kafka(Kafka::new("b:9092")).group("g").store(Memory::new())
}

/// The mistakes of the builder, one a line; empty when there is none.
fn mistakes(builder: Builder<super::With<Memory>>) -> String {
    builder.build().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn patterns_that_cannot_be_read_are_all_shown() {
    let text = mistakes(group().handler::<Broken>());
    for part in ["topic pattern `^orders(`", "`order..placed`", "`**`", "handler `broken`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(mistakes(group().handler::<Plain>().handler::<Regions>()), "");
}

#[test]
fn a_pattern_has_another_name_as_a_topic_has() {
    let builder = group().topic_name("^orders\\.", "^staging\\.orders\\.").handler::<Regions>();
    assert_eq!(mistakes(builder.topics(["^staging\\.orders\\.", "staging.orders.eu"])), "");
    let builder = group().topic_name("^orders\\.", "^staging\\d").handler::<Regions>();
    assert!(mistakes(builder).contains("[0-9]"));
    let builder = group().handler::<Regions>().topics(["^orders\\.", "returns"]);
    assert!(mistakes(builder).contains("`returns` of group `g` has no handler"));
}

#[test]
fn the_groups_own_words_are_checked() {
    let builder = group().event_type(EventType::field("a..b")).handler::<Regions>();
    assert!(mistakes(builder).contains("`a..b`"));
    let builder = |unmatched| group().unmatched(unmatched).handler::<Taken>();
    assert_eq!(mistakes(builder(Unmatched::Ignore)), "");
    assert!(mistakes(builder(Unmatched::DeadLetter)).contains("give it another `scope"));
}

#[test]
fn a_broadcast_says_who_it_is_and_where_it_starts() {
    let of = |broadcast: Broadcast| group().handler::<Plain>().broadcast(broadcast);
    let text = mistakes(of(Broadcast::new("")));
    assert!(text.contains("needs a name") && text.contains(".start(Start::Latest)"), "{text}");
    assert_eq!(mistakes(of(Broadcast::new("a")).start(Start::Latest)), "");
    let soon = Broadcast::new("a").forget_after(Duration::from_secs(5));
    assert!(mistakes(of(soon).start(Start::Latest)).contains("at least 30s"));
    let long = Broadcast::new("x".repeat(255));
    let text = mistakes(of(long).start(Start::Latest));
    assert!(text.contains("1 to 255 bytes") && text.contains("longer than 255 bytes"), "{text}");
}

#[test]
fn two_instances_of_a_group_in_one_process_are_two_groups() {
    let one = group().start(Start::Earliest).broadcast(Broadcast::new("a")).handler::<Plain>();
    let both = one.group("g").start(Start::Earliest).broadcast(Broadcast::new("b"));
    assert_eq!(mistakes(both.store(Memory::new()).handler::<Plain>()), "");
}

#[test]
fn the_type_of_a_binary_event_cannot_be_in_a_field() {
    let wrong = "the handler `binary`: the type of its events is to be read from a field type, and \
                 their format is not JSON: give it a `type_from = header(\"event-type\")` of its own, \
                 or `type_from = topic`";
    let binary = || group().handler::<Binary>().handler::<Regions>();
    assert_eq!(mistakes(binary().event_type(EventType::field("type"))), wrong);
    assert_eq!(mistakes(binary().event_type(EventType::topic())), "");
    let regions = group().handler::<Regions>().event_type(EventType::field("type"));
    assert_eq!(mistakes(regions), "");
}
