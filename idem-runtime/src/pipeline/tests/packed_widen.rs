//! Packed markers of a former layout: in runs that all lanes ask, however much memory there is.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Running, World, ids, quiet, until};
use super::packed::PACKED;
use super::packed_layout::bill;
use super::slices::{SLICES, produce};
use crate::Store as _;
use crate::error::ErrorKind;
use crate::memory::Point;
use crate::packed::Budget;
use crate::pipeline::policy::LayoutChanged;
use crate::policy::{Policy, Window};
use crate::random::Random;

/// Two partitions that have done these, one half each, a batch for each event; then there are three, and
/// no memory for windows.
async fn grown(policy: Policy, count: usize) -> World {
    let mut world = World::of(bill(policy), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.max_batch = 1;
    for partition in 0..2 {
        world.broker.produce(partition, half(count, partition));
        world.drain(partition).await;
    }
    world.broker.add_partitions(1);
    world.budget = Budget::new(0);
    world
}

fn half(count: usize, partition: i32) -> Vec<String> {
    let first = if partition == 0 { 0 } else { count / 2 };
    ids(count).into_iter().skip(first).take(count / 2).collect()
}

fn runs(world: &World) -> usize {
    world.store.look(|view| view.runs())
}

/// Whether all that was packed when the topic had so many partitions is in runs.
fn is_cool(world: &World, partitions: i32) -> bool {
    let rows = world.packs("bill");
    rows.iter().filter(|row| row.partitions == partitions).all(|row| row.run.is_some())
}

#[tokio::test(start_paused = true)]
async fn a_former_layout_that_does_not_fit_into_memory_is_known_in_every_partition() {
    let world = grown(PACKED, 20).await;
    for partition in [2, 0, 1, 2] {
        world.broker.produce(partition, ids(20));
        world.drain(partition).await;
    }
    assert_eq!(world.bills(), ids(20));
    // What was packed since are the duplicates, each at a place of its own.
    assert_eq!(world.counts().duplicates, 80);
    for partition in 0..3 {
        world.again_from(partition, 0).await;
    }
    assert_eq!(world.bills(), ids(20));
}

#[tokio::test(start_paused = true)]
async fn all_lanes_ask_for_one_copy_however_often_they_are_taken() {
    let mut world = grown(PACKED, 20).await;
    world.budget = Budget::new(1 << 20);
    let rows = world.packs("bill");
    for round in 0..3 {
        let lanes = [2, 0, 1].map(|partition| world.start(partition));
        for lane in &lanes {
            until(|| lane.seat.held().is_some()).await;
        }
        world.broker.produce(2, ids(20));
        world.worked(2, 20 * (round + 1)).await;
        for lane in lanes {
            lane.kill().await;
        }
        assert_eq!(runs(&world), 2, "one of each partition that there was");
    }
    assert_eq!(world.bills(), ids(20));
    let now = world.packs("bill");
    assert!(now.iter().zip(&rows).all(|(now, row)| now.run.is_some() && now.data == row.data));
    // Memory has the filters alone, and what is new.
    let lane = world.start(2);
    world.broker.produce(2, ["new"]);
    world.worked(2, 61).await;
    assert_eq!(world.bills().len(), 21);
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn former_slices_that_do_not_fit_into_memory_are_known_in_every_slice() {
    for (before, now) in [(1, SLICES), (SLICES, 1), (SLICES, 2)] {
        let mut world = World::of(bill(PACKED.slices(before)), 1);
        world.settings.max_batch = 2;
        produce(&world, 0, 24);
        world.drain(0).await;
        world.set_handlers(bill(PACKED.slices(now)));
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        world.budget = Budget::new(0);
        produce(&world, 0, 30);
        world.drain(0).await;
        let former = |row: &crate::packed::PackRow| {
            let of = row.slice.map_or(1, |slice| slice.of);
            (of == before).then_some(row.run)
        };
        let former: BTreeSet<_> = world.packs("bill").iter().filter_map(former).collect();
        assert!(former.iter().all(Option::is_some), "{before} to {now}: {former:?}");
        assert!(former.len() <= usize::from(before), "one of each slice: {former:?}");
        world.again_from(0, 0).await;
        world.assert_sums(ids(30));
        assert_eq!(world.counts().processed, 30);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layout_that_changes_twice_has_all_of_before() {
    let world = grown(PACKED, 20).await;
    world.broker.produce(2, ["e20", "e3"]);
    world.drain(2).await;
    world.broker.add_partitions(2);
    for partition in [4, 3, 2, 0] {
        world.broker.produce(partition, ids(21));
        world.drain(partition).await;
    }
    let mut bills = world.bills();
    bills.sort();
    let mut all = ids(21);
    all.sort();
    assert_eq!(bills, all);
    assert!(is_cool(&world, 2) && is_cool(&world, 3));
}

#[tokio::test(start_paused = true)]
async fn who_dies_while_the_former_layout_is_put_into_runs_leaves_the_rest_to_the_next() {
    let world = grown(PACKED, 20).await;
    for kills in 0..3 {
        let pause = world.store.faults().pause(Point::AddRun);
        let lane = world.start(2);
        pause.reached().await;
        assert_eq!(runs(&world), 0, "{kills}");
        lane.kill().await;
        pause.release();
    }
    // Between one and the next.
    let lane = world.start(2);
    until(|| runs(&world) > 0).await;
    lane.kill().await;
    world.broker.produce(2, ids(20));
    world.drain(2).await;
    assert_eq!(world.bills(), ids(20));
    assert!(is_cool(&world, 2));
}

#[tokio::test(start_paused = true)]
async fn lanes_that_put_the_same_rows_into_runs_do_it_once() {
    let world = grown(PACKED, 20).await;
    let pause = world.store.faults().pause(Point::AddRun);
    let one = world.start(2);
    pause.reached().await;
    // Another one does all of it meanwhile.
    let other = world.start(0);
    world.broker.produce(0, half(20, 1));
    world.worked(0, 20).await;
    pause.release();
    world.broker.produce(2, ids(20));
    world.worked(2, 20).await;
    assert_eq!(world.bills(), ids(20));
    let of_run = |row: &crate::packed::PackRow| (row.lane, row.run);
    let mut of_former = world.packs("bill");
    of_former.retain(|row| row.partitions == 2);
    let used: BTreeSet<_> = of_former.iter().map(of_run).collect();
    assert_eq!(used.len(), 2, "{used:?}");
    one.finish().await;
    other.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_while_the_former_layout_is_looked_at_is_asked_again() {
    for point in [Point::ForeignHeads, Point::Packs, Point::AddRun, Point::RunsOf, Point::InRuns] {
        let world = grown(PACKED, 20).await;
        for _ in 0..3 {
            world.store.faults().fail(point, ErrorKind::Connection);
        }
        world.broker.produce(2, ids(20));
        world.drain(2).await;
        assert_eq!(world.bills(), ids(20), "{point:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_lane_while_it_looks_at_the_former_layout_puts_nothing_into_runs() {
    let world = grown(PACKED, 20).await;
    world.broker.produce(2, ids(20));
    let pause = world.store.faults().pause(Point::AddRun);
    let lane = world.start(2);
    pause.reached().await;
    let owner = world.process("b").owner;
    world.store.take(&world.id(2), &owner).await.unwrap().unwrap();
    pause.release();
    // It notices, and takes the lane again some time after.
    let began = Instant::now();
    until(|| lane.seat.held().is_none()).await;
    assert_eq!(runs(&world), 0);
    world.worked(2, 20).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(world.bills(), ids(20));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_rows_are_put_into_runs_while_it_loads_them_misses_none() {
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    world.broker.add_partitions(1);
    // It has read which runs it has, and is about to read its rows.
    let pause = world.store.faults().pause(Point::Packs);
    let lane = world.start(0);
    pause.reached().await;
    world.broker.produce(2, ["e1"]);
    world.drain(2).await;
    assert_eq!((runs(&world), is_cool(&world, 2)), (1, true));
    pause.release();
    world.broker.produce(0, ids(4));
    world.worked(0, 8).await;
    assert_eq!(world.bills(), ids(4));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_has_no_memory_goes_on_when_others_put_its_rows_into_runs() {
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.broker.produce(0, ids(4));
    world.drain(0).await;
    world.broker.add_partitions(1);
    world.budget = Budget::new(0);
    // It is about to do so itself.
    let pause = world.store.faults().pause(Point::AddRun);
    let lane = world.start(0);
    pause.reached().await;
    world.broker.produce(2, ["e1"]);
    world.drain(2).await;
    assert!(is_cool(&world, 2));
    let began = Instant::now();
    pause.release();
    world.broker.produce(0, ids(4));
    world.worked(0, 8).await;
    // It has not lost its lane, which would be taken again seconds later.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(world.bills(), ids(4));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_have_put_into_runs_leaves_the_memory_of_its_own_lane() {
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.tend_interval = Duration::from_secs(3600);
    // Over its budget, and not tended to any more.
    world.budget = Budget::new(0);
    let lane = world.start(0);
    quiet(Duration::from_secs(1)).await;
    world.broker.produce(0, ids(200));
    world.worked(0, 200).await;
    let used = world.budget.used();
    world.broker.add_partitions(1);
    let memory = std::mem::replace(&mut world.budget, Budget::new(1 << 20));
    world.broker.produce(2, ["e7"]);
    world.drain(2).await;
    assert!(is_cool(&world, 2));
    lane.seat.tend();
    until(|| memory.used() < used / 2).await;
    assert_eq!(runs(&world), 1);
    world.broker.produce(0, ids(201));
    world.worked(0, 401).await;
    assert_eq!(world.bills(), ids(201));
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_former_layout_that_is_forgotten_is_new_in_lanes_that_run() {
    for budget in [0, 1 << 20] {
        let mut world = grown(PACKED, 20).await;
        world.budget = Budget::new(budget);
        let lanes = [2, 0].map(|partition| world.start(partition));
        world.broker.produce(2, ids(20));
        world.worked(2, 20).await;
        assert!(world.forget("e13").await);
        assert!(!world.forget("e13").await, "there is no other copy");
        world.broker.produce(0, ids(20));
        world.worked(0, 30).await;
        let expected = [ids(20), vec!["e13".to_owned()]].concat();
        assert_eq!(world.bills(), expected, "{budget}");
        for lane in lanes {
            lane.finish().await;
        }
        world.again_from(0, 0).await;
        assert_eq!(world.bills(), expected, "{budget}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_former_layout_ages_out_with_its_own_lanes_and_holds_nobody_up() {
    for budget in [0, 1 << 20] {
        let mut world = grown(PACKED.window(Window::DEFAULT.events(0)), 20).await;
        world.budget = Budget::new(budget);
        world.settings.tend_interval = Duration::from_secs(3600);
        let lane = world.start(2);
        world.broker.produce(2, ids(20));
        world.worked(2, 20).await;
        assert_eq!((world.bills().len(), runs(&world) >= 2), (20, true));
        // Kafka has nothing of them any more, and their lanes are tended to.
        let of_former = |world: &World| {
            world.packs("bill").into_iter().filter(|row| row.partitions == 2).count()
        };
        for partition in 0..2 {
            assert!(of_former(&world) > 0);
            let end = world.broker.high(partition);
            world.broker.trim(partition, end);
            let tended = world.start(partition);
            let number = world.row(partition).number;
            until(|| world.packs("bill").iter().all(|row| row.lane != number)).await;
            tended.finish().await;
        }
        assert_eq!(of_former(&world), 0);
        // The lane that runs has filters of what is gone. What it packed itself is known.
        world.broker.produce(2, ["new", "e3"]);
        world.worked(2, 22).await;
        assert_eq!(world.bills().len(), 21);
        lane.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_aged_out_of_a_former_layout_is_new() {
    let mut world = grown(PACKED.window(Window::DEFAULT.events(0)), 20).await;
    world.settings.tend_interval = Duration::from_secs(3600);
    world.budget = Budget::new(1 << 20);
    let lane = world.start(2);
    world.broker.produce(2, ["e3"]);
    world.worked(2, 1).await;
    for partition in 0..2 {
        let end = world.broker.high(partition);
        world.broker.trim(partition, end);
        let tended = world.start(partition);
        let number = world.row(partition).number;
        until(|| world.packs("bill").iter().all(|row| row.lane != number)).await;
        tended.finish().await;
    }
    assert_eq!(runs(&world), 0);
    let began = Instant::now();
    world.broker.produce(2, ["e4", "e3"]);
    world.worked(2, 3).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(world.bills(), [ids(20), vec!["e4".to_owned()]].concat());
    lane.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_lane_still_packs_under_the_former_layout_is_found_a_while_later() {
    let mut world = World::of(bill(PACKED), 2);
    world.settings.policies.layout_changed = LayoutChanged::Widen;
    world.settings.tend_interval = Duration::from_millis(100);
    // Nobody tells it that the topic has grown.
    let former = world.start(0);
    world.broker.produce(0, ids(4));
    world.worked(0, 4).await;
    world.broker.add_partitions(1);
    let lane = world.start(2);
    world.broker.produce(2, ids(4));
    world.worked(2, 4).await;
    world.broker.produce(0, ["late"]);
    world.worked(0, 5).await;
    until(|| is_cool(&world, 2)).await;
    world.broker.produce(2, ["late"]);
    world.worked(2, 5).await;
    assert_eq!(world.bills(), [ids(4), vec!["late".to_owned()]].concat());
    // And the former one goes on, with what it has.
    world.broker.produce(0, ["late", "e2", "e5"]);
    world.worked(0, 8).await;
    assert_eq!(world.bills().len(), 6);
    former.finish().await;
    lane.finish().await;
}

/// A topic that grows, with a lane for each partition, in slices that change. In one layout an event
/// comes to one place, as with a producer that finds the partition by the key.
struct History {
    world: World,
    random: Random,
    lanes: Vec<Running>,
    /// How often each event is to be billed, and whether it is known.
    events: Vec<(usize, bool)>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut world = World::of(bill(PACKED), 1);
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        world.settings.tend_interval = Duration::from_millis(100);
        let (random, events) = (Random(seed), vec![(0, false); 40]);
        let mut history = Self { world, random, lanes: Vec::new(), events };
        history.start(0);
        history
    }

    fn start(&mut self, partition: usize) {
        self.world.budget = Budget::new(self.random.pick(&[0, 4000, 1 << 20]));
        self.world.settings.max_batch = self.random.pick(&[1, 3, 50]);
        let lane = self.world.start(i32::try_from(partition).unwrap());
        self.lanes.insert(partition, lane);
    }

    fn produce(&mut self) {
        for _ in 0..=self.random.below(12) {
            let event = self.random.below(self.events.len());
            let partition = event % self.lanes.len();
            let message = (format!("c{event}"), format!("e{event}"));
            self.world.broker.produce_keyed(i32::try_from(partition).unwrap(), [message]);
            let (billed, known) = &mut self.events[event];
            *billed += usize::from(!*known);
            *known = true;
        }
    }

    async fn drain(&self) {
        for partition in 0..self.lanes.len() {
            let partition = i32::try_from(partition).unwrap();
            self.world.worked(partition, self.world.end(partition)).await;
        }
    }

    async fn change_layout(&mut self) {
        self.drain().await;
        for lane in std::mem::take(&mut self.lanes) {
            match self.random.below(2) {
                0 => lane.kill().await,
                _ => lane.finish().await,
            }
        }
        if self.random.below(2) == 0 {
            self.world.broker.add_partitions(1 + self.random.below(2));
        }
        self.world.set_handlers(bill(PACKED.slices(self.random.pick(&[1, 2, SLICES]))));
        let partitions = self.world.broker.state().logs.len();
        for partition in 0..partitions {
            self.start(partition);
        }
    }

    async fn forget(&mut self) {
        self.drain().await;
        let event = self.random.below(self.events.len());
        let known = std::mem::take(&mut self.events[event].1);
        assert_eq!(self.world.forget(&format!("e{event}")).await, known, "e{event}");
    }

    async fn step(&mut self) {
        match self.random.below(10) {
            0 => self.change_layout().await,
            1 => self.forget().await,
            2 | 3 => {
                let partition = self.random.below(self.lanes.len());
                self.lanes.remove(partition).kill().await;
                self.start(partition);
            }
            4 => self.drain().await,
            5 => quiet(Duration::from_millis(150)).await,
            _ => self.produce(),
        }
    }

    fn check(&self) {
        let bills = self.world.bills();
        for (event, (billed, _)) in self.events.iter().enumerate() {
            let id = format!("e{event}");
            assert_eq!(bills.iter().filter(|it| **it == id).count(), *billed, "{id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_grows_and_dies_and_is_forgotten_each_key_is_worked_once() {
    for seed in 0..40 {
        let mut history = History::new(seed);
        for _ in 0..60 {
            history.step().await;
        }
        history.drain().await;
        history.check();
        for lane in history.lanes {
            lane.finish().await;
        }
    }
}
