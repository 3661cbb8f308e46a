use serde_json::json;

use super::broker::TOPIC;
use super::handlers::{Do, Order, Script, perform};
use super::harness::{World, ids};
use crate::answer::{Answer, Answers};
use crate::context::Context;
use crate::dead_letter::{FailureClass, LetterFilter};
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::format::decode_json;
use crate::group::Registered;
use crate::handler::{Call, EventOf, Handler, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::memory::{Memory, MemoryConnection};
use crate::policy::{Markers, Policy, Retry};
use crate::process::Processor;
use crate::state::{Needs, State};
use crate::store::Store as _;

/// Returns how many rows there are.
struct Tally;

impl Handler for Tally {
    type Store = Memory;
    type Input = One<Order>;
    const SCOPE: &'static str = "tally";
    const STORES_RESULT: bool = true;

    fn needs(needs: &mut Needs) {
        <State<Script> as Param<'_, Self>>::needs(needs);
        <&Context as Param<'_, Self>>::needs(needs);
    }

    fn key(event: &EventOf<Self>, _: Option<&Event>) -> Result<Key, KeyError> {
        Key::of(&event.id)
    }

    async fn handle(One(order): One<Order>, mut call: Call<'_, Self>) -> Result<(), Failure> {
        let answer = call.answer()?;
        let script = <State<Script> as Param<'_, Self>>::take(&mut call)?;
        let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        let effect = order.id.clone();
        perform("tally", order, effect, (&script, cx, &mut *tx)).await?;
        answer.keep(&tx.rows("tally").await?.len(), 2)
    }
}

impl Subscriber for Tally {
    const TOPICS: &'static [&'static str] = &[TOPIC];

    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
        decode_json(&event)
    }
}

impl crate::handler::KeyedByEvent for Tally {}

impl Answers for Tally {
    type Answer = usize;
}

fn world() -> World {
    let mut count = Registered::of::<Tally>();
    // Results are kept beside markers, which are rows then.
    count.policy = Policy::new().retry(Retry::new().max(2)).markers(Markers::Rows);
    World::of(vec![count], 1)
}

async fn result(world: &World, id: &str) -> Option<serde_json::Value> {
    let marker = world.store.marker("tally", &Key::new(id).unwrap()).await.unwrap();
    marker.and_then(|it| it.result)
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_returned_in_a_lane_answers_a_call_without_kafka() {
    let world = world();
    world.script.on_in("tally", "e3", [Do::Fail]);
    world.broker.produce(0, ["e0", "e1", "e0", "e2", "e3"]);
    world.drain(0).await;
    for (number, id) in (1..).zip(ids(4)) {
        assert_eq!(result(&world, &id).await, Some(json!(number)), "{id}");
    }
    let processor = Processor::new(world.store.clone()).state(world.script.clone());
    let answer = processor.answer::<Tally>(Order::new("e2")).await.unwrap();
    assert_eq!(answer, crate::Outcome::Duplicate(Some(3)));
    let answer = processor.answer::<Tally>(Order::new("e9")).await.unwrap();
    assert_eq!(answer, crate::Outcome::Processed(5));
}

#[tokio::test(start_paused = true)]
async fn a_result_goes_with_the_transaction_that_is_undone() {
    let world = world();
    world.store.faults().lose_the_answer_of_a_commit();
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    assert_eq!(world.store.rows("tally").len(), 3);
    assert_eq!(result(&world, "e2").await, Some(json!(3)));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_long_is_a_dead_letter_and_a_replay_stores_its_own() {
    let world = world();
    // The hundredth number has three digits.
    world.broker.produce(0, ids(100));
    world.drain(0).await;
    let letters = world.letters();
    let [(scope, id, _, Some(FailureClass::Handler))] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!((scope.as_str(), id.as_str()), ("tally", "e99"));
    assert_eq!(result(&world, "e99").await, None);
    assert_eq!(world.store.rows("tally").len(), 99, "its effects are not kept");

    let report = world.replay().handler::<Tally>().run(&LetterFilter::new()).await.unwrap();
    assert_eq!((report.processed, report.failed.len()), (0, 1), "it is as long as before");
}

#[tokio::test(start_paused = true)]
async fn a_replayed_event_has_its_result_stored() {
    let world = world();
    world.script.always("tally", "e0", Do::Fail);
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    assert_eq!((result(&world, "e0").await, result(&world, "e1").await), (None, Some(json!(1))));
    world.script.mend();
    let report = world.replay().handler::<Tally>().run(&LetterFilter::new()).await.unwrap();
    assert_eq!(report.processed, 1);
    assert_eq!(result(&world, "e0").await, Some(json!(2)));
}

#[test]
fn a_value_is_read_as_it_was_stored() {
    let value = ("a".to_owned(), Some(1.5_f64), vec![1_u64, u64::MAX]);
    assert_eq!(Answer::from_json(value.to_json().unwrap()).ok(), Some(value));
}
