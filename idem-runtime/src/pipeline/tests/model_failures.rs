//! A random world whose handlers fail for a while or for good, with people who replay and drop dead
//! letters meanwhile. At its end each event has its effect once or was dropped by a person; at no
//! time is one lost or two things at once; and the events of a message key are worked in order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::client::Client;
use super::handlers::{Audit, Bill, Do};
use super::harness::{Running, World, id_of, is_packed};
use crate::dead_letter::{LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::memory::{Memory, Pause, Point, Snapshot};
use crate::pipeline::policy::{DatabaseLost, LayoutChanged, Start};
use crate::pipeline::stats::Counts;
use crate::pipeline::stop::Stop;
use crate::policy::{OnFailure, Policy, Retry};
use crate::random::Random;

const PARTITIONS: usize = 2;
const STEPS: usize = 100;

struct Model {
    world: World,
    random: Random,
    clients: [Client; 2],
    lanes: Vec<Option<Running>>,
    zombies: Vec<Running>,
    snapshots: Vec<Snapshot>,
    slow: Vec<Pause>,
    /// The message key of each event that was made.
    made: BTreeMap<String, Option<String>>,
    goes_back: bool,
    policy: Policy,
    parks: bool,
    sliced: bool,
    log: Vec<String>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let parks = seed & 1 == 1;
        let mut policy = Policy::new().retry(
            Retry::new().max(3).backoff(Duration::from_millis(50), Duration::from_millis(200)),
        );
        if seed & 2 == 2 {
            policy = policy.slices(3);
        }
        if parks {
            policy = policy.on_failure(OnFailure::ParkKey { limit: 20 });
        }
        let mut world = World::of(handlers(policy), PARTITIONS);
        world.settings.max_batch = 7;
        world.settings.tend_interval = Duration::from_millis(200);
        world.settings.policies.layout_changed = LayoutChanged::Widen;
        // The deaths of this world are nobody's fault.
        world.settings.quarantine_after = u32::MAX;
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
            goes_back: seed.is_multiple_of(3),
            policy,
            parks,
            sliced: seed & 2 == 2,
            log: vec![format!("seed {seed}: {policy:?}")],
        };
        for partition in model.world.broker.partitions() {
            let lane = model.start(partition);
            model.lanes.push(Some(lane));
        }
        model
    }

    fn start(&mut self, partition: i32) -> Running {
        let process = self.random.below(2);
        self.world.start_on(["a", "b"][process], partition, &self.clients[process])
    }

    fn lane(&mut self, partition: i32) -> &mut Option<Running> {
        &mut self.lanes[usize::try_from(partition).unwrap()]
    }

    /// New events and copies of old ones; those of a message key go to one partition.
    fn produce(&mut self, partition: i32) {
        for _ in 0..=self.random.below(10) {
            let copy = self.random.below(6) == 0 && !self.made.is_empty();
            let (id, key) = if copy {
                let made: Vec<_> = self.made.iter().collect();
                let (id, key) = self.random.pick(&made);
                (id.clone(), key.clone())
            } else {
                let key = self.random.below(4);
                let id = format!("e{:03}", self.made.len());
                (id, (key > 0).then(|| format!("p{partition}-{key}")))
            };
            let to = match &key {
                Some(key) => i32::from(key.starts_with("p1")),
                // Packed markers find a copy where the first was, and only in its slice.
                None if is_packed() && copy && self.sliced => continue,
                None if is_packed() => i32::from(id.ends_with(['0', '2', '4', '6', '8'])),
                None => partition,
            };
            let payload = serde_json::json!({ "id": id }).to_string();
            self.made.insert(id, key.clone());
            self.world.broker.append(to, [(key, payload)]);
        }
    }

    async fn step(&mut self) {
        let partition = i32::try_from(self.random.below(PARTITIONS)).unwrap();
        let faults = self.world.store.faults();
        let step = self.random.below(27);
        self.log.push(format!("step {step} at {partition}"));
        match step {
            0..=4 => self.produce(partition),
            5..=7 => {
                use Point::{
                    Begin, Claim, Commit, Cut, ForgetAttempts, GiveUp, GivenUp, Letters,
                    NoteAttempt, Pack, Packs, Parked, Read, Released, Reposition, Rollback, Seal,
                    Unpark,
                };
                let points = [
                    Begin,
                    Claim,
                    Commit,
                    Cut,
                    ForgetAttempts,
                    GiveUp,
                    GivenUp,
                    Letters,
                    NoteAttempt,
                    Pack,
                    Packs,
                    Parked,
                    Read,
                    Released,
                    Reposition,
                    Rollback,
                    Seal,
                    Unpark,
                ];
                let kinds = [ErrorKind::Transient, ErrorKind::Connection];
                faults.fail(self.random.pick(&points), self.random.pick(&kinds));
            }
            8 => faults.fail(Point::Commit, ErrorKind::UnknownCommit),
            9 => faults.lose_the_answer_of_a_commit(),
            10 => self.slow.push(faults.lose_the_answer_of_a_slow_commit()),
            11..=14 => self.fail(),
            15 => self.rebalance(partition).await,
            16 => {
                let new = self.start(partition);
                let old = self.lane(partition).replace(new);
                self.zombies.extend(old);
            }
            17 => {
                if let Some(lane) = self.lane(partition).take() {
                    lane.kill().await;
                }
                let lane = self.start(partition);
                *self.lane(partition) = Some(lane);
            }
            18 => self.operator(partition).await,
            19 => self.snapshots.push(self.world.store.snapshot()),
            20 => {
                if let Some(snapshot) = self.snapshots.pop().filter(|_| self.goes_back) {
                    self.world.store.restore(&snapshot);
                    self.snapshots.clear();
                }
            }
            21 => {
                faults.disconnect();
                self.pass(2_000).await;
                self.world.store.faults().reconnect();
            }
            22..=23 => self.replay().await,
            24 => self.discard().await,
            25 => self.divide(),
            _ => self.world.script.mend(),
        }
    }

    fn fail(&mut self) {
        let acts = [
            Do::Fail,
            Do::FailForGood,
            Do::FailStatement,
            Do::FailStatementForGood,
            Do::LoseConnection,
            Do::Panic,
            Do::Swallow,
            Do::Transient,
        ];
        let id = format!("e{:03}", self.made.len() + self.random.below(6));
        let scope = self.random.pick(&["bill", "bill", "audit"]);
        if self.random.below(2) == 0 {
            let act = self.random.pick(&acts[..5]);
            return self.world.script.always(scope, &id, act);
        }
        let acts: Vec<_> = (0..=self.random.below(3)).map(|_| self.random.pick(&acts)).collect();
        self.world.script.on_in(scope, &id, acts);
    }

    /// Somebody replays letters, and may be told that the database failed.
    async fn replay(&mut self) {
        // What nobody answers is not waited for.
        self.slow.clear();
        let filter = LetterFilter::new().limit(1 + u32::try_from(self.random.below(4)).unwrap());
        let _ = self.world.replay().run(&filter).await;
    }

    async fn discard(&mut self) {
        self.slow.clear();
        let letters = self.world.store.look(|view| view.letters());
        if !letters.is_empty() {
            let filter = LetterFilter::id(self.random.pick(&letters).id);
            let _ = self.world.dead_letters().discard(&filter, "the model says so").await;
        }
    }

    /// Lanes that start from now on have more or fewer slices.
    fn divide(&mut self) {
        if self.sliced {
            let slices = 2 + u16::try_from(self.random.below(3)).unwrap();
            self.world.set_handlers(handlers(self.policy.slices(slices)));
        }
    }

    async fn rebalance(&mut self, partition: i32) {
        if let Some(lane) = self.lane(partition).take() {
            lane.ask(self.random.pick(&[Stop::Finish, Stop::Abandon]));
            self.slow.clear();
            lane.finish().await;
        }
        let lane = self.start(partition);
        *self.lane(partition) = Some(lane);
    }

    async fn operator(&mut self, partition: i32) {
        self.slow.clear();
        if let Some(lane) = self.lane(partition).take() {
            lane.finish().await;
        }
        for zombie in std::mem::take(&mut self.zombies) {
            zombie.finish().await;
        }
        let high = usize::try_from(self.world.broker.high(partition)).unwrap();
        let to = self.random.below(high + 1);
        self.world.broker.reset(partition, i64::try_from(to).unwrap());
        let lane = self.start(partition);
        *self.lane(partition) = Some(lane);
    }

    async fn pass(&mut self, most: usize) {
        let millis = self.random.below(most) as u64;
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn open(&self) -> usize {
        use LetterState::{Dead, Parked, Waiting};
        let letters = self.world.letters();
        letters.iter().filter(|it| matches!(it.2, Dead | Parked | Waiting)).count()
    }

    async fn end(&mut self) {
        self.slow.clear();
        self.world.script.mend();
        for lane in self.zombies.drain(..).chain(self.lanes.drain(..).flatten()) {
            lane.finish().await;
        }
        let partitions = self.world.broker.partitions();
        let lanes: Vec<_> = partitions.map(|it| self.world.start(it)).collect();
        // Faults that nobody met yet are met here. Replaying makes room where a key is full.
        let mut rounds = 0;
        while self.open() > 0 || !self.at_the_end() {
            rounds += 1;
            let _ = self.world.replay().run(&LetterFilter::new()).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(rounds < 200, "it does not end: {:?}, {:#?}", self.world.store, self.log);
        }
        for lane in lanes {
            lane.finish().await;
        }
    }

    fn at_the_end(&self) -> bool {
        self.world.broker.partitions().all(|partition| {
            let row = self.world.store.lane(&self.world.id(partition));
            row.is_some_and(|row| row.position.offset >= self.world.end(partition))
        })
    }

    /// No position is past an event that is not marked, and what is marked is exactly one thing.
    fn assert_sound(&self) {
        let marked: BTreeSet<_> = self.world.marked().into_iter().collect();
        for partition in self.world.broker.partitions() {
            let Some(row) = self.world.store.lane(&self.world.id(partition)) else { continue };
            for event in self.world.broker.events(partition) {
                let id = id_of(event.payload.as_deref().unwrap());
                let passed = event.offset < row.position.offset;
                assert!(!passed || marked.contains(&id), "{id} was passed: {:#?}", self.log);
            }
        }
        let sums = std::panic::AssertUnwindSafe(|| self.world.assert_sums(&marked));
        if std::panic::catch_unwind(sums).is_err() {
            panic!("{:#?}", self.log);
        }
        self.assert_in_order();
    }

    /// The effects of a message key are in the order in which its events came; but for those that
    /// were dead letters and replayed later, where a key is not held up by them.
    fn assert_in_order(&self) {
        for (scope, effects) in
            [("bill", self.world.bills()), ("audit", self.world.store.rows("audit"))]
        {
            let once: HashSet<_> = effects.iter().collect();
            assert_eq!(once.len(), effects.len(), "{scope}: {effects:?}: {:#?}", self.log);
            let letters: HashSet<_> = self
                .world
                .letters()
                .into_iter()
                .filter(|it| it.0 == scope && !self.parks)
                .map(|it| it.1)
                .collect();
            let mut last = BTreeMap::new();
            for id in effects.iter().filter(|id| !letters.contains(*id)) {
                let Some(key) = self.made[id].as_deref() else { continue };
                let before = last.insert(key, id);
                assert!(before < Some(id), "{scope}: {id} after {before:?}: {:#?}", self.log);
            }
        }
    }
}

fn handlers(policy: Policy) -> Vec<Registered<Memory>> {
    let mut handlers = vec![Registered::of::<Bill>(), Registered::of::<Audit>()];
    for handler in &mut handlers {
        handler.policy = policy;
    }
    handlers
}

async fn run(seed: u64) -> Counts {
    let mut model = Model::new(seed);
    for _ in 0..STEPS {
        model.step().await;
        model.pass(300).await;
        model.assert_sound();
    }
    model.end().await;
    model.assert_sound();
    model.world.assert_sums(model.made.keys());
    model.world.counts()
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_each_event_is_one_thing_and_in_order() {
    // More of them when somebody wants to look for something.
    let seeds = std::env::var("IDEM_SEEDS").map_or(60, |it| it.parse().unwrap());
    let from = std::env::var("IDEM_FROM").map_or(0, |it| it.parse().unwrap());
    let mut seen = [0; 6];
    for seed in from..from + seeds {
        let Counts { fenced, went_back, retried, dead_lettered, parked, released, .. } =
            run(seed).await;
        let counts = [fenced, went_back, retried, dead_lettered, parked, released];
        for (seen, count) in seen.iter_mut().zip(counts) {
            *seen += count;
        }
    }
    assert!(seeds < 60 || seen.iter().all(|count| *count > 0), "too tame: {seen:?}");
}
