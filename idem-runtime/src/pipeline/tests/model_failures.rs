//! A random world whose handlers fail for a while or for good, with people who replay and drop dead
//! letters meanwhile. At its end each event has its effect once or was dropped by a person; at no
//! time is one lost or two things at once; and the events of a message key are worked in order. A key
//! that an operator had forgotten may have its effect once more.
//!
//! With packed markers there is little memory for windows in most worlds, so that they are in runs; and
//! what Kafka has no more is forgotten. The topic grows when everything was worked.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::client::Client;
use super::handlers::{Audit, Bill, Do};
use super::harness::{Running, World, id_of, is_packed, until};
use super::seen::{PACKED_STATES, Room, Seen, held_up, is_wide, leave};
use crate::Store as _;
use crate::dead_letter::{Fnv, LetterFilter, LetterState};
use crate::error::ErrorKind;
use crate::group::Registered;
use crate::key::Key;
use crate::marker::MarkerState;
use crate::memory::{Memory, Pause, Point, Snapshot};
use crate::pipeline::policy::{DatabaseLost, LayoutChanged, Start};
use crate::pipeline::stats::Counts;
use crate::pipeline::stop::Stop;
use crate::policy::{OnFailure, Policy, Retry, Window};
use crate::random::Random;

const PARTITIONS: usize = 2;
const STEPS: usize = 100;

const WORLD_STATES: [&str; 7] =
    ["fenced", "went back", "retried", "dead letters", "parked", "released", "keys forgotten"];

/// The database as it was.
struct Earlier {
    snapshot: Snapshot,
    forgotten: BTreeMap<String, usize>,
    runs: usize,
}

struct Model {
    world: World,
    random: Random,
    clients: [Client; 2],
    lanes: Vec<Option<Running>>,
    zombies: Vec<Running>,
    snapshots: Vec<Earlier>,
    slow: Vec<Pause>,
    held_up: Vec<(Point, Pause)>,
    /// The message key of each event that was made.
    made: BTreeMap<String, Option<String>>,
    /// Where the events of an id are.
    places: BTreeMap<String, BTreeSet<i32>>,
    /// The keys of `bill` that were forgotten, with the effects that they had by then.
    forgotten: BTreeMap<String, usize>,
    /// What Kafka has no more, with the effects that it had by then.
    gone: BTreeMap<String, usize>,
    goes_back: bool,
    /// Whether packed markers are forgotten with their events in Kafka.
    ages: bool,
    /// Until the layout changes, and from when that is forgotten.
    room: Room,
    slices: Option<u16>,
    seen: Seen,
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
        let round = seed / 12;
        let ages = is_packed() && [1, 2, 4].contains(&(round % 5));
        if ages {
            let window = [Window::DEFAULT.events(5), Window::time(Duration::from_secs(3))];
            policy = policy.window(window[usize::from(round % 5 == 2)]);
        }
        let room = match round % 5 {
            1 | 3 if is_packed() => Room::None,
            2 | 4 if is_packed() => Room::Little,
            _ => Room::Plenty,
        };
        let mut world = World::of(handlers(policy), PARTITIONS);
        room.furnish(&mut world);
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
            held_up: Vec::new(),
            made: BTreeMap::new(),
            places: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            gone: BTreeMap::new(),
            goes_back: seed.is_multiple_of(3),
            policy,
            ages,
            room,
            slices: (seed & 2 == 2).then_some(3),
            seen: Seen::default(),
            parks,
            sliced: seed & 2 == 2,
            log: vec![format!("seed {seed}: {room:?}, {policy:?}")],
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
            // Packed markers find a copy where the first was, and only in its slice.
            if is_packed() && copy && self.sliced && key.is_none() {
                continue;
            }
            let to = match &key {
                Some(key) => self.partition_of(key),
                None if is_packed() => self.partition_of(&id),
                None => partition,
            };
            let places = self.places.entry(id.clone()).or_default();
            // Where it was before, it would be as new as it is where it comes now; or it is older there
            // than the window.
            let moves = is_packed() && copy && !places.contains(&to);
            if moves && (self.ages || self.forgotten.contains_key(&id)) {
                continue;
            }
            if self.gone.contains_key(&id) {
                continue;
            }
            places.insert(to);
            let payload = serde_json::json!({ "id": id }).to_string();
            self.made.insert(id, key.clone());
            self.world.broker.append(to, [(key, payload)]);
        }
    }

    fn partition_of(&self, key: &str) -> i32 {
        let mut hash = Fnv::default();
        hash.bytes(key.as_bytes());
        let partitions = self.world.broker.partitions().end;
        i32::try_from((hash.0 >> 32) % u64::try_from(partitions).unwrap()).unwrap()
    }

    async fn run(&mut self) {
        for _ in 0..STEPS {
            self.step().await;
            self.pass(300).await;
            self.assert_sound();
        }
        self.end().await;
        self.assert_sound();
        let made = self.made.keys();
        self.world.assert_sums(made.filter(|id| self.has_one_life(id)));
        let marked: BTreeSet<_> = self.world.marked().into_iter().collect();
        let left = self.forgotten.keys().filter(|id| !self.gone.contains_key(*id));
        for id in left {
            assert!(marked.contains(id), "{id} was forgotten, and did not come again");
        }
    }

    /// Whether an event was not forgotten, neither by an operator nor by Kafka.
    fn has_one_life(&self, id: &String) -> bool {
        !self.forgotten.contains_key(id) && !self.gone.contains_key(id)
    }

    async fn step(&mut self) {
        let partitions = usize::try_from(self.world.broker.partitions().end).unwrap();
        let partition = i32::try_from(self.random.below(partitions)).unwrap();
        let faults = self.world.store.faults();
        let step = self.random.below(34);
        self.log.push(format!("step {step} at {partition}"));
        let runs = self.runs();
        match step {
            0..=4 => self.produce(partition),
            5..=7 => {
                use Point::{
                    AddRun, Begin, Claim, Commit, Cut, ExtendRun, Foreign, ForeignHeads,
                    ForgetAttempts, ForgetMarker, ForgetPacks, GiveUp, GivenUp, GivenUpKeys,
                    InRuns, Letters, MergeRuns, NoteAttempt, Pack, Packs, Parked, Read, Released,
                    Repack, Reposition, Rollback, RunBlocks, Runs, RunsOf, Seal, SweepRuns, Unpark,
                };
                let packed = [
                    AddRun,
                    ExtendRun,
                    Foreign,
                    ForeignHeads,
                    ForgetPacks,
                    GivenUpKeys,
                    InRuns,
                    MergeRuns,
                    Repack,
                    RunBlocks,
                    Runs,
                    RunsOf,
                    SweepRuns,
                ];
                let mut points = vec![
                    Begin,
                    Claim,
                    Commit,
                    Cut,
                    ForgetAttempts,
                    ForgetMarker,
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
                if is_packed() {
                    points.extend(packed);
                }
                let kinds = [ErrorKind::Transient, ErrorKind::Connection];
                faults.fail(self.random.pick(&points), self.random.pick(&kinds));
            }
            8 => faults.fail(Point::Commit, ErrorKind::UnknownCommit),
            9 => faults.lose_the_answer_of_a_commit(),
            10 => self.slow.push(faults.lose_the_answer_of_a_slow_commit()),
            11..=14 => self.fail(),
            15 => self.rebalance(partition).await,
            16 => {
                self.seen.amid(&self.held_up);
                let new = self.start(partition);
                let old = self.lane(partition).replace(new);
                self.zombies.extend(old);
            }
            17 => {
                self.seen.amid(&self.held_up);
                if let Some(lane) = self.lane(partition).take() {
                    lane.kill().await;
                }
                let lane = self.start(partition);
                *self.lane(partition) = Some(lane);
            }
            18 => self.operator(partition).await,
            19 => {
                let earlier = self.now();
                self.snapshots.push(earlier);
            }
            20 if self.goes_back => {
                if let Some(earlier) = self.snapshots.pop() {
                    self.restore(earlier);
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
            26 => self.world.script.mend(),
            27 => self.trim(partition).await,
            28 | 29 if is_packed() => {
                let held_up = held_up(&self.world, &mut self.random);
                self.held_up.push(held_up);
            }
            30 => {
                self.held_up.clear();
                if !is_wide(&self.world, self.slices) {
                    self.room.furnish(&mut self.world);
                    self.snapshots.clear();
                }
            }
            31 => self.forget().await,
            32 if self.goes_back => {
                // A fail-over to a replica that lagged a little: perhaps by what is tended to alone.
                let earlier = self.now();
                self.pass(600).await;
                self.restore(earlier);
            }
            _ => self.grow().await,
        }
        let aged = step != 20 && step != 32 && self.runs() < runs;
        self.seen.note("runs that aged", aged);
    }

    fn now(&self) -> Earlier {
        let snapshot = self.world.store.snapshot();
        Earlier { snapshot, forgotten: self.forgotten.clone(), runs: self.runs() }
    }

    fn restore(&mut self, earlier: Earlier) {
        self.seen.amid(&self.held_up);
        self.seen.note("restored to other runs", earlier.runs != self.runs());
        self.world.store.restore(&earlier.snapshot);
        self.forgotten = earlier.forgotten;
        self.snapshots.clear();
    }

    fn runs(&self) -> usize {
        self.world.store.look(|view| view.runs())
    }

    /// Whoever is held up goes on, and commits whose answer was lost end.
    fn go_on(&mut self) {
        self.slow.clear();
        self.held_up.clear();
    }

    /// An operator has a key of `bill` forgotten, of which all events are in one partition.
    async fn forget(&mut self) {
        let is_there = |id: &&String| !self.gone.contains_key(*id);
        let made: Vec<_> = self.made.keys().filter(is_there).cloned().collect();
        if made.is_empty() {
            return;
        }
        let id = self.random.pick(&made);
        if is_packed() && self.places[&id].len() > 1 {
            return;
        }
        self.slow.clear();
        let key = Key::new(&*id).unwrap();
        let before = self.effects(&id);
        let was_dead = self.world.store.look(|view| view.keys("bill").contains(&id));
        // Refused where a letter of it is open.
        if let Ok(true) = self.world.store.forget_marker("bill", &key).await {
            self.log.push(format!("{id} is forgotten"));
            self.seen.note("keys forgotten that had been given up on", is_packed() && was_dead);
            self.seen.note("keys forgotten", true);
            self.forgotten.insert(id, before);
        }
    }

    fn effects(&self, id: &str) -> usize {
        self.world.bills().iter().filter(|it| *it == id).count()
    }

    /// Waits until everything was worked, and nothing is a dead letter any more. Replaying makes room
    /// where a key is full.
    async fn settle(&mut self) {
        self.go_on();
        self.world.script.mend();
        let mut rounds = 0;
        while self.open() > 0 || !self.at_the_end() {
            for partition in self.world.broker.partitions() {
                if let Some(stopped) = self.lane(partition).take_if(|lane| lane.is_finished()) {
                    leave(&self.world, stopped, &mut self.seen).await;
                    Room::Plenty.furnish(&mut self.world);
                    let lane = self.start(partition);
                    *self.lane(partition) = Some(lane);
                }
            }
            // As the watch does: one with nothing to do does not notice that the database went back.
            self.lanes.iter().flatten().for_each(|lane| lane.seat.look());
            let _ = self.world.replay().run(&LetterFilter::new()).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            rounds += 1;
            assert!(rounds < 200, "it does not end: {:?}", self.world.store);
        }
    }

    /// The log loses its head.
    async fn trim(&mut self, partition: i32) {
        if !self.ages {
            return;
        }
        self.settle().await;
        let low = self.world.broker.state().log(partition).low;
        let most = usize::try_from(self.world.position(partition) - low).unwrap();
        let low = low + i64::try_from(self.random.below(most + 1)).unwrap();
        if self.random.below(2) == 0 {
            let point = Point::ForgetPacks;
            self.held_up.push((point, self.world.store.faults().pause(point)));
        }
        self.world.broker.trim(partition, low);
        let broker = &self.world.broker;
        let events = broker.partitions().flat_map(|it| broker.events(it));
        let left: BTreeSet<_> = events.map(|it| id_of(it.payload.as_deref().unwrap())).collect();
        let gone = self.made.keys().filter(|id| !left.contains(*id));
        self.gone = gone.map(|id| (id.clone(), self.effects(id))).collect();
        // A database that is put back has letters open again of what Kafka has no more.
        self.snapshots.clear();
    }

    /// The topic gets another partition, and all who read it are told.
    async fn grow(&mut self) {
        let partitions = self.world.broker.partitions().end;
        if self.random.below(3) > 0 || partitions > 4 {
            return;
        }
        self.settle().await;
        self.leave_all().await;
        let rows = self.world.packs("bill");
        self.seen.note("growth beside runs", rows.iter().any(|row| row.run.is_some()));
        if is_packed() {
            Room::Plenty.furnish(&mut self.world);
        }
        // Put back to before it, keys would come at the same time in two partitions.
        self.snapshots.clear();
        self.world.broker.add_partitions(1);
        for partition in 0..=partitions {
            let lane = self.start(partition);
            self.lanes.push(Some(lane));
        }
    }

    async fn leave_all(&mut self) {
        for lane in self.zombies.drain(..).chain(self.lanes.drain(..).flatten()) {
            leave(&self.world, lane, &mut self.seen).await;
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
        self.let_letters_go();
        // Nor is a replay held up, which asks for the window, too.
        self.held_up.retain(|(point, _)| *point != Point::Window);
        let filter = LetterFilter::new().limit(1 + u32::try_from(self.random.below(4)).unwrap());
        let _ = self.world.replay().run(&filter).await;
    }

    /// What nobody answers is not waited for: neither a commit, nor a batch that is held up while it has
    /// a released letter's lock and looks into runs.
    fn let_letters_go(&mut self) {
        self.slow.clear();
        self.held_up.retain(|(point, _)| *point != Point::InRuns);
    }

    async fn discard(&mut self) {
        self.let_letters_go();
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
            self.slices = Some(slices);
            self.world.set_handlers(handlers(self.policy.slices(slices)));
            Room::Plenty.furnish(&mut self.world);
        }
    }

    async fn rebalance(&mut self, partition: i32) {
        if let Some(lane) = self.lane(partition).take() {
            self.seen.amid(&self.held_up);
            lane.ask(self.random.pick(&[Stop::Finish, Stop::Abandon]));
            self.go_on();
            leave(&self.world, lane, &mut self.seen).await;
        }
        let lane = self.start(partition);
        *self.lane(partition) = Some(lane);
    }

    async fn operator(&mut self, partition: i32) {
        self.go_on();
        if let Some(lane) = self.lane(partition).take() {
            leave(&self.world, lane, &mut self.seen).await;
        }
        for zombie in std::mem::take(&mut self.zombies) {
            leave(&self.world, zombie, &mut self.seen).await;
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

    fn open(&self) -> usize {
        use LetterState::{Dead, Parked, Waiting};
        let letters = self.world.letters();
        letters.iter().filter(|it| matches!(it.2, Dead | Parked | Waiting)).count()
    }

    /// Everything is delivered again: what was forgotten is worked again, and nothing else.
    async fn end(&mut self) {
        self.go_on();
        self.leave_all().await;
        if is_wide(&self.world, self.slices) {
            Room::Plenty.furnish(&mut self.world);
        }
        for again in [false, true] {
            for partition in self.world.broker.partitions() {
                let low = self.world.broker.state().log(partition).low;
                if again && low < self.world.end(partition) {
                    self.world.broker.reset(partition, low);
                }
                let lane = self.start(partition);
                self.lanes.push(Some(lane));
            }
            // Faults that nobody met yet are met here.
            self.settle().await;
            if again {
                for partition in self.world.broker.partitions() {
                    let end = self.world.end(partition);
                    let lane = self.lane(partition).as_ref().unwrap();
                    until(|| lane.resolved().unwrap_or_default() >= end).await;
                }
                self.settle().await;
            }
            self.leave_all().await;
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
                let known = marked.contains(&id) || self.forgotten.contains_key(&id);
                assert!(!passed || known, "{id} was passed");
            }
        }
        self.world.assert_sums(marked.iter().filter(|id| self.has_one_life(id)));
        for (id, before) in &self.gone {
            assert_eq!(self.effects(id), *before, "{id} is not in the log any more");
        }
        self.assert_forgotten();
        self.assert_in_order();
    }

    /// What was forgotten is as new: since then it is exactly one thing, or nothing yet.
    fn assert_forgotten(&self) {
        use LetterState::{Dead, Dropped, Parked, Waiting};
        let letters = self.world.letters();
        for (id, before) in self.forgotten.iter().filter(|(id, _)| !self.gone.contains_key(*id)) {
            let effects = self.effects(id) - before;
            let is_one_of = |states: &[LetterState]| {
                letters.iter().any(|it| (&*it.0, &it.1) == ("bill", id) && states.contains(&it.2))
            };
            let marker = self.world.store.look(|view| view.marker("bill", id));
            let right = match marker {
                None => effects == 0,
                Some(MarkerState::Processed) => effects == 1,
                Some(MarkerState::Dead) => effects == 0 && is_one_of(&[Dead, Dropped]),
                Some(MarkerState::Parked) => effects == 0 && is_one_of(&[Parked, Waiting, Dropped]),
                Some(_) => false,
            };
            assert!(right, "{id}: {effects} effects since it was forgotten, marked {marker:?}");
        }
    }

    /// The effects of a message key are in the order in which its events came; but for those that
    /// were dead letters and replayed later, where a key is not held up by them.
    fn assert_in_order(&self) {
        for (scope, effects) in
            [("bill", self.world.bills()), ("audit", self.world.store.rows("audit"))]
        {
            let is_once = |id: &&String| scope != "bill" || !self.forgotten.contains_key(*id);
            let effects: Vec<_> = effects.iter().filter(is_once).collect();
            let once: HashSet<_> = effects.iter().collect();
            assert_eq!(once.len(), effects.len(), "{scope}: {effects:?}");
            let letters: HashSet<_> = self
                .world
                .letters()
                .into_iter()
                .filter(|it| it.0 == scope && !self.parks)
                .map(|it| it.1)
                .collect();
            let mut last = BTreeMap::new();
            for id in effects.into_iter().filter(|id| !letters.contains(*id)) {
                let Some(key) = self.made[id].as_deref() else { continue };
                let before = last.insert(key, id);
                assert!(before < Some(id), "{scope}: {id} after {before:?}");
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

async fn run(seed: u64) -> (Counts, Seen) {
    let mut model = Model::new(seed);
    // What failed was said; this is what led to it.
    let end = AssertUnwindSafe(model.run()).catch_unwind().await;
    assert!(end.is_ok(), "{:#?}", model.log);
    model.seen.note_store(&model.world);
    (model.world.counts(), model.seen)
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_each_event_is_one_thing_and_in_order() {
    // More of them when somebody wants to look for something.
    let seeds = std::env::var("IDEM_SEEDS").map_or(80, |it| it.parse().unwrap());
    let from = std::env::var("IDEM_FROM").map_or(0, |it| it.parse().unwrap());
    let mut seen = Seen::default();
    for seed in from..from + seeds {
        let (counts, its) = run(seed).await;
        seen.add(&its);
        let Counts { fenced, went_back, retried, dead_lettered, parked, released, .. } = counts;
        let counts = [fenced, went_back, retried, dead_lettered, parked, released];
        WORLD_STATES.iter().zip(counts).for_each(|(what, count)| seen.note(what, count));
    }
    let packed = PACKED_STATES.iter().chain(&["keys forgotten that had been given up on"]);
    let packed = packed.filter(|_| is_packed());
    let states: Vec<_> = WORLD_STATES.iter().chain(packed).copied().collect();
    let never = seen.never(&states);
    assert!(seeds < 60 || never.is_empty(), "the model is too tame: {never:?} of {seen:?}");
}
