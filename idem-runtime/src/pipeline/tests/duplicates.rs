use super::handlers::{Audit, Bill, Do, Gate};
use super::harness::{World, ids, in_rows, until};
use crate::group::Registered;

/// Two partitions that share their markers, as only rows are shared.
fn in_rows_of_two() -> World {
    World::of(vec![in_rows(Registered::of::<Bill>())], 2)
}

#[tokio::test(start_paused = true)]
async fn of_equal_keys_in_a_batch_the_first_decides() {
    let world = World::new();
    world.broker.produce(0, ["a", "b", "a", "c", "a"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["a", "b", "c"]);
    assert_eq!((world.counts().processed, world.counts().duplicates), (3, 2));
    assert_eq!(world.store.counts().commits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_does_not_overtake_a_first_that_failed() {
    let world = World::new();
    world.script.on("a", [Do::Fail, Do::Fail, Do::Fail]);
    world.broker.produce(0, ["z", "a", "b", "a"]);
    world.drain(0).await;
    assert_eq!(world.bills(), ["z", "a", "b"]);
    let ran = world.script.ran();
    assert!(ran.iter().filter(|it| it.id == "a").all(|it| it.offset == 1), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_processed_once_across_batches_partitions_and_restarts() {
    let mut world = in_rows_of_two();
    world.settings.max_batch = 2;
    world.broker.produce(0, ["a", "b", "c", "a"]);
    world.broker.produce(1, ["c", "d"]);
    world.drain(0).await;
    world.drain(1).await;
    world.broker.produce(1, ["a", "e"]);
    world.drain(1).await;
    assert_eq!(world.bills(), ["a", "b", "c", "d", "e"]);
    assert_eq!(world.counts().duplicates, 3);
}

#[tokio::test(start_paused = true)]
async fn two_scopes_do_not_take_each_other_s_keys_for_duplicates() {
    let world = World::of(vec![Registered::of::<Bill>(), Registered::of::<Audit>()], 1);
    world.broker.produce(0, ["a", "a"]);
    world.drain(0).await;
    assert_eq!((world.bills(), world.store.rows("audit")), (vec!["a".into()], vec!["a".into()]));
    assert_eq!(world.counts().duplicates, 2);
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_duplicate_waits_and_loses() {
    let world = in_rows_of_two();
    let gate = Gate::new();
    world.script.on("a", [Do::Wait(gate.clone())]);
    world.broker.produce(0, ["a"]);
    world.broker.produce(1, ["a", "b"]);
    let first = world.start(0);
    gate.reached().await;
    let second = world.start(1);
    world.store.wait_for(|view| view.waiting() == 1).await;
    gate.open();
    world.worked(0, 1).await;
    world.worked(1, 2).await;
    assert_eq!(world.bills(), ["a", "b"]);
    assert_eq!(world.script.ids(), ["a", "b"]);
    first.finish().await;
    second.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_duplicate_wins_when_the_first_fails() {
    let world = in_rows_of_two();
    let gate = Gate::new();
    world.script.on("a", [Do::WaitThenFail(gate.clone())]);
    world.broker.produce(0, ["a"]);
    world.broker.produce(1, ["a"]);
    let first = world.start(0);
    gate.reached().await;
    let second = world.start(1);
    world.store.wait_for(|view| view.waiting() == 1).await;
    gate.open();
    world.worked(1, 1).await;
    world.worked(0, 1).await;
    assert_eq!(world.bills(), ["a"]);
    assert_eq!(world.counts().duplicates, 1);
    first.finish().await;
    second.finish().await;
}

#[tokio::test(start_paused = true)]
async fn lanes_that_share_keys_in_opposite_orders_do_not_deadlock() {
    let world = in_rows_of_two();
    let (first, second) = (Gate::new(), Gate::new());
    world.script.on("e0", [Do::Wait(first.clone())]);
    world.script.on("e9", [Do::Wait(second.clone())]);
    world.broker.produce(0, ids(10));
    world.broker.produce(1, ids(10).into_iter().rev());
    let lanes = [world.start(0), world.start(1)];
    first.reached().await;
    world.store.wait_for(|view| view.waiting() == 1).await;
    first.open();
    second.open();
    until(|| world.position(0) == 10 && world.position(1) == 10).await;
    assert_eq!(world.store.counts().begins, 2, "nothing was tried twice");
    assert_eq!(world.bills(), ids(10));
    for lane in lanes {
        lane.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_key_is_processed_again_after_a_rewind() {
    let world = World::new();
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    assert!(world.forget("e2").await);
    world.broker.reset(0, 0);
    let lane = world.start(0);
    until(|| world.bills().len() == 5).await;
    world.worked(0, 4).await;
    assert_eq!(world.bills()[4], "e2");
    assert_eq!(world.counts().duplicates, 3);
    lane.finish().await;
}
