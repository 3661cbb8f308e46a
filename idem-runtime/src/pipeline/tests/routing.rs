use super::crash_loops::lives;
use super::handlers::{Audit, Bill, Bulk, Count, Do};
use super::harness::{World, ids};
use crate::dead_letter::{FailureClass, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::handler::Subscriber;
use crate::memory::Memory;
use crate::policy::{OnFailure, Policy, Retry};
use crate::routing::{EventType, Rules, Types};

/// A handler that takes events of these types only.
pub(super) fn typed<H: Subscriber<Store = Memory>>(types: &[&str]) -> Registered<Memory> {
    typed_from::<H>(types, None)
}

/// The same, its types at this place.
fn typed_from<H: Subscriber<Store = Memory>>(
    types: &[&str],
    from: Option<EventType>,
) -> Registered<Memory> {
    Registered { types: Some(Types::new(types, from)), ..Registered::of::<H>() }
}

/// The ids that a handler was called with, in order.
pub(super) fn ran(world: &World, scope: &str) -> Vec<String> {
    let ran = world.script.ran().into_iter();
    ran.filter(|it| it.scope == scope).map(|it| it.id).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_that_matches_several_patterns_runs_each_handler_once() {
    let bill = typed::<Bill>(&["order.#", "*.placed.*", "order.placed.us-west"]);
    let audit = typed::<Audit>(&["#.us-west"]);
    let bulk = typed::<Bulk>(&["order.*.us-west", "return.#"]);
    let world = World::of(vec![bill, audit, bulk], 1);
    let events = [
        ("order.placed.us-west", "e0"),
        ("order.placed.eu", "e1"),
        ("return.placed.us-west", "e2"),
        ("order.placed.us-west", "e0"),
        ("return.late", "e3"),
        ("order.placed.us-west", "e0"),
        ("return.placed.us-west", "e2"),
    ];
    world.broker.produce_typed(0, events);
    world.drain(0).await;
    assert_eq!(ran(&world, "bill"), ["e0", "e1", "e2"], "`*.placed.*` takes e2, too");
    assert_eq!(ran(&world, "audit"), ["e0", "e2"]);
    assert_eq!(ran(&world, "bulk"), ["e0", "e2", "e3"]);
    for scope in ["bill", "audit", "bulk"] {
        assert_eq!(world.store.rows(scope), ran(&world, scope), "{scope}");
    }
    let counts = world.counts();
    assert_eq!((counts.processed, counts.unmatched, counts.delivered), (8, 0, 7));
    assert_eq!(counts.duplicates, 9, "two more e0 and one more e2, each for three handlers");
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_types_takes_all_of_its_topics_beside_one_with() {
    let world = World::of(vec![typed::<Bill>(&["order.placed"]), Registered::of::<Count>()], 1);
    world.broker.produce_typed(0, [("order.placed", "e0"), ("order.Placed", "e1")]);
    world.broker.produce(0, ["e2"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0"], "types are case-sensitive, and an event can have none");
    assert_eq!(world.store.rows("count"), ["0/0", "0/1", "0/2"]);
    assert_eq!(world.counts().unmatched, 0, "somebody wants each of them");
}

#[tokio::test(start_paused = true)]
async fn each_handler_reads_the_type_where_it_says_and_the_others_where_the_group_says() {
    let by_field = Some(EventType::field("meta.kind"));
    let by_topic = Some(EventType::topic());
    let handlers = vec![
        typed::<Bill>(&["order.*"]),
        typed_from::<Audit>(&["return.*"], by_field),
        typed_from::<Count>(&["orders"], by_topic),
    ];
    let mut world = World::of(handlers, 1);
    world.set_rules(Rules { event_type: EventType::field("kind"), ..Rules::default() });
    let payloads = [
        r#"{"id":"e0","kind":"order.placed","meta":{"kind":"return.placed"}}"#,
        r#"{"id":"e1","kind":"return.placed","meta":{"kind":"order.placed"}}"#,
        r#"{"id":"e2","meta":{"x":[{"kind":"no"}],"kind":"return.late"},"kind":"order.late"}"#,
    ];
    world.broker.produce_raw(0, payloads.map(str::to_owned));
    world.drain(0).await;
    assert_eq!(ran(&world, "bill"), ["e0", "e2"]);
    assert_eq!(ran(&world, "audit"), ["e0", "e2"]);
    assert_eq!(world.store.rows("count").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_type_that_cannot_be_read_is_a_decode_failure_of_those_who_ask_for_it() {
    let by_field = Some(EventType::field("kind"));
    let handlers = vec![typed_from::<Bill>(&["order.#"], by_field), typed::<Audit>(&["order.#"])];
    let world = World::of(handlers, 1);
    let payloads = [r#"{"id":"e0","kind":"order"}"#, "no JSON", r#"{"id":"e2","kind":"order"}"#];
    world.broker.produce_raw(0, payloads.map(str::to_owned));
    world.drain(0).await;
    assert_eq!(world.bills(), ["e0", "e2"]);
    let dead = (LetterState::Dead, Some(FailureClass::Decode));
    assert_eq!(world.letters(), [("bill".into(), "no JSON".into(), dead.0, dead.1)]);
    let letters = world.store.look(|view| view.letters());
    let error = &letters[0].cause.as_ref().unwrap().error;
    assert!(error.contains("not JSON, which the event's type is read from"), "{error}");
    assert_eq!(world.counts().unmatched, 0, "it is no event that nobody wants");
}

#[tokio::test(start_paused = true)]
async fn a_type_that_cannot_be_read_stops_the_lane_of_a_handler_that_says_so() {
    let mut bill = typed_from::<Bill>(&["order.#"], Some(EventType::field("kind")));
    bill.policy = Policy::new().on_failure(OnFailure::Stop);
    let world = World::of(vec![bill], 1);
    world.broker.produce_raw(0, [r#"{"id":"e0","kind":"order"}"#, "{"].map(str::to_owned));
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("offset 1, scope bill"), "{error}");
    assert_eq!(world.bills(), ["e0"]);
}

#[tokio::test(start_paused = true)]
async fn a_typed_handler_fails_and_parks_as_any_other() {
    let mut bill = typed::<Bill>(&["order.*"]);
    let never = Policy::new().retry(Retry::never());
    bill.policy = never.on_failure(OnFailure::ParkKey { limit: 10 });
    let world = World::of(vec![bill], 1);
    world.script.always("bill", "e0", Do::Fail);
    // One message key: what comes behind e0 waits, and what is not for the handler does not.
    let events = ["order.a", "other", "order.b"].map(|event_type| (event_type, "e0"));
    world.broker.produce_typed(0, events);
    world.broker.produce_typed(0, [("order.c", "e1")]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["e1"]);
    assert_eq!(world.letters_in(LetterState::Parked), ["e0"]);
    assert_eq!(world.counts().unmatched, 1);
    world.script.mend();
    let report = world.replay().run(&crate::LetterFilter::new()).await.unwrap();
    assert_eq!(report.processed, 1);
    assert_eq!(world.bills(), ["e1", "e0"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_is_given_up_on_for_those_who_want_it() {
    let world = World::of(vec![typed::<Bill>(&["order"]), typed::<Audit>(&["return"])], 1);
    world.broker.produce_typed(0, [("return", "e0"), ("order", "e1"), ("none", "e2")]);
    assert_eq!(lives(&world, 1, &["e1"]).await, 2 + 3);
    let dead = (LetterState::Dead, Some(FailureClass::Crash));
    assert_eq!(world.letters(), [("bill".into(), "e1".into(), dead.0, dead.1)]);
    assert_eq!(world.store.rows("audit"), ["e0"]);
    assert_eq!(world.position(0), 3);
}

#[tokio::test(start_paused = true)]
async fn slices_route_as_a_whole_lane_does() {
    let sliced = Policy::new().slices(4);
    let mut bill = typed::<Bill>(&["a.#"]);
    bill.policy = sliced;
    let mut audit = typed::<Audit>(&["#.b"]);
    audit.policy = sliced;
    let world = World::of(vec![bill, audit], 1);
    let types = ["a", "b", "a.b", "c"];
    let events = ids(200).into_iter().enumerate().map(|(n, id)| (types[n % 4], id));
    world.broker.produce_typed(0, events);
    world.drain(0).await;
    assert_eq!(world.bills().len(), 100);
    assert_eq!(world.store.rows("audit").len(), 100);
    assert_eq!(world.counts().unmatched, 50);
}
