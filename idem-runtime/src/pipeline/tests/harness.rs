//! A world in which lanes run: a store and a broker in memory, and handlers with a script.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::error::Error;
use crate::group::{Group, Registered};
use crate::lane::{LaneId, LaneRow, Owner};
use crate::memory::Memory;
use crate::pipeline::care::Care;
use crate::pipeline::lane::{Lane, LaneEnd};
use crate::pipeline::policy::LaneSettings;
use crate::pipeline::source::{Seat, Source};
use crate::pipeline::stats::{Counts, Stats};
use crate::pipeline::stop::{Stop, Stopper, stop_signal};
use crate::pipeline::tests::broker::{Broker, TOPIC};
use crate::pipeline::tests::client::Client;
use crate::pipeline::tests::handlers::{Bill, Script};
use crate::pipeline::watch::watch;
use crate::policy::Policy;
use crate::state::States;

/// Virtual time after which a test has waited in vain.
pub(super) const DEADLINE: Duration = Duration::from_secs(300);

pub(super) struct World {
    pub(super) store: Memory,
    pub(super) broker: Broker,
    pub(super) script: Script,
    pub(super) settings: LaneSettings,
    pub(super) stats: Arc<Stats>,
    pub(super) care: Arc<Care>,
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
        let (store, script) = (Memory::new(), Script::default());
        let mut states = States::default();
        states.insert(script.clone());
        let group =
            Group { name: "g".into(), store: store.clone(), handlers, states: Arc::new(states) };
        Self {
            store,
            broker: Broker::new(partitions),
            script,
            settings: LaneSettings::default(),
            stats: Arc::default(),
            care: Arc::default(),
            group: Arc::new(group),
        }
    }

    /// Starts the lane of a partition in the process `a`.
    pub(super) fn start(&self, partition: i32) -> Running {
        self.start_on("a", partition, &Client::new(&self.broker))
    }

    pub(super) fn start_on(&self, process: &str, partition: i32, client: &Client) -> Running {
        let seat = Arc::new(Seat::new(self.id(partition), 1 << 20));
        self.broker.assign(&seat);
        let (stopper, stop) = stop_signal();
        let lane = Lane {
            group: Arc::clone(&self.group),
            owner: owner(process),
            seat: Arc::clone(&seat),
            source: Arc::new(client.clone()),
            settings: self.settings,
            stats: Arc::clone(&self.stats),
            care: Arc::clone(&self.care),
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

    /// The keys that `bill` has marked.
    pub(super) fn marked(&self) -> Vec<String> {
        self.store.look(|view| view.keys("bill"))
    }

    pub(super) fn counts(&self) -> Counts {
        self.stats.counts()
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

/// `e0` to `e(n-1)`.
pub(super) fn ids(events: usize) -> Vec<String> {
    (0..events).map(|n| format!("e{n}")).collect()
}
