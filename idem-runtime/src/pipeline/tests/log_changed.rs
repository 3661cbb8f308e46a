use std::time::Duration;

use super::broker::Call;
use super::handlers::{Bill, Count};
use super::harness::{Running, World, ids, quiet, until};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::memory::{Pause, Point};
use crate::pipeline::policy::LogChanged;

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_created_again_and_grew_is_not_read_from_the_middle() {
    let mut world = World::new();
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.recreate();
    world.broker.produce(0, ["f0", "f1", "f2", "f3", "f4"]);
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Log);
    assert_eq!((world.bills(), world.position(0)), (ids(3), 3));
    world.settings.policies.log_changed = LogChanged::Earliest;
    world.drain(0).await;
    assert_eq!(world.bills()[3..], ["f0", "f1", "f2", "f3", "f4"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_created_again_under_a_running_lane_stops_it() {
    let world = World::new();
    let lane = world.start(0);
    let watch = world.watch(&[&lane]);
    world.broker.produce(0, ids(3));
    world.worked(0, 3).await;
    world.broker.recreate();
    assert_eq!(lane.stopped().await.kind(), ErrorKind::Log);
    assert_eq!(world.position(0), 3);
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn events_that_retention_took_before_they_were_read_are_named() {
    let world = World::new();
    world.broker.produce(0, ids(2));
    world.drain(0).await;
    world.broker.produce(0, ids(9));
    world.broker.trim(0, 6);
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Log);
    assert!(error.to_string().contains("events 2 to 5"), "{error}");
    assert_eq!(world.position(0), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_told_to_look_and_cannot_looks_again() {
    let world = World::new();
    let lane = world.start(0);
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    world.broker.truncate(0, 1);
    for _ in 0..3 {
        world.broker.fail(Call::Survey);
    }
    lane.seat.look();
    assert_eq!(lane.stopped().await.kind(), ErrorKind::Log);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_seems_lower_for_a_moment_is_looked_at_again() {
    let world = World::new();
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.truncate(0, 1);
    let lane = world.start(0);
    quiet(Duration::from_millis(20)).await;
    world.broker.hole(0, 2);
    world.broker.produce(0, ["e3"]);
    world.worked(0, 4).await;
    assert_eq!(world.bills(), ids(4));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_tell_the_topic_s_id_for_a_while_is_waited_for() {
    let world = World::new();
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.tells_identity(false);
    world.broker.produce(0, ["e3"]);
    let lane = world.start(0);
    quiet(Duration::from_secs(60)).await;
    assert_eq!(world.position(0), 3);
    world.broker.tells_identity(true);
    world.worked(0, 4).await;
    lane.finish().await;
    assert_eq!(world.bills(), ids(4));
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_the_broker_did_not_tell_at_first_is_learned() {
    let world = World::new();
    world.broker.tells_identity(false);
    world.broker.produce(0, ids(3));
    world.drain(0).await;
    world.broker.tells_identity(true);
    world.drain(0).await;
    world.broker.recreate();
    world.broker.produce(0, ids(9));
    assert_eq!(world.start(0).stopped().await.kind(), ErrorKind::Log);
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_log_may_have_lost_its_tail_starts_again_at_its_position() {
    let world = World::new();
    let lane = world.start(0);
    world.broker.produce(0, ids(2));
    world.worked(0, 2).await;
    let token = world.row(0).token;
    lane.seat.doubt();
    until(|| world.row(0).token != token).await;
    world.broker.produce(0, ["e2"]);
    world.worked(0, 3).await;
    assert_eq!((world.bills(), world.script.ran().len()), (ids(3), 3));
    lane.finish().await;
}

/// A lane that has worked six events, and was rewound to the first of them, of whose log all but three are
/// gone before it has done anything else.
async fn rewound_and_cut(world: &World) -> (Running, Pause) {
    world.broker.produce(0, ids(6));
    world.drain(0).await;
    world.broker.reset(0, 0);
    let begun = world.store.faults().pause(Point::Begin);
    let lane = world.start(0);
    begun.reached().await;
    assert_eq!(world.position(0), 0);
    world.broker.truncate(0, 3);
    (lane, begun)
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_was_lost_beyond_a_position_that_was_moved_back_is_noticed() {
    let handlers = vec![Registered::of::<Bill>(), Registered::of::<Count>()];
    let mut world = World::of(handlers, 1);
    let (lane, begun) = rewound_and_cut(&world).await;
    lane.kill().await;
    begun.release();
    let error = world.start(0).stopped().await;
    assert_eq!(error.kind(), ErrorKind::Log);
    assert!(error.to_string().contains("events were handled up to 6"), "{error}");
    world.settings.policies.log_changed = LogChanged::Earliest;
    world.drain(0).await;
    // What is where the tail was is nothing that was counted.
    world.broker.produce(0, ["f3", "f4"]);
    world.drain(0).await;
    let counted = world.store.rows("count");
    assert_eq!(counted[counted.len() - 2..], ["0/3", "0/4"]);
    assert_eq!(world.bills()[6..], ["f3", "f4"]);
}

#[tokio::test(start_paused = true)]
async fn a_running_lane_looks_how_far_it_was_before_it_was_moved_back() {
    let world = World::new();
    let (lane, begun) = rewound_and_cut(&world).await;
    lane.seat.look();
    begun.release();
    assert_eq!(lane.stopped().await.kind(), ErrorKind::Log);
    assert_eq!(world.bills(), ids(6));
}
