use super::handlers::{Audit, Bill, Count};
use super::harness::World;
use super::routing::{ran, typed};
use crate::dead_letter::{DeadLetter, FailureClass, LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::group::Registered;
use crate::memory::{Memory, Point};
use crate::replay::Replay;
use crate::routing::{EventType, Rules, Unmatched};

/// A world with one handler, of orders, and events of which it wants every second one.
fn world(unmatched: Unmatched) -> World {
    let mut world = World::of(vec![typed::<Bill>(&["order"])], 1);
    world.set_rules(Rules { unmatched, ..Rules::default() });
    let events = [("order", "e0"), ("return", "e1"), ("order", "e2"), ("refund", "e3")];
    world.broker.produce_typed(0, events);
    world
}

/// The ids of the events that are kept because nobody wants them.
fn kept(world: &World) -> Vec<String> {
    let letters = world.letters().into_iter();
    let kept = letters.filter(|(scope, _, state, class)| {
        let unmatched = *class == Some(FailureClass::Unmatched) && scope == "g.unmatched";
        assert_eq!(unmatched, scope == "g.unmatched");
        unmatched && *state == LetterState::Dead
    });
    kept.map(|(_, id, _, _)| id).collect()
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_counted_and_passes() {
    let world = world(Unmatched::Ignore);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "e2"]);
    let counts = world.counts();
    assert_eq!((counts.delivered, counts.unmatched, counts.processed), (4, 2, 2));
    assert_eq!((world.position(0), world.letters().len()), (4, 0));
    assert_eq!(world.store.counts().commits, 1, "and costs no transaction of its own");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_nobody_wants_moves_the_lane() {
    let world = World::of(vec![typed::<Bill>(&["order"])], 1);
    world.broker.produce(0, ["e0", "e1"]);
    world.drain(0).await;
    assert_eq!((world.position(0), world.counts().unmatched), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_one_dead_letter_however_often_it_is_read() {
    let world = world(Unmatched::DeadLetter);
    world.drain(0).await;
    assert_eq!(kept(&world), ["e1", "e3"]);
    let letters = world.store.look(|view| view.letters());
    let error = |index: usize| letters[index].cause.as_ref().unwrap().error.clone();
    assert_eq!(error(0), "no handler of group g wants an event of type return");
    assert_ne!(letters[0].fingerprint, letters[1].fingerprint, "each type is a group of letters");
    assert!(letters.iter().all(|letter| letter.key.is_none() && letter.group == "g"));

    world.broker.reset(0, 0);
    world.drain(0).await;
    assert_eq!(kept(&world), ["e1", "e3"], "also after the group was rewound");
    assert_eq!(world.bills(), ["e0", "e2"]);
    assert_eq!(world.counts().unmatched, 4);
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_while_it_is_kept_there_is_one_letter() {
    for point in [Point::Begin, Point::GiveUp, Point::Seal, Point::Commit] {
        for kind in [ErrorKind::Transient, ErrorKind::Connection, ErrorKind::UnknownCommit] {
            if kind == ErrorKind::UnknownCommit && !matches!(point, Point::Commit) {
                continue;
            }
            let world = world(Unmatched::DeadLetter);
            world.store.faults().fail(point, kind);
            world.drain(0).await;
            assert_eq!(kept(&world), ["e1", "e3"], "{point:?} {kind:?}");
            assert_eq!(world.bills(), ["e0", "e2"], "{point:?} {kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_stops_the_lane_that_is_told_to_and_nothing_is_lost() {
    let mut world = world(Unmatched::Stop);
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Stopped);
    let text = error.to_string();
    assert!(text.contains("partition 0, offset 1: no handler of group g wants"), "{text}");
    assert!(text.contains("type return") && text.contains("Unmatched::Ignore"), "{text}");
    assert_eq!((world.bills(), world.position(0)), (vec!["e0".to_owned()], 1));

    world.set_handlers(vec![typed::<Bill>(&["order"]), typed::<Audit>(&["return", "refund"])]);
    world.drain(0).await;
    assert_eq!((ran(&world, "bill"), ran(&world, "audit")), (ids("02"), ids("13")));
}

fn ids(numbers: &str) -> Vec<String> {
    numbers.chars().map(|n| format!("e{n}")).collect()
}

/// A replay with these handlers.
fn replay(world: &World, handlers: Vec<Registered<Memory>>) -> Replay<Memory> {
    let mut replay = world.replay();
    for (at, with) in replay.handlers_mut().iter_mut().zip(handlers) {
        *at = with;
    }
    replay
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_no_handler_wants_says_what_to_do_and_changes_nothing() {
    let world = world(Unmatched::DeadLetter);
    world.drain(0).await;
    let nobody = || vec![typed::<Bill>(&["order"]), typed::<Audit>(&["a"]), typed::<Count>(&["b"])];
    for replay in [replay(&world, nobody()), replay(&world, nobody()).dry_run()] {
        let report = replay.run(&LetterFilter::new()).await.unwrap();
        assert_eq!((report.matched, report.processed, report.failed.len()), (2, 0, 2));
        assert!(report.failed[0].1.contains("register one that does"), "{:?}", report.failed);
    }
    assert_eq!(kept(&world), ["e1", "e3"]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_gives_it_to_all_handlers_that_want_it_by_then_and_once() {
    let world = world(Unmatched::DeadLetter);
    world.drain(0).await;
    let handlers =
        || vec![typed::<Bill>(&["return"]), typed::<Audit>(&["#"]), typed::<Count>(&["refund"])];
    for processed in [2, 0] {
        let report = replay(&world, handlers()).run(&LetterFilter::new()).await.unwrap();
        assert_eq!((report.processed, report.failed), (processed, vec![]));
    }
    assert_eq!(world.bills(), ["e0", "e2", "e1"]);
    assert_eq!(world.store.rows("audit"), ["e1", "e3"]);
    assert_eq!(world.store.rows("count"), ["0/3"]);
    assert!(kept(&world).is_empty(), "they are settled");
}

#[tokio::test(start_paused = true)]
async fn a_replay_reads_the_type_where_it_is_told() {
    let mut world = World::of(vec![typed::<Bill>(&["order"])], 1);
    let event_type = EventType::field("kind");
    let rules = Rules {
        unmatched: Unmatched::DeadLetter,
        event_type: event_type.clone(),
        ..Rules::default()
    };
    world.set_rules(rules);
    world.broker.produce_raw(0, [r#"{"id":"e0","kind":"return"}"#.to_owned()]);
    world.drain(0).await;
    let handlers =
        || vec![typed::<Bill>(&["return"]), typed::<Audit>(&["x"]), typed::<Count>(&["x"])];
    let unaware = replay(&world, handlers()).run(&LetterFilter::new()).await.unwrap();
    assert_eq!((unaware.processed, unaware.failed.len()), (0, 1));
    let aware = replay(&world, handlers()).event_type(event_type);
    assert_eq!(aware.run(&LetterFilter::new()).await.unwrap().processed, 1);
    assert_eq!(world.bills(), ["e0"]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_leaves_alone_what_nobody_of_another_group_wanted() {
    let world = world(Unmatched::DeadLetter);
    world.drain(0).await;
    let handlers =
        || vec![typed::<Bill>(&["return"]), typed::<Audit>(&["#"]), typed::<Count>(&["refund"])];
    let nameless = || Replay::new(world.store.clone(), "ana").state(world.script.clone());
    let nameless = || nameless().handler::<Bill>().handler::<Audit>().handler::<Count>();
    let others = [
        nameless(),
        nameless().dry_run(),
        nameless().group("other"),
        nameless().group("g").instance("pod-7"),
        nameless().instance("g"),
    ];
    for mut other in others {
        for (at, with) in other.handlers_mut().iter_mut().zip(handlers()) {
            at.types = with.types;
        }
        let report = other.run(&LetterFilter::new()).await.unwrap();
        assert_eq!((report.matched, report.processed, report.failed), (0, 0, vec![]));
        assert_eq!(report.unknown_scopes, ["g.unmatched"]);
    }
    assert_eq!(kept(&world), ["e1", "e3"]);
    assert_eq!(world.bills(), ["e0", "e2"]);
}

#[test]
fn what_nobody_of_an_instance_wanted_is_for_the_replay_of_that_instance() {
    let event = Event::new("t".into(), 0, 0, "{}");
    let letter = DeadLetter::new(1, "g.7.unmatched".into(), LetterState::Dead, "g.7".into(), event);
    let replay = || Replay::new(Memory::new(), "ana");
    assert!(replay().group("g").instance("7").is_of_group(&letter));
    assert!(replay().instance("7").group("g").is_of_group(&letter));
    assert!(replay().group("g.7").is_of_group(&letter), "as Kafka calls it");
    for other in [replay().group("g"), replay().instance("7"), replay().group("g").instance("8")] {
        assert!(!other.is_of_group(&letter));
    }
}
