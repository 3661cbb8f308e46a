use std::time::Duration;

use super::{Builder, With};
use crate::effects::UnknownEnd;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::handler::{Call, Handler, KeySource, One, Subscriber};
use crate::kafka::Kafka;
use crate::key::{Key, KeyError};
use crate::marker::MarkerMode::{self, Offset, Packed, Rows};
use crate::memory::Memory;
use crate::pipeline::policy::{LayoutChanged, Stale};
use crate::policy::{Markers, MissingKey, PayloadCheck, Policy, Window};
use crate::state::Needs;

macro_rules! handler {
    ($name:ident $scope:literal $(, $constant:ident: $type:ty = $value:expr)*) => {
        struct $name;

        impl Handler for $name {
            type Store = Memory;
            type Input = One<()>;
            const SCOPE: &'static str = $scope;
            $(const $constant: $type = $value;)*

            fn needs(_: &mut Needs) {}

            fn key(_: &(), _: Option<&Event>) -> Result<Key, KeyError> {
                Key::new("k")
            }

            async fn handle(_: One<()>, _: Call<'_, Self>) -> Result<(), Failure> {
                Ok(())
            }
        }

        impl Subscriber for $name {
            const TOPICS: &'static [&'static str] = &["orders"];

            fn decode(_: Encoded<'_>) -> Result<(), DecodeError> {
                Ok(())
            }
        }
    };
}

const PACKED: Policy = Policy::new().markers(Markers::Packed);
const CHECKED: Policy = Policy::new().payload_check(PayloadCheck::Warn);
const OUTSIDE: Policy = Policy::new().unknown_end(UnknownEnd::Never);

handler!(Silent "silent");
handler!(Digests "digests", POLICY: Policy = PACKED);
handler!(InRows "in-rows", POLICY: Policy = Policy::new().markers(Markers::Rows));
handler!(Places "places", KEY: KeySource = KeySource::Offset);
handler!(Checks "checks", POLICY: Policy = CHECKED);
handler!(Answering "answering", STORES_RESULT: bool = true);
handler!(Charges "charges", POLICY: Policy = OUTSIDE);

type Described = Builder<With<Memory>>;

fn group() -> Described {
    Builder::new().kafka(Kafka::new("b:9092")).group("g").store(Memory::new())
}

/// The mistakes of the builder, one a line; empty when there is none.
fn mistakes(builder: Described) -> String {
    builder.build().err().map(|error| error.to_string()).unwrap_or_default()
}

/// The handlers of all groups, each with how its markers are kept and for how long.
fn kept(mut builder: Described) -> Vec<(&'static str, MarkerMode, Option<Window>)> {
    builder.close();
    let groups = builder.closed.iter().flat_map(|group| group.facts().handlers);
    groups.map(|it| (it.scope, it.mode, it.policy.window)).collect()
}

#[test]
fn the_groups_word_on_markers_is_for_handlers_that_say_nothing() {
    let day = Window::time(Duration::from_secs(86_400));
    let week = Window::DEFAULT.events(5);
    let builder = group().markers(Markers::Packed).window(day);
    let own = Policy::new().window(week);
    let builder = builder.handler::<Silent>().handler::<InRows>().handler::<Places>();
    let builder = builder.handler_with::<Digests>(own).group("other").store(Memory::new());
    assert_eq!(
        kept(builder.handler::<Checks>()),
        [
            ("silent", Packed, Some(day)),
            ("in-rows", Rows, Some(day)),
            ("places", Offset, Some(day)),
            ("digests", Packed, Some(week)),
            ("checks", Rows, None),
        ]
    );
}

#[test]
fn a_handler_that_needs_rows_is_refused_beside_a_default_of_packed() {
    let packed = || group().markers(Markers::Packed);
    for (text, scope, what) in [
        (mistakes(packed().handler::<Checks>()), "checks", "`payload_check`"),
        (mistakes(packed().handler::<Answering>()), "answering", "`store_result`"),
        (mistakes(packed().handler::<Charges>()), "charges", "effects outside of the database"),
    ] {
        for part in [&format!("the handler `{scope}`"), what, "write `markers = \"rows\"`"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let rows = Policy::new().markers(Markers::Rows);
    for builder in [
        packed().handler_with::<Checks>(rows),
        packed().handler_with::<Answering>(rows),
        packed().handler_with::<Charges>(rows),
        packed().handler::<Places>().handler::<InRows>(),
        packed().handler_with::<Places>(CHECKED),
    ] {
        assert_eq!(mistakes(builder), "");
    }
    let text = mistakes(group().handler_with::<Digests>(CHECKED));
    assert!(text.contains("the handler `digests`"), "{text}");
}

#[test]
fn a_window_in_which_nothing_is_found_is_refused_where_it_was_said() {
    let (no_time, no_events) = (Window::time(Duration::ZERO), Window::DEFAULT.events(0));
    for (window, part) in [(no_time, "a window of no time"), (no_events, "a window of no events")] {
        let text = mistakes(group().window(window).handler::<Digests>());
        assert!(text.starts_with("group `g`") && text.contains(part), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let own = Policy::new().window(window);
        let text = mistakes(group().handler_with::<Digests>(own));
        assert!(text.starts_with("the handler `digests`") && text.contains(part), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let least = Window::time(Duration::from_millis(1)).events(1);
    assert_eq!(mistakes(group().window(least).handler::<Digests>()), "");
}

#[test]
fn what_is_about_packed_markers_is_refused_where_nobody_speaks_of_them() {
    let said = |builder: Described| {
        let builder = builder.window(Window::DEFAULT).layout_changed(LayoutChanged::Widen);
        builder.stale(Stale::Skip)
    };
    let text = mistakes(said(group()).handler::<Silent>().handler::<Places>());
    for word in ["`.window(..)`", "`.layout_changed(..)`", "`.stale(..)`"] {
        assert!(text.contains(&format!("group `g`: {word} is about packed markers")), "{text}");
    }
    assert!(text.contains("`.markers(Markers::Packed)`"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    // Where the word is said, be it read from the environment, the rest may stand there with either.
    assert_eq!(mistakes(said(group()).handler::<Silent>().markers(Markers::Rows)), "");
    assert_eq!(mistakes(said(group()).handler::<Silent>().markers(Markers::Packed)), "");
    assert_eq!(mistakes(said(group()).handler::<Silent>().handler::<Digests>()), "");
}

#[test]
fn the_memory_of_packed_markers_is_the_processs_and_at_least_a_mebibyte() {
    let memory = |builder: Described| builder.build().map(|it| it.process().budget.limit());
    assert_eq!(memory(group().handler::<Digests>()).unwrap(), 256 << 20);
    let builder = group().packed_memory(1 << 20).handler::<Digests>();
    let builder = builder.group("other").store(Memory::new()).handler::<Silent>();
    assert_eq!(memory(builder).unwrap(), 1 << 20);
    let text = mistakes(group().packed_memory(256).handler::<Digests>());
    assert!(text.contains("`.packed_memory(256)`") && text.contains("1 MiB"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn effects_outside_of_events_without_a_key_are_refused() {
    const UNMARKED: Policy = Policy::new().missing_key(MissingKey::ProcessWithoutGuarantee);
    let text = mistakes(group().handler_with::<Charges>(UNMARKED));
    assert!(text.contains("the handler `charges` has effects outside"), "{text}");
    assert!(text.contains("`missing_key`") && text.lines().count() == 1, "{text}");
    let both = OUTSIDE.missing_key(MissingKey::ProcessWithoutGuarantee);
    assert!(mistakes(group().handler_with::<Silent>(both)).contains("`missing_key`"));
    for other in [MissingKey::DeadLetter, MissingKey::Stop, MissingKey::ContentHash] {
        let policy = Policy::new().missing_key(other);
        assert_eq!(mistakes(group().handler_with::<Charges>(policy)), "", "{other:?}");
    }
}
