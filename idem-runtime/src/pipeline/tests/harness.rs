//! A world in which lanes run: a store and a broker in memory, and handlers with a script.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::dead_letter::{DeadLetter, FailureClass, LetterState};
use crate::error::Error;
use crate::group::{Group, Registered};
use crate::key::Key;
use crate::lane::{LaneId, LaneRow, Owner};
use crate::letters::DeadLetters;
use crate::marker::MarkerState;
use crate::memory::{Memory, Point};
use crate::packed::{Budget, Filters, Pack, PackRow};
use crate::pipeline::care::Care;
use crate::pipeline::lane::{Lane, LaneEnd};
use crate::pipeline::policy::{LaneSettings, Portions};
use crate::pipeline::source::{Seat, Source};
use crate::pipeline::stats::{Counts, Stats};
use crate::pipeline::stop::{Stop, Stopper, stop_signal};
use crate::pipeline::tests::broker::{Broker, TOPIC};
use crate::pipeline::tests::client::Client;
use crate::pipeline::tests::handlers::{Audit, Bill, Count, Script};
use crate::pipeline::watch::watch;
use crate::policy::{Markers, Policy};
use crate::replay::Replay;
use crate::routing::{Rules, Told};
use crate::scope::Registration;
use crate::state::States;
use crate::store::Store as _;

/// Virtual time after which a test has waited in vain.
pub(super) const DEADLINE: Duration = Duration::from_secs(300);

pub(super) struct World {
    pub(super) store: Memory,
    pub(super) broker: Broker,
    pub(super) script: Script,
    pub(super) settings: LaneSettings,
    pub(super) stats: Arc<Stats>,
    pub(super) care: Arc<Care>,
    pub(super) budget: Arc<Budget>,
    group: Arc<Group<Memory>>,
}

impl World {
    /// One handler with markers in rows, and one partition.
    pub(super) fn new() -> Self {
        Self::of(vec![Registered::of::<Bill>()], 1)
    }

    /// The same, its handler with this policy.
    pub(super) fn with(policy: Policy) -> Self {
        let mut bill = Registered::of::<Bill>();
        bill.policy = policy;
        Self::of(vec![bill], 1)
    }

    pub(super) fn of(handlers: Vec<Registered<Memory>>, partitions: usize) -> Self {
        Self::with_states(handlers, partitions, States::default())
    }

    fn with_states(
        handlers: Vec<Registered<Memory>>,
        partitions: usize,
        mut states: States,
    ) -> Self {
        let handlers = handlers.into_iter().map(in_form).collect();
        let (store, script) = (Memory::new(), Script::default());
        states.insert(script.clone());
        let group = Group {
            name: "g".into(),
            store: store.clone(),
            handlers,
            states: Arc::new(states),
            registry: None,
            rules: Rules::default(),
            told: Told::default(),
            found: OnceLock::new(),
            filters: Filters::default(),
        };
        Self {
            store,
            broker: Broker::new(partitions),
            script,
            settings: LaneSettings {
                // Few digests make a run, too.
                portions: Portions { least: 1, ..Portions::default() },
                ..LaneSettings::default()
            },
            stats: Arc::default(),
            care: Arc::default(),
            budget: Budget::new(256 << 20),
            group: Arc::new(group),
        }
    }

    /// With one more thing that handlers ask for.
    pub(super) fn with_state<T: Send + Sync + 'static>(
        handlers: Vec<Registered<Memory>>,
        partitions: usize,
        state: T,
    ) -> Self {
        let mut states = States::default();
        states.insert(state);
        Self::with_states(handlers, partitions, states)
    }

    /// The next lanes have these handlers: a new release.
    pub(super) fn set_handlers(&mut self, handlers: Vec<Registered<Memory>>) {
        let handlers = handlers.into_iter().map(in_form).collect();
        self.change(|group| group.handlers = handlers);
    }

    /// The group says this of its events, in the lanes that start from now on.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.change(|group| group.rules = rules);
    }

    /// The next lanes ask this registry for schemas.
    #[cfg(feature = "avro")]
    pub(super) fn set_registry(&mut self, registry: crate::SchemaRegistry) {
        self.change(|group| group.registry = Some(registry));
    }

    /// Another group in the place of this one, for the lanes that start from now on.
    fn change(&mut self, change: impl FnOnce(&mut Group<Memory>)) {
        let Group { name, store, handlers, states, registry, rules, .. } = &*self.group;
        let mut group = Group {
            name: Arc::clone(name),
            store: store.clone(),
            handlers: handlers.clone(),
            states: Arc::clone(states),
            registry: registry.clone(),
            rules: rules.clone(),
            told: Told::default(),
            found: OnceLock::new(),
            filters: Filters::default(),
        };
        change(&mut group);
        self.group = Arc::new(group);
    }

    /// Starts the lane of a partition in the process `a`.
    pub(super) fn start(&self, partition: i32) -> Running {
        self.start_on("a", partition, &Client::new(&self.broker))
    }

    pub(super) fn start_on(&self, process: &str, partition: i32, client: &Client) -> Running {
        self.start_in(&self.process(process), partition, client)
    }

    /// A process of this name, with what the others of this world have in flight.
    pub(super) fn process(&self, name: &str) -> Process {
        Process { owner: owner(name), care: Arc::clone(&self.care) }
    }

    pub(super) fn start_in(&self, process: &Process, partition: i32, client: &Client) -> Running {
        let seat = Arc::new(Seat::new(self.id(partition), 1 << 20));
        self.broker.assign(&seat);
        let (stopper, stop) = stop_signal();
        let lane = Lane {
            group: Arc::clone(&self.group),
            owner: process.owner.clone(),
            seat: Arc::clone(&seat),
            source: Arc::new(client.clone()),
            settings: self.settings,
            stats: Arc::clone(&self.stats),
            care: Arc::clone(&process.care),
            budget: Arc::clone(&self.budget),
            outside: Mutex::default(),
            stop,
        };
        let task = tokio::spawn(lane.run());
        Running { seat, broker: self.broker.clone(), stopper, task }
    }

    /// The watch over these lanes, until the handle is aborted.
    pub(super) fn watch(&self, lanes: &[&Running]) -> JoinHandle<()> {
        let seats: Vec<_> = lanes.iter().map(|lane| Arc::clone(&lane.seat)).collect();
        let source: Arc<dyn Source> = Arc::new(Client::new(&self.broker));
        let group = Arc::clone(&self.group);
        let every = Duration::from_secs(3);
        tokio::spawn(watch(group, owner("a"), source, move || seats.clone(), every))
    }

    pub(super) fn id(&self, partition: i32) -> LaneId {
        LaneId { group: "g".into(), topic: TOPIC.into(), partition }
    }

    pub(super) fn row(&self, partition: i32) -> LaneRow {
        self.store.lane(&self.id(partition)).unwrap()
    }

    pub(super) fn position(&self, partition: i32) -> i64 {
        self.row(partition).position.offset
    }

    /// Waits until the lane's committed position is this.
    #[track_caller]
    pub(super) fn worked(&self, partition: i32, offset: i64) -> impl Future<Output = ()> {
        let (id, store) = (self.id(partition), self.store.clone());
        let caller = std::panic::Location::caller();
        until_at(caller, move || store.lane(&id).is_some_and(|row| row.position.offset == offset))
    }

    /// The committed effects of `bill`.
    pub(super) fn bills(&self) -> Vec<String> {
        self.store.rows("bill")
    }

    /// The keys that `bill` has marked, in order: of those that there are events of, when they are
    /// packed.
    pub(super) fn marked(&self) -> Vec<String> {
        self.marked_in("bill")
    }

    pub(super) fn marked_in(&self, scope: &str) -> Vec<String> {
        let mut keys = self.store.look(|view| view.keys(scope));
        let logs = i32::try_from(self.broker.state().logs.len()).unwrap();
        let events = (0..logs).flat_map(|partition| self.broker.events(partition));
        let ids = events.filter_map(|event| Some(id_of(event.payload.as_deref()?)));
        let is_marked = |id: &String| self.store.look(|view| view.marker(scope, id).is_some());
        keys.extend(ids.filter(is_marked));
        keys.sort();
        keys.dedup();
        keys
    }

    /// The committed rows of packed markers of a scope, in the order of their numbers.
    pub(super) fn packs(&self, scope: &str) -> Vec<PackRow> {
        self.store.pack_rows(scope)
    }

    /// How many keys `bill` has marked, in whatever form.
    pub(super) fn markers(&self) -> usize {
        let packs = self.packs("bill");
        let packs = packs.iter().flat_map(|row| Pack::decode(row).unwrap().entries);
        let packed: BTreeSet<_> = packs.map(|(_, digest)| digest).collect();
        // What was given up on is in both.
        if packed.is_empty() {
            self.store.look(|view| view.keys("bill").len())
        } else {
            packed.len()
        }
    }

    /// Records the scopes of the handlers, with the form of their markers.
    pub(super) async fn register(&self) {
        let handlers = self.group.handlers.iter();
        let scopes: Vec<_> = handlers.map(|handler| (handler.scope, handler.mode())).collect();
        let windows = &self.group.window_lengths();
        let registration = Registration {
            group: "g",
            scopes: &scopes,
            windows,
            adopt: &[],
            retire: &[],
            broadcast: None,
        };
        self.store.register(&registration).await.unwrap();
    }

    /// Puts the lane of a partition to work on its log from this offset on, until it has done all
    /// there is.
    pub(super) async fn again_from(&self, partition: i32, offset: i64) {
        self.broker.reset(partition, offset);
        let lane = self.start(partition);
        until(|| lane.resolved() == Some(self.end(partition))).await;
        lane.finish().await;
    }

    /// Forgets a key of `bill`, as an operator does to have its event processed again. Answers whether
    /// it was known.
    pub(super) async fn forget(&self, key: &str) -> bool {
        self.store.forget_marker("bill", &Key::new(key).unwrap()).await.unwrap()
    }

    /// Waits until the lane that took another one's place gets no further for that one's open
    /// transaction: the claim of a row waits for whoever has claimed it. Packed, only the lane's own
    /// row stands in the way of two owners, so that nobody is held up by one that has not sealed.
    pub(super) async fn held_up(&self, new: &Running) {
        match is_packed() {
            true => until(|| new.seat.held().is_some()).await,
            false => self.store.wait_for(|view| view.waiting() == 1).await,
        }
    }

    /// All dead letters and waiting events: scope, id of the event (what it is, if it does not
    /// decode), state and class.
    pub(super) fn letters(&self) -> Vec<(String, String, LetterState, Option<FailureClass>)> {
        let letters = self.store.look(|view| view.letters());
        let letters = letters.into_iter().map(|letter| {
            let id = id_of(letter.event.payload.as_deref().unwrap_or_default());
            (letter.scope, id, letter.state, letter.cause.map(|cause| cause.class))
        });
        letters.collect()
    }

    /// The ids of the letters of `bill` in this state, in the order of their numbers.
    pub(super) fn letters_in(&self, state: LetterState) -> Vec<String> {
        let letters = self.letters().into_iter();
        let letters = letters.filter(|(scope, _, is, _)| scope == "bill" && *is == state);
        letters.map(|(_, id, _, _)| id).collect()
    }

    pub(super) fn dead_letters(&self) -> DeadLetters<Memory> {
        DeadLetters::new(self.store.clone(), "ana")
    }

    /// A replay with the handlers of this world's script.
    pub(super) fn replay(&self) -> Replay<Memory> {
        let replay = Replay::new(self.store.clone(), "ana").group("g").state(self.script.clone());
        replay.handler::<Bill>().handler::<Audit>().handler::<Count>()
    }

    /// Each of these events of `bill` is exactly one of: processed, dead, parked or waiting, settled
    /// by a person; its marker says so, and its effect and its letter are there once.
    #[track_caller]
    pub(super) fn assert_sums<I: AsRef<str>>(&self, ids: impl IntoIterator<Item = I>) {
        let bills = self.bills();
        let letters: Vec<_> = self.store.look(|view| view.letters());
        let mut places = BTreeSet::new();
        for letter in &letters {
            let place = (letter.scope.clone(), letter.event.partition, letter.event.offset);
            assert!(places.insert(place), "{letter:?} was written twice");
        }
        let is_correction = |letter: &DeadLetter| {
            letter.cause.as_ref().is_some_and(|it| it.class == FailureClass::Correction)
        };
        for id in ids {
            let id = id.as_ref();
            let effects = bills.iter().filter(|it| *it == id).count();
            let of = |it: &&DeadLetter| {
                it.scope == "bill" && id_of(it.event.payload.as_deref().unwrap_or_default()) == id
            };
            let its: Vec<_> =
                letters.iter().filter(of).filter(|letter| !is_correction(letter)).collect();
            let marker = self.store.look(|view| view.marker("bill", id));
            let states: Vec<_> = its.iter().map(|letter| letter.state).collect();
            let right = match states[..] {
                [] => effects == 1 && marker == Some(MarkerState::Processed),
                [LetterState::Replayed] => effects == 1 && marker == Some(MarkerState::Processed),
                [LetterState::Dead] => effects == 0 && marker == Some(MarkerState::Dead),
                [LetterState::Parked | LetterState::Waiting] => {
                    effects == 0 && marker == Some(MarkerState::Parked)
                }
                [LetterState::Dropped] => {
                    effects == 0 && !matches!(marker, None | Some(MarkerState::Processed))
                }
                _ => false,
            };
            assert!(right, "{id}: {effects} effects, marked {marker:?}, letters {states:?}");
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.stats.counts(&self.budget)
    }

    /// Puts one lane to work until it has done all there is, and ends it.
    pub(super) async fn drain(&self, partition: i32) {
        let lane = self.start(partition);
        until(|| lane.seat.held().is_some()).await;
        self.worked(partition, self.end(partition)).await;
        lane.finish().await;
    }

    /// The position behind the last event of a log.
    pub(super) fn end(&self, partition: i32) -> i64 {
        self.broker.events(partition).last().map_or(0, |event| event.offset + 1)
    }
}

/// Whether these tests are run with packed markers, where a handler does not say.
pub(super) fn is_packed() -> bool {
    std::env::var("IDEM_TEST_MARKERS").is_ok_and(|markers| markers == "packed")
}

/// Where a lane claims.
pub(super) fn claim() -> Point {
    if is_packed() { Point::Pack } else { Point::Claim }
}

/// The handler with its markers in rows, whatever form is tested: the test is of what only rows do.
pub(super) fn in_rows(mut handler: Registered<Memory>) -> Registered<Memory> {
    handler.policy.markers = Some(Markers::Rows);
    handler
}

/// The handler with its markers in the form that is tested, if it does not say and can have it.
fn in_form(mut handler: Registered<Memory>) -> Registered<Memory> {
    let policy = &mut handler.policy;
    let needs_rows = policy.payload_check.is_some() || policy.unknown_end.is_some();
    if is_packed() && policy.markers.is_none() && !needs_rows {
        policy.markers = Some(Markers::Packed);
    }
    handler
}

/// A process: all its lanes have one owner, and look after each other.
pub(super) struct Process {
    pub(super) owner: Owner,
    pub(super) care: Arc<Care>,
}

fn owner(process: &str) -> Owner {
    Owner { id: Uuid::new_v4(), name: process.to_owned(), dead_after: Duration::from_secs(1) }
}

/// A lane that runs.
pub(super) struct Running {
    pub(super) seat: Arc<Seat>,
    broker: Broker,
    pub(super) stopper: Stopper,
    pub(super) task: JoinHandle<LaneEnd>,
}

impl Running {
    /// Asks, and does not wait.
    pub(super) fn ask(&self, stop: Stop) {
        self.stopper.stop(stop);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until it ended by itself or because it was asked to.
    pub(super) async fn ended(self) -> LaneEnd {
        let end = tokio::time::timeout(DEADLINE, self.task).await;
        self.broker.revoke(&self.seat);
        end.expect("the lane did not end").expect("the lane panicked")
    }

    /// The revocation that a rebalance is: finish, commit the offsets, vacate.
    pub(super) async fn finish(self) {
        self.ask(Stop::Finish);
        let seat = Arc::clone(&self.seat);
        let broker = self.broker.clone();
        let end = self.ended().await;
        assert!(matches!(end, LaneEnd::Left), "{end:?}");
        broker.commit_resolved(&seat);
    }

    /// The error it stops with.
    pub(super) async fn stopped(self) -> Error {
        match self.ended().await {
            LaneEnd::Stopped(error) => error,
            LaneEnd::Left => panic!("the lane left"),
        }
    }

    /// The process dies.
    pub(super) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.broker.revoke(&self.seat);
    }

    pub(super) fn resolved(&self) -> Option<i64> {
        self.seat.resolved().map(|position| position.offset)
    }
}

/// Waits until the condition holds.
#[track_caller]
pub(super) fn until(holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    until_at(std::panic::Location::caller(), holds)
}

async fn until_at(caller: &std::panic::Location<'_>, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{caller} waited in vain");
        // Virtual: it passes when nobody has anything else to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets everybody do what they can do within this much virtual time.
pub(super) async fn quiet(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The id in a payload; the payload itself when it has none.
pub(super) fn id_of(payload: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(payload).ok();
    let id = json.and_then(|json| Some(json.get("id")?.as_str()?.to_owned()));
    id.unwrap_or_else(|| String::from_utf8_lossy(payload).into_owned())
}

/// `e0` to `e(n-1)`.
pub(super) fn ids(events: usize) -> Vec<String> {
    (0..events).map(|n| format!("e{n}")).collect()
}
