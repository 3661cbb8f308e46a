//! What the pipeline asks of a source of events.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::error::Result;
use crate::lane::{Held, LaneId, LogIdentity, Position};
use crate::pipeline::queue::Queue;

/// A source of events, as a lane sees it.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    /// What the source knows of these partitions of a topic; of all of them for `None`. A topic that
    /// does not exist is an error of the kind [`Config`](crate::ErrorKind::Config) then.
    async fn survey(&self, topic: &str, partition: Option<i32>) -> Result<Vec<Survey>>;

    /// How many partitions a topic has.
    async fn partitions(&self, topic: &str) -> Result<i32>;

    /// The identity of a topic's log.
    async fn identity(&self, topic: &str) -> Result<LogIdentity>;

    /// Delivers from this position on into the seat's queue, which it arms.
    async fn start(&self, seat: &Arc<Seat>, at: Position) -> Result<()>;

    /// Delivers nothing more and empties the queue.
    async fn halt(&self, seat: &Arc<Seat>);

    /// Commits this position with the group's mark and waits for the answer.
    async fn mark(&self, seat: &Arc<Seat>, at: Position) -> Result<()>;
}

/// What a source knows of a partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Survey {
    pub(crate) partition: i32,
    /// The group's commit.
    pub(crate) commit: Option<Commit>,
    /// The oldest offset that is there.
    pub(crate) low: i64,
    /// The next offset to be written, as far as this reader may see.
    pub(crate) high: i64,
    pub(crate) identity: LogIdentity,
}

/// An offset commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// A lane's seat: what the lane and its source share during one assignment.
///
/// A new assignment, even of the same partition, gets a new seat, so that nothing of an older one
/// can be taken for it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: LaneId,
    pub(crate) queue: Queue,
    held: Mutex<Option<(Held, LogIdentity)>>,
    resolved: Mutex<Option<Position>>,
    look: Notify,
    tend: Notify,
    doubted: AtomicBool,
    went_back: AtomicBool,
    vacated: AtomicBool,
    /// How many partitions the topic had when its windows were loaded; 0 without any.
    partitions: AtomicI32,
}

impl Seat {
    pub(crate) fn new(id: LaneId, queue_bytes: usize) -> Self {
        Self {
            id,
            queue: Queue::new(queue_bytes),
            held: Mutex::default(),
            resolved: Mutex::default(),
            look: Notify::new(),
            tend: Notify::new(),
            doubted: AtomicBool::new(false),
            went_back: AtomicBool::new(false),
            vacated: AtomicBool::new(false),
            partitions: AtomicI32::new(0),
        }
    }

    /// Publishes what the lane holds, for the watch that compares it with the database.
    pub(crate) fn hold(&self, held: Option<(Held, LogIdentity)>) {
        *lock(&self.held) = held;
    }

    pub(crate) fn held(&self) -> Option<(Held, LogIdentity)> {
        lock(&self.held).clone()
    }

    /// Everything below is committed in the database: the source may be told.
    pub(crate) fn resolve(&self, position: Position) {
        *lock(&self.resolved) = Some(position);
    }

    /// The position to commit to the source, if the lane resolved one.
    pub(crate) fn resolved(&self) -> Option<Position> {
        *lock(&self.resolved)
    }

    /// Asks the lane to compare itself with database and log.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// What comes from now on is not of the log that the lane was taken from: nothing of it is
    /// accepted, and the lane takes itself again.
    pub(crate) fn shut(&self) {
        self.queue.disarm();
        self.doubt();
    }

    /// Some log lost its tail under a position, and the client does not say which: the lane starts
    /// again at its position, which is validated against the log.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, SeqCst);
        self.look();
    }

    pub(crate) fn take_doubt(&self) -> bool {
        self.doubted.swap(false, SeqCst)
    }

    /// The database lost something that the lane's revision does not tell: the lane takes itself again.
    pub(crate) fn went_back(&self) {
        self.went_back.store(true, SeqCst);
        self.look();
    }

    pub(crate) fn take_went_back(&self) -> bool {
        self.went_back.swap(false, SeqCst)
    }

    pub(crate) async fn asked_to_look(&self) {
        self.look.notified().await;
    }

    /// Asks whoever tends to the windows of the lane to do so now.
    pub(crate) fn tend(&self) {
        self.tend.notify_one();
    }

    pub(crate) async fn asked_to_tend(&self) {
        self.tend.notified().await;
    }

    /// The windows of the lane are those of a topic with so many partitions.
    pub(crate) fn counts_on(&self, partitions: i32) {
        self.partitions.store(partitions, SeqCst);
    }

    /// Whether it is of meaning to the lane that its topic has so many partitions now.
    pub(crate) fn minds(&self, partitions: i32) -> bool {
        ![0, partitions].contains(&self.partitions.load(SeqCst))
    }

    /// How many partitions the lane counts on, if that is of meaning to it.
    pub(crate) fn partitions(&self) -> Option<i32> {
        Some(self.partitions.load(SeqCst)).filter(|it| *it != 0)
    }

    /// The assignment is over: what still comes for this seat is not for its lane.
    pub(crate) fn vacate(&self) {
        self.vacated.store(true, SeqCst);
        self.queue.disarm();
    }

    pub(crate) fn is_vacated(&self) -> bool {
        self.vacated.load(SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
