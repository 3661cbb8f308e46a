//! The keeper of a group's lanes: starts one for each partition that is assigned, and ends it when
//! the partition goes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::group::Group;
use crate::lane::{LaneId, Owner, Position};
use crate::packed::Budget;
use crate::pipeline::care::Care;
use crate::pipeline::lane::{Lane, LaneEnd};
use crate::pipeline::policy::{LaneSettings, Start};
use crate::pipeline::source::{Seat, Source};
use crate::pipeline::stats::Stats;
use crate::pipeline::stop::{Stop, Stopper, stop_signal};
use crate::run::Stopped;
use crate::store::Store;

/// The least a queue holds, in bytes: a lane must be able to fill a batch.
const LEAST_QUEUE: usize = 256 << 10;

/// How long a lane may take to be dropped.
const ABANDON: Duration = Duration::from_secs(5);

/// A partition of a topic.
pub(crate) type Partition = (Arc<str>, i32);

/// What the consumer's callbacks and the reader ask; the store's type is behind it.
pub(crate) trait Keeping: Send + Sync {
    /// The group's name.
    fn group(&self) -> &Arc<str>;
    /// Starts a lane for each.
    fn assign(&self, partitions: &[Partition]);
    /// Ends the lanes of these partitions, or all, and waits: for their running transactions within
    /// the bound, then without. Answers what they had resolved.
    fn revoke(&self, partitions: Option<&[Partition]>) -> Vec<(LaneId, Position)>;
    /// Starts no lane any more, and lets go of the consumer.
    fn close(&self);
    /// The seats of the lanes that are assigned.
    fn seats(&self) -> Vec<Arc<Seat>>;
    /// The seat of a partition.
    fn seat(&self, topic: &str, partition: i32) -> Option<Arc<Seat>>;
}

pub(crate) struct Keeper<S: Store> {
    pub(crate) group: Arc<Group<S>>,
    pub(crate) owner: Owner,
    pub(crate) settings: LaneSettings,
    pub(crate) stats: Arc<Stats>,
    pub(crate) care: Arc<Care>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) runtime: Handle,
    /// Set once the consumer exists, and taken out again at the end: the consumer's callbacks hold
    /// the keeper, so that a source that stayed would keep the consumer, and its place in the
    /// group, for ever.
    pub(crate) source: Mutex<Option<Arc<dyn Source>>>,
    /// The bytes that all queues share.
    pub(crate) queue_bytes: usize,
    /// How long a running transaction may take when its lane is revoked.
    pub(crate) bound: Duration,
    /// Errors that lanes stopped with.
    pub(crate) stopped: Stopped,
    pub(crate) lanes: Mutex<HashMap<Partition, Kept>>,
    /// Of a group that reads topics by pattern: those that there were when it started.
    pub(crate) at_start: OnceLock<HashSet<String>>,
}

pub(crate) struct Kept {
    seat: Arc<Seat>,
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl<S: Store> Keeper<S> {
    fn lanes(&self) -> MutexGuard<'_, HashMap<Partition, Kept>> {
        // No code that can panic runs while it is held.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, source: &Arc<dyn Source>, (topic, partition): &Partition) -> Kept {
        let id = LaneId {
            group: Arc::clone(&self.group.name),
            topic: Arc::clone(topic),
            partition: *partition,
        };
        // It may go on now where it stopped before.
        let past = |(lane, _): &(LaneId, _)| *lane == id;
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).retain(|it| !past(it));
        let seat = Arc::new(Seat::new(id.clone(), self.queue_bytes));
        let (stopper, stop) = stop_signal();
        let lane = Lane {
            group: Arc::clone(&self.group),
            owner: self.owner.clone(),
            seat: Arc::clone(&seat),
            source: Arc::clone(source),
            settings: self.settings_for(topic),
            stats: Arc::clone(&self.stats),
            care: Arc::clone(&self.care),
            budget: Arc::clone(&self.budget),
            outside: Mutex::default(),
            stop,
        };
        let stopped = Arc::clone(&self.stopped);
        let task = self.runtime.spawn(async move {
            if let LaneEnd::Stopped(error) = lane.run().await {
                stopped.lock().unwrap_or_else(PoisonError::into_inner).push((id, error));
            }
        });
        Kept { seat, stopper, task }
    }

    /// A topic that appeared while this runs is read from its beginning, whatever `start` says: it is
    /// found some time after its first events.
    fn settings_for(&self, topic: &str) -> LaneSettings {
        let mut settings = self.settings;
        let new = self.at_start.get().is_some_and(|topics| !topics.contains(topic));
        if new && settings.policies.start == Some(Start::Latest) {
            settings.policies.start = Some(Start::Earliest);
        }
        settings
    }

    /// Shares the memory among the lanes there are.
    fn share(&self, lanes: &HashMap<Partition, Kept>) {
        let each = (self.queue_bytes / lanes.len().max(1)).max(LEAST_QUEUE);
        for kept in lanes.values() {
            kept.seat.queue.set_high(each);
        }
    }
}

impl<S: Store> Keeping for Keeper<S> {
    fn group(&self) -> &Arc<str> {
        &self.group.name
    }

    fn assign(&self, partitions: &[Partition]) {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(source) = source else { return };
        // A static member that comes back is assigned what it had, without a revocation: whatever
        // stands there belongs to the past.
        self.revoke(Some(partitions));
        let mut lanes = self.lanes();
        for partition in partitions {
            lanes.insert(partition.clone(), self.start(&source, partition));
        }
        self.share(&lanes);
    }

    fn revoke(&self, partitions: Option<&[Partition]>) -> Vec<(LaneId, Position)> {
        let ending: Vec<Kept> = {
            let mut lanes = self.lanes();
            let ending = match partitions {
                Some(some) => some.iter().filter_map(|it| lanes.remove(it)).collect(),
                None => lanes.drain().map(|(_, kept)| kept).collect(),
            };
            self.share(&lanes);
            ending
        };
        for kept in &ending {
            kept.stopper.stop(Stop::Finish);
        }
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + self.bound;
            ending
                .into_iter()
                .map(|kept| async move {
                    let Kept { seat, stopper, mut task } = kept;
                    if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                        tracing::warn!(
                            topic = %seat.id.topic,
                            partition = seat.id.partition,
                            "the lane's transaction takes too long for its revocation: dropped"
                        );
                        stopper.stop(Stop::Abandon);
                        if tokio::time::timeout(ABANDON, &mut task).await.is_err() {
                            // It can only be dropped where it awaits. What it may still write is
                            // fenced; the others do not wait for it.
                            tracing::error!(
                                topic = %seat.id.topic,
                                partition = seat.id.partition,
                                "a handler blocks its thread and cannot be dropped; left behind. \
                                 Handlers must not block: use `spawn_blocking` for what does"
                            );
                            task.abort();
                        }
                    }
                    seat.vacate();
                    seat.resolved().map(|position| (seat.id.clone(), position))
                })
                .collect::<futures_util::stream::FuturesUnordered<_>>()
                .fold(Vec::new(), |mut resolved, it| async move {
                    resolved.extend(it);
                    resolved
                })
                .await
        })
    }

    fn close(&self) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn seats(&self) -> Vec<Arc<Seat>> {
        self.lanes().values().map(|kept| Arc::clone(&kept.seat)).collect()
    }

    fn seat(&self, topic: &str, partition: i32) -> Option<Arc<Seat>> {
        // Looked up once for a run of messages, so that the name's allocation does not matter.
        self.lanes().get(&(Arc::from(topic), partition)).map(|kept| Arc::clone(&kept.seat))
    }
}
