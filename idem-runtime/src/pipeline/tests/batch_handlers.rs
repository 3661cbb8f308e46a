use std::time::Duration;

use super::handlers::{Audit, Bulk, Do};
use super::harness::{World, ids};
use crate::dead_letter::{FailureClass, LetterState};
use crate::error::{Error, ErrorKind};
use crate::group::Registered;
use crate::policy::{OnFailure, Policy, Retry};

fn bulk(policy: Policy) -> Registered<crate::memory::Memory> {
    let mut bulk = Registered::of::<Bulk>();
    bulk.policy = policy;
    bulk
}

fn world() -> World {
    World::of(vec![bulk(Policy::new().retry(Retry::new().max(2)))], 1)
}

fn effects(world: &World) -> Vec<String> {
    world.store.rows("bulk")
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_call_with_the_new_events_in_order() {
    let world = world();
    world.broker.produce(0, ["e0", "e1"]);
    world.drain(0).await;
    world.broker.produce(0, ["e2", "e1", "e3", "e2", "e0", "e4"]);
    world.drain(0).await;
    assert_eq!(world.script.calls(), [vec!["e0", "e1"], vec!["e2", "e3", "e4"]]);
    assert_eq!(effects(&world), ids(5));
    assert_eq!((world.counts().processed, world.counts().duplicates), (5, 3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_not_called_for_duplicates_only() {
    let world = world();
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.script.calls().len(), 1);
    assert_eq!(world.position(0), 6);
}

#[tokio::test(start_paused = true)]
async fn the_event_that_makes_a_call_fail_is_found_by_halving() {
    let world = world();
    world.script.always("bulk", "e5", Do::Fail);
    world.broker.produce(0, ids(8));
    world.drain(0).await;
    let mut expected = ids(8);
    expected.remove(5);
    assert_eq!(effects(&world), expected);
    let letters = world.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!((&*letters[0].1, letters[0].2), ("e5", LetterState::Dead));
    let sizes: Vec<_> = world.script.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [8, 4, 4, 2, 1, 1, 1, 2], "its neighbours are not tried alone");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_handler_names_is_not_searched_for() {
    let world = world();
    world.script.name_events(0);
    world.script.always("bulk", "e5", Do::Fail);
    world.script.always("bulk", "e7", Do::FailForGood);
    world.broker.produce(0, ids(9));
    world.drain(0).await;
    assert_eq!(effects(&world), ["e0", "e1", "e2", "e3", "e4", "e6", "e8"]);
    let dead: Vec<_> = world.letters().into_iter().map(|it| it.1).collect();
    assert_eq!(dead, ["e5", "e7"]);
    // All, in which e5 fails; what is before it; e5 again; the rest, in which e7 is refused; what is
    // before it; what is after it, with its letter.
    let sizes: Vec<_> = world.script.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [9, 5, 1, 3, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_names_an_event_that_is_none_of_its_own_loses_nothing() {
    let world = world();
    world.script.name_events(100);
    world.script.always("bulk", "e1", Do::Fail);
    world.script.on_in("bulk", "e6", [Do::Fail]);
    world.broker.produce(0, ids(8));
    world.drain(0).await;
    assert_eq!(effects(&world).len(), 7);
    let dead: Vec<_> = world.letters().into_iter().map(|it| it.1).collect();
    assert_eq!(dead, ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_in_a_batch_is_found_by_halving_too() {
    let world = world();
    world.script.always("bulk", "e1", Do::FailForGood);
    world.script.always("bulk", "e6", Do::FailStatementForGood);
    world.broker.produce(0, ids(8));
    world.drain(0).await;
    assert_eq!(effects(&world).len(), 6);
    let dead: Vec<_> = world.letters().into_iter().map(|it| it.1).collect();
    assert_eq!(dead, ["e1", "e6"]);
}

#[tokio::test(start_paused = true)]
async fn panics_timeouts_and_refused_commits_are_found_in_a_batch() {
    let policy = Policy::new().retry(Retry::never()).timeout(Duration::from_secs(5));
    let world = World::of(vec![bulk(policy)], 1);
    world.script.always("bulk", "e1", Do::Panic);
    world.script.always("bulk", "e3", Do::Hang);
    world.store.faults().reject_commits(|rows| {
        let bad = rows.iter().any(|(_, value)| *value == "e6");
        bad.then(|| Error::new(ErrorKind::Store, "a deferred constraint"))
    });
    world.broker.produce(0, ids(8));
    world.drain(0).await;
    let dead: Vec<_> = world.letters().into_iter().map(|it| (it.1, it.3.unwrap())).collect();
    let expected = [
        ("e1".to_owned(), FailureClass::Panic),
        ("e3".to_owned(), FailureClass::Timeout),
        ("e6".to_owned(), FailureClass::Transaction),
    ];
    assert_eq!(dead, expected);
    assert_eq!(effects(&world), ["e0", "e2", "e4", "e5", "e7"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_handler_and_another_one_share_the_transaction() {
    let retry = Policy::new().retry(Retry::new().max(2));
    let mut audit = Registered::of::<Audit>();
    audit.policy = retry;
    let world = World::of(vec![bulk(retry), audit], 1);
    world.script.always("bulk", "e2", Do::Fail);
    world.script.always("audit", "e3", Do::Fail);
    world.broker.produce(0, ids(6));
    world.drain(0).await;
    assert_eq!(effects(&world), ["e0", "e1", "e3", "e4", "e5"]);
    assert_eq!(world.store.rows("audit"), ["e0", "e1", "e2", "e4", "e5"]);
    let mut letters: Vec<_> = world.letters().into_iter().map(|it| (it.0, it.1)).collect();
    letters.sort();
    let expected = [("audit", "e3"), ("bulk", "e2")];
    assert_eq!(letters, expected.map(|(scope, id)| (scope.to_owned(), id.to_owned())));
    assert_eq!((world.counts().processed, world.counts().dead_lettered), (10, 2));
}

#[tokio::test(start_paused = true)]
async fn what_waited_is_released_to_a_batch_handler_in_one_call() {
    let policy = Policy::new().retry(Retry::never()).on_failure(OnFailure::PARK_KEY);
    let world = World::of(vec![bulk(policy)], 1);
    world.script.always("bulk", "e0", Do::Fail);
    world.broker.produce_keyed(0, ids(5).into_iter().map(|id| ("a", id)));
    world.drain(0).await;
    assert!(effects(&world).is_empty());
    world.dead_letters().discard(&crate::LetterFilter::id(1), "no").await.unwrap();
    let lane = world.start(0);
    super::harness::until(|| effects(&world).len() == 4).await;
    assert_eq!(world.script.calls().last().unwrap(), &ids(5)[1..]);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_handler_works_in_slices() {
    let world = World::of(vec![bulk(Policy::new().slices(3).retry(Retry::never()))], 1);
    world.script.always("bulk", "e7", Do::Fail);
    let events = ids(30).into_iter().enumerate().map(|(n, id)| (format!("c{}", n % 9), id));
    world.broker.produce_keyed(0, events);
    world.drain(0).await;
    assert_eq!((effects(&world).len(), world.letters().len()), (29, 1));
}
