//! A random world: events with duplicates over partitions, and everything that can go wrong, by
//! seeds. At its end each effect is there once; and at no time is a position past an event that is
//! not marked.

use std::collections::BTreeSet;
use std::time::Duration;

use super::broker::Call;
use super::client::Client;
use super::handlers::{Bill, Count, Do};
use super::harness::{Running, World, claim, until};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::group::Registered;
use crate::memory::{Pause, Point, Snapshot, View};
use crate::pipeline::policy::{DatabaseLost, Start};
use crate::pipeline::stats::Counts;
use crate::pipeline::stop::Stop;
use crate::random::Random;

const PARTITIONS: usize = 3;
const KEYS: usize = 40;
const STEPS: usize = 120;

struct Model {
    world: World,
    random: Random,
    clients: [Client; 2],
    /// For each partition its lane, and those that should have left.
    lanes: Vec<Option<Running>>,
    zombies: Vec<Running>,
    snapshots: Vec<Snapshot>,
    slow: Vec<Pause>,
    made: BTreeSet<String>,
    /// Whether the database goes back now and then.
    goes_back: bool,
    log: Vec<String>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let handlers = vec![Registered::of::<Bill>(), Registered::of::<Count>()];
        let mut world = World::of(handlers, PARTITIONS);
        world.settings.max_batch = 7;
        // A database that went back to before a lane was opened has lost its effects too.
        world.settings.policies.start = Some(Start::Earliest);
        world.settings.policies.database_lost = DatabaseLost::StartAt(Start::Earliest);
        let clients = [Client::new(&world.broker), Client::new(&world.broker)];
        let mut model = Self {
            world,
            random: Random(seed),
            clients,
            lanes: Vec::new(),
            zombies: Vec::new(),
            snapshots: Vec::new(),
            slow: Vec::new(),
            made: BTreeSet::new(),
            goes_back: seed.is_multiple_of(2),
            log: vec![format!("seed {seed}")],
        };
        for partition in model.world.broker.partitions() {
            let lane = model.start(partition);
            model.lanes.push(Some(lane));
        }
        model
    }

    fn partition(&mut self) -> i32 {
        i32::try_from(self.random.below(PARTITIONS)).unwrap()
    }

    fn start(&mut self, partition: i32) -> Running {
        let process = self.random.below(2);
        self.world.start_on(["a", "b"][process], partition, &self.clients[process])
    }

    fn lane(&mut self, partition: i32) -> &mut Option<Running> {
        &mut self.lanes[usize::try_from(partition).unwrap()]
    }

    fn produce(&mut self) {
        let partition = self.partition();
        if self.random.below(4) == 0 {
            let hole = self.random.below(3);
            self.world.broker.hole(partition, i64::try_from(hole).unwrap());
        }
        let ids: Vec<_> =
            (0..=self.random.below(12)).map(|_| format!("k{}", self.random.below(KEYS))).collect();
        self.made.extend(ids.iter().cloned());
        self.world.broker.produce(partition, ids);
    }

    async fn step(&mut self) {
        let partition = self.partition();
        let faults = self.world.store.faults();
        let step = self.random.below(22);
        self.log.push(format!("step {step} at {partition}"));
        match step {
            0..=5 => self.produce(),
            6 | 7 => {
                let points = [Point::Begin, claim(), Point::Seal, Point::Commit, Point::Read];
                let kinds = [ErrorKind::Transient, ErrorKind::Connection];
                faults.fail(self.random.pick(&points), self.random.pick(&kinds));
            }
            8 => {
                let points = [Point::Take, Point::Reposition, Point::Lanes, Point::OpenTopic];
                faults.fail(self.random.pick(&points), ErrorKind::Transient);
            }
            9 => faults.fail(Point::Commit, ErrorKind::UnknownCommit),
            10 => faults.lose_the_answer_of_a_commit(),
            11 => self.slow.push(faults.lose_the_answer_of_a_slow_commit()),
            12 | 13 => {
                let acts = [
                    Do::Fail,
                    Do::Panic,
                    Do::FailStatement,
                    Do::Swallow,
                    Do::Transient,
                    Do::Commit,
                    Do::Rollback,
                ];
                let acts = (0..=self.random.below(3)).map(|_| self.random.pick(&acts));
                let acts: Vec<_> = acts.collect();
                let scope = self.random.pick(&["bill", "count"]);
                let id = format!("k{}", self.random.below(KEYS));
                self.world.script.on_in(scope, &id, acts);
            }
            14 => self.rebalance(partition).await,
            15 => {
                // The old owner is not told; it finds out at the database, and learns it later.
                let new = self.start(partition);
                let old = self.lane(partition).replace(new);
                self.zombies.extend(old);
            }
            16 => {
                if let Some(lane) = self.lane(partition).take() {
                    lane.kill().await;
                }
                let lane = self.start(partition);
                *self.lane(partition) = Some(lane);
            }
            17 => self.operator(partition).await,
            18 => self.snapshots.push(self.world.store.snapshot()),
            19 => {
                if let Some(snapshot) = self.snapshots.pop().filter(|_| self.goes_back) {
                    self.world.store.restore(&snapshot);
                    // What was taken later is of a time that never was.
                    self.snapshots.clear();
                }
            }
            20 => {
                faults.disconnect();
                self.pass(2_000).await;
                self.world.store.faults().reconnect();
            }
            _ => {
                let call = self.random.pick(&[Call::Survey, Call::Start, Call::Mark]);
                self.world.broker.fail(call);
            }
        }
    }

    async fn rebalance(&mut self, partition: i32) {
        if let Some(lane) = self.lane(partition).take() {
            lane.ask(self.random.pick(&[Stop::Finish, Stop::Abandon]));
            // Commits that are under way end some time, so that nobody waits for ever.
            self.slow.clear();
            lane.finish().await;
        }
        let lane = self.start(partition);
        *self.lane(partition) = Some(lane);
    }

    /// Stops the group's work on a partition, as the tool demands, and rewinds it.
    async fn operator(&mut self, partition: i32) {
        self.slow.clear();
        if let Some(lane) = self.lane(partition).take() {
            lane.finish().await;
        }
        for zombie in std::mem::take(&mut self.zombies) {
            zombie.finish().await;
        }
        let high = self.world.broker.high(partition);
        let to = self.random.below(usize::try_from(high).unwrap() + 1);
        self.world.broker.reset(partition, i64::try_from(to).unwrap());
        let lane = self.start(partition);
        *self.lane(partition) = Some(lane);
    }

    async fn pass(&mut self, most: usize) {
        let millis = self.random.below(most) as u64;
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn end(&mut self) {
        self.slow.clear();
        self.world.script.mend();
        for lane in self.zombies.drain(..).chain(self.lanes.drain(..).flatten()) {
            lane.finish().await;
        }
        for partition in self.world.broker.partitions() {
            // Faults that nobody met yet are met here.
            let lane = self.world.start(partition);
            let end = self.world.end(partition);
            until(|| self.world.store.lane(&self.world.id(partition)).is_some()).await;
            until(|| end <= self.world.position(partition)).await;
            lane.finish().await;
        }
    }

    fn check_end(&self) {
        let mut bills = self.world.bills();
        bills.sort();
        let made: Vec<_> = self.made.iter().cloned().collect();
        let mut marked = self.world.marked();
        marked.sort();
        let mut counted = self.world.store.rows("count");
        counted.sort();
        let mut places: Vec<_> = self
            .world
            .broker
            .partitions()
            .flat_map(|partition| self.world.broker.events(partition))
            .map(|event| format!("{}/{}", event.partition, event.offset))
            .collect();
        places.sort();
        let log = &self.log;
        assert_eq!(bills, made, "{log:#?}");
        assert_eq!(marked, made, "{log:#?}");
        assert_eq!(counted, places, "{log:#?}");
    }
}

impl Model {
    /// No position is past an event whose key is not marked, effects are as the markers are, and
    /// the source is told nothing that the database does not say.
    fn assert_sound(&self, view: &View<'_>) {
        let log = &self.log;
        let marked: BTreeSet<_> = view.keys("bill").into_iter().collect();
        let mut bills = view.rows("bill");
        bills.sort();
        assert!(bills.iter().eq(marked.iter()), "{bills:?} beside {marked:?}: {log:#?}");
        let broker = &self.world.broker;
        for partition in broker.partitions() {
            let Some(row) = view.lane(&self.world.id(partition)) else { continue };
            let passed = |event: &&Event| event.offset < row.position.offset;
            for event in broker.events(partition).iter().filter(passed) {
                let key = key(event.payload.as_deref().unwrap());
                assert!(marked.contains(&key), "{event:?} was passed: {row:?}: {log:#?}");
            }
            let commit = broker.commit(partition).filter(|it| !it.metadata.is_empty());
            if !self.goes_back {
                let told = commit.map_or(0, |it| it.offset);
                assert!(told <= row.position.offset, "{told} was told: {row:?}: {log:#?}");
            }
        }
        for lane in self.lanes.iter().flatten().chain(&self.zombies) {
            let row = view.lane(&lane.seat.id).map_or(0, |row| row.position.offset);
            if !self.goes_back {
                assert!(lane.resolved().unwrap_or(0) <= row, "{:?}: {log:#?}", lane.seat.id);
            }
        }
    }
}

fn key(payload: &[u8]) -> String {
    let payload: serde_json::Value = serde_json::from_slice(payload).unwrap();
    payload["id"].as_str().unwrap().to_owned()
}

async fn run(seed: u64) -> Counts {
    let mut model = Model::new(seed);
    for _ in 0..STEPS {
        model.step().await;
        model.pass(300).await;
        model.world.store.look(|view| model.assert_sound(view));
    }
    model.end().await;
    model.check_end();
    model.world.counts()
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_each_effect_happens_once() {
    // More of them when somebody wants to look for something.
    let seeds = std::env::var("IDEM_SEEDS").map_or(60, |it| it.parse().unwrap());
    let mut seen = [0; 4];
    for seed in 0..seeds {
        let Counts { fenced, went_back, rewinds, retried, .. } = run(seed).await;
        for (seen, count) in seen.iter_mut().zip([fenced, went_back, rewinds, retried]) {
            *seen += count;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "the model is too tame: {seen:?}");
}
