//! A random world: events with duplicates over partitions, and everything that can go wrong, by
//! seeds. At its end each effect is there once, and once more for each time that its key was forgotten;
//! and at no time is a position past an event that is not marked.
//!
//! With packed markers a key has its partition, which changes when partitions are added, and what is
//! older than a small window is forgotten: either as Kafka forgets it, or before that, where what comes
//! again is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::Call;
use super::client::Client;
use super::handlers::{Bill, Count, Do};
use super::harness::{Running, World, claim, is_packed, until};
use crate::dead_letter::Fnv;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::group::Registered;
use crate::memory::{Memory, Pause, Point, Snapshot, View};
use crate::pipeline::policy::{DatabaseLost, LayoutChanged, Stale, Start};
use crate::pipeline::stats::Counts;
use crate::pipeline::stop::Stop;
use crate::policy::{Policy, Window};
use crate::random::Random;

const PARTITIONS: usize = 3;
const KEYS: usize = 40;
const STEPS: usize = 120;

/// What becomes of packed markers that are older than the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ages {
    Never,
    /// With the events in Kafka. Their keys are not used again.
    WithTheLog,
    /// Before them: what is delivered again may be stale. Each key is used once.
    Early,
}

struct Model {
    world: World,
    random: Random,
    clients: [Client; 2],
    /// For each partition its lane, and those that should have left.
    lanes: Vec<Option<Running>>,
    zombies: Vec<Running>,
    snapshots: Vec<(Snapshot, BTreeMap<String, usize>)>,
    slow: Vec<Pause>,
    /// Where the events of a key are.
    made: BTreeMap<String, BTreeSet<i32>>,
    /// How often a key was forgotten.
    forgotten: BTreeMap<String, usize>,
    /// Keys of which Kafka has no event any more.
    gone: BTreeSet<String>,
    /// Whether the database goes back now and then.
    goes_back: bool,
    ages: Ages,
    /// Whether lanes are in slices, of which there are now more and now less.
    sliced: bool,
    log: Vec<String>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let ages = match seed % 4 {
            1 if is_packed() => Ages::WithTheLog,
            3 if is_packed() => Ages::Early,
            _ => Ages::Never,
        };
        let sliced = is_packed() && seed % 3 == 2;
        let mut world = World::of(handlers(ages, sliced.then_some(2)), PARTITIONS);
        world.settings.max_batch = 7;
        world.settings.tend_interval = Duration::from_millis(200);
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        world.settings.policies.stale = (ages == Ages::Early).then_some(Stale::Skip);
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
            made: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            gone: BTreeSet::new(),
            goes_back: seed.is_multiple_of(2),
            ages,
            sliced,
            log: vec![format!("seed {seed}: {ages:?}, in slices: {sliced}")],
        };
        for partition in model.world.broker.partitions() {
            let lane = model.start(partition);
            model.lanes.push(Some(lane));
        }
        model
    }

    fn partition(&mut self) -> i32 {
        let partitions = usize::try_from(self.world.broker.partitions().end).unwrap();
        i32::try_from(self.random.below(partitions)).unwrap()
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
        for _ in 0..=self.random.below(12) {
            let number = match self.ages {
                Ages::Early => self.made.len(),
                _ => self.random.below(KEYS),
            };
            let id = format!("k{number}");
            if self.gone.contains(&id) {
                continue;
            }
            let partition = if is_packed() { self.partition_of(&id) } else { partition };
            let known = self.made.entry(id.clone()).or_default();
            if is_packed() && self.forgotten.contains_key(&id) && !known.contains(&partition) {
                // Where it was before, it would be as new as it is where it comes now.
                continue;
            }
            known.insert(partition);
            self.world.broker.produce_keyed(partition, [(&id, &id)]);
        }
    }

    /// Where the events of a key go.
    fn partition_of(&self, id: &str) -> i32 {
        let mut hash = Fnv::default();
        hash.bytes(id.as_bytes());
        let partitions = self.world.broker.partitions().end;
        i32::try_from((hash.0 >> 32) % u64::try_from(partitions).unwrap()).unwrap()
    }

    async fn step(&mut self) {
        let partition = self.partition();
        let faults = self.world.store.faults();
        let step = self.random.below(27);
        self.log.push(format!("step {step} at {partition}"));
        match step {
            0..=5 => self.produce(),
            6 | 7 => {
                let mut points =
                    vec![Point::Begin, claim(), Point::Seal, Point::Commit, Point::Read];
                if is_packed() {
                    use Point::{ForgetPacks, GivenUpKeys, Packs, Repack, Window};
                    points.extend([ForgetPacks, GivenUpKeys, Packs, Repack, Window]);
                }
                let kinds = [ErrorKind::Transient, ErrorKind::Connection];
                faults.fail(self.random.pick(&points), self.random.pick(&kinds));
            }
            8 => {
                let points = [Point::Take, Point::Reposition, Point::Lanes, Point::OpenTopics];
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
            18 => {
                let snapshot = self.world.store.snapshot();
                self.snapshots.push((snapshot, self.forgotten.clone()));
            }
            19 => {
                if let Some((snapshot, forgotten)) = self.snapshots.pop().filter(|_| self.goes_back)
                {
                    self.world.store.restore(&snapshot);
                    self.forgotten = forgotten;
                    // What was taken later is of a time that never was.
                    self.snapshots.clear();
                }
            }
            20 => {
                faults.disconnect();
                self.pass(2_000).await;
                self.world.store.faults().reconnect();
            }
            21 | 22 => {
                let call = self.random.pick(&[Call::Survey, Call::Start, Call::Mark]);
                self.world.broker.fail(call);
            }
            23 => self.forget().await,
            24 => self.trim(partition).await,
            25 if self.sliced => {
                let slices = 1 + u16::try_from(self.random.below(3)).unwrap();
                self.world.set_handlers(handlers(self.ages, Some(slices)));
            }
            _ => self.grow().await,
        }
    }

    /// An operator has a key forgotten, of which all events are in one partition.
    async fn forget(&mut self) {
        let made = self.made.iter().filter(|(id, _)| !self.gone.contains(*id));
        let made: Vec<_> = made.collect();
        if made.is_empty() || self.ages == Ages::Early {
            return;
        }
        let (id, partitions) = self.random.pick(&made);
        if is_packed() && partitions.len() > 1 {
            return;
        }
        let id = id.clone();
        // What nobody answers is not waited for.
        self.slow.clear();
        if self.world.forget(&id).await {
            self.log.push(format!("{id} is forgotten"));
            *self.forgotten.entry(id).or_default() += 1;
        }
    }

    /// Waits until everything was worked.
    async fn settle(&mut self) {
        self.slow.clear();
        self.world.script.mend();
        for partition in self.world.broker.partitions() {
            let end = self.world.end(partition);
            let id = self.world.id(partition);
            until(|| self.world.store.lane(&id).is_some_and(|it| it.position.offset >= end)).await;
        }
        self.slow.clear();
    }

    /// The log loses its head, of which no key waits to be seen again.
    async fn trim(&mut self, partition: i32) {
        if self.ages != Ages::WithTheLog {
            return;
        }
        self.settle().await;
        let low = self.world.broker.state().log(partition).low;
        let most = usize::try_from(self.world.position(partition) - low).unwrap();
        let low = low + i64::try_from(self.random.below(most + 1)).unwrap();
        self.world.broker.trim(partition, low);
        let broker = &self.world.broker;
        let events = broker.partitions().flat_map(|it| broker.events(it));
        let left: BTreeSet<_> = events.map(|it| key(it.payload.as_deref().unwrap())).collect();
        self.gone = self.made.keys().filter(|id| !left.contains(*id)).cloned().collect();
    }

    /// The topic gets another partition, when everything that is in it was worked, and all who read it
    /// are told.
    async fn grow(&mut self) {
        let partitions = self.world.broker.partitions().end;
        if self.goes_back || self.random.below(3) > 0 || partitions > 5 {
            return;
        }
        self.settle().await;
        for lane in self.zombies.drain(..).chain(self.lanes.drain(..).flatten()) {
            lane.finish().await;
        }
        self.world.broker.add_partitions(1);
        for partition in 0..=partitions {
            let lane = self.start(partition);
            self.lanes.push(Some(lane));
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
        let low = self.world.broker.state().log(partition).low;
        let events = usize::try_from(self.world.broker.high(partition) - low).unwrap();
        let to = low + i64::try_from(self.random.below(events + 1)).unwrap();
        self.world.broker.reset(partition, to);
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
        // What was forgotten is processed again, and nothing else.
        for partition in self.world.broker.partitions() {
            let low = self.world.broker.state().log(partition).low;
            if low < self.world.end(partition) {
                self.world.again_from(partition, low).await;
            }
        }
    }

    fn check_end(&self) {
        let bills = counted(self.world.bills());
        let again = |id: &String| self.forgotten.get(id).copied().unwrap_or_default();
        let mut made: BTreeMap<_, _> =
            self.made.keys().map(|id| (id.clone(), 1 + again(id))).collect();
        for id in &self.gone {
            // One that was forgotten before Kafka did the same does not come again.
            if again(id) > 0 && bills.get(id) == Some(&again(id)) {
                made.insert(id.clone(), again(id));
            }
        }
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
        if self.ages == Ages::Never {
            let marked: Vec<_> = self.made.keys().cloned().collect();
            assert_eq!(self.world.marked(), marked, "{log:#?}");
        }
        if !self.sliced && self.ages != Ages::WithTheLog {
            assert_eq!(counted, places, "{log:#?}");
        }
    }
}

impl Model {
    /// No position is past an event whose key is not marked, effects are as the markers are, and
    /// the source is told nothing that the database does not say.
    fn assert_sound(&self, view: &View<'_>) {
        let log = &self.log;
        let is_marked = |id: &String| view.marker("bill", id).is_some();
        let marked: BTreeSet<_> = self.made.keys().filter(|id| is_marked(id)).cloned().collect();
        let bills = counted(view.rows("bill"));
        for id in self.made.keys() {
            let effects = bills.get(id).copied().unwrap_or_default();
            let forgotten = self.forgotten.get(id).copied().unwrap_or_default();
            let expected = forgotten + usize::from(marked.contains(id));
            // Nobody knows any more, or everybody.
            let aged = match self.ages {
                Ages::Never => false,
                Ages::WithTheLog => self.gone.contains(id) && effects == forgotten + 1,
                Ages::Early => effects == 1,
            };
            assert!(effects == expected || aged, "{id}: {effects} beside {marked:?}: {log:#?}");
        }
        let broker = &self.world.broker;
        for partition in broker.partitions() {
            let Some(row) = view.lane(&self.world.id(partition)) else { continue };
            let passed = |event: &&Event| event.offset < row.position.offset;
            for event in broker.events(partition).iter().filter(passed) {
                let key = key(event.payload.as_deref().unwrap());
                let known = match self.ages {
                    Ages::Early => bills.contains_key(&key),
                    _ => marked.contains(&key) || self.forgotten.contains_key(&key),
                };
                assert!(known, "{event:?} was passed: {row:?}: {log:#?}");
            }
            let commit = broker.commit(partition).filter(|it| !it.metadata.is_empty());
            // The row of a lane in slices lags.
            if !self.goes_back && !self.sliced {
                let told = commit.map_or(0, |it| it.offset);
                assert!(told <= row.position.offset, "{told} was told: {row:?}: {log:#?}");
            }
        }
        for lane in self.lanes.iter().flatten().chain(&self.zombies) {
            let row = view.lane(&lane.seat.id).map_or(0, |row| row.position.offset);
            if !self.goes_back && !self.sliced {
                assert!(lane.resolved().unwrap_or(0) <= row, "{:?}: {log:#?}", lane.seat.id);
            }
        }
    }
}

/// With a window of a few events, where packed markers age.
fn handlers(ages: Ages, slices: Option<u16>) -> Vec<Registered<Memory>> {
    let mut bill = Registered::of::<Bill>();
    if ages != Ages::Never {
        bill.policy = Policy::new().window(Window::DEFAULT.events(5));
    }
    match slices {
        Some(slices) => {
            bill.policy = bill.policy.slices(slices);
            vec![bill]
        }
        None => vec![bill, Registered::of::<Count>()],
    }
}

/// How often each is there.
fn counted(rows: Vec<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_default() += 1;
    }
    counts
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
    let from = std::env::var("IDEM_FROM").map_or(0, |it| it.parse().unwrap());
    let mut seen = [0; 5];
    for seed in from..from + seeds {
        let Counts { fenced, went_back, rewinds, retried, stale, .. } = run(seed).await;
        let stale = if is_packed() { stale } else { 1 };
        for (seen, count) in seen.iter_mut().zip([fenced, went_back, rewinds, retried, stale]) {
            *seen += count;
        }
    }
    assert!(seeds < 60 || seen.iter().all(|count| *count > 0), "the model is too tame: {seen:?}");
}
