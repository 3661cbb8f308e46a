//! Running: start everything, wait, drain, leave.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

use crate::broadcast::Heart;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::kafka::{Forwarder, Kafka, Keeper, Keeping, Reader};
use crate::lane::Owner;
use crate::packed::Budget;
use crate::pipeline::care::Care;
use crate::pipeline::mark;
use crate::pipeline::policy::LaneSettings;
use crate::pipeline::stats::{Counts, Stats};
use crate::pipeline::watch::watch as watch_lanes;
use crate::retired;
use crate::scope::Registration;
use crate::store::Store;

/// How often a lane that stands still is named again.
const REMIND: Duration = Duration::from_secs(60);

/// Registered handlers, ready to run.
pub struct Idem {
    runners: Vec<Box<dyn Runner>>,
    shared: Arc<Shared>,
}

/// A hand on something that runs: to stop it, and to look at it.
#[derive(Clone)]
pub struct RunHandle(Arc<Shared>);

struct Shared {
    stop: watch::Sender<bool>,
    process: Process,
}

/// How many bytes packed markers have in memory, unless it is said.
pub(crate) const PACKED_MEMORY: usize = 256 << 20;

/// What all groups of a process have in common.
pub(crate) struct Process {
    pub(crate) stats: Arc<Stats>,
    pub(crate) stopped: Stopped,
    pub(crate) care: Arc<Care>,
    /// The memory of the windows of packed markers, of all groups together.
    pub(crate) budget: Arc<Budget>,
}

impl Process {
    fn new(packed_memory: usize) -> Self {
        Self {
            stats: Arc::default(),
            stopped: Stopped::default(),
            care: Arc::default(),
            budget: Budget::new(packed_memory),
        }
    }

    fn counts(&self) -> Counts {
        self.stats.counts(&self.budget)
    }
}

/// The lanes that stand still, each with the error it stopped with.
pub(crate) type Stopped = Arc<Mutex<Vec<(crate::lane::LaneId, Error)>>>;

impl RunHandle {
    /// Asks everything to finish what it is doing and leave. Returns at once;
    /// [`run`](Idem::run) returns when it is done.
    pub fn shutdown(&self) {
        self.0.stop.send_replace(true);
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.0.process.counts()
    }

    /// Why lanes of this process stand still, one line each; empty when none does.
    pub fn stopped_lanes(&self) -> Vec<String> {
        self.0.lines()
    }
}

impl Shared {
    fn lines(&self) -> Vec<String> {
        let stopped = self.process.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.iter().map(|(_, error)| error.report()).collect()
    }
}

impl Idem {
    pub(crate) fn new(runners: Vec<Box<dyn Runner>>, packed_memory: usize) -> Self {
        let process = Process::new(packed_memory);
        let shared = Shared { stop: watch::channel(false).0, process };
        Self { runners, shared: Arc::new(shared) }
    }

    /// A hand on the run, to be taken before [`run`](Self::run).
    pub fn handle(&self) -> RunHandle {
        RunHandle(Arc::clone(&self.shared))
    }

    #[cfg(test)]
    pub(crate) fn process(&self) -> &Process {
        &self.shared.process
    }

    /// Works until SIGTERM, SIGINT or [`RunHandle::shutdown`]; then finishes running transactions,
    /// commits offsets and leaves the group. Dropping the future stops without waiting.
    ///
    /// # Errors
    /// At start: the database or Kafka cannot be reached, the schema does not fit, a topic does not
    /// exist, a scope belongs to another group; the message has a line for each group. While
    /// running: the Kafka client cannot go on. At the end: a lane stood still, with the error it
    /// stopped with.
    pub async fn run(self) -> Result<Counts> {
        let mut running = Vec::new();
        let mut refused = Vec::<Error>::new();
        for runner in self.runners {
            match runner.start(&self.shared.process).await {
                Ok(reader) => running.push(reader),
                Err(error) => refused.push(error),
            }
        }
        let mut result = match refused.len() {
            0 => self.shared.wait(&mut running).await,
            1 => refused.pop().map_or(Ok(()), Err),
            _ => {
                let lines: Vec<_> = refused.iter().map(Error::report).collect();
                Err(Error::new(refused[0].kind(), lines.join("\n")))
            }
        };
        for reader in &running {
            reader.stop.store(true, SeqCst);
        }
        for reader in running {
            if let Err(error) = reader.ended().await {
                result = result.and(Err(error));
            }
        }
        result?;
        let stopped =
            self.shared.process.stopped.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match stopped {
            Some((_, error)) => Err(error),
            None => Ok(self.shared.process.counts()),
        }
    }
}

impl Shared {
    /// Waits for a reason to stop.
    async fn wait(&self, running: &mut [Running]) -> Result<()> {
        let mut asked = self.stop.subscribe();
        let mut remind = tokio::time::interval(REMIND);
        let signal = signal();
        tokio::pin!(signal);
        loop {
            let ended = futures_util::future::select_all(
                running.iter_mut().map(|reader| Box::pin(reader.has_ended())),
            );
            tokio::select! {
                _ = asked.wait_for(|stop| *stop) => return Ok(()),
                name = &mut signal => {
                    tracing::info!(signal = name, "stopping");
                    return Ok(());
                }
                // Its result is asked for when all are joined.
                _ = ended => return Ok(()),
                _ = remind.tick() => {
                    for line in self.lines() {
                        tracing::error!(error = %line, "a lane stands still");
                    }
                }
            }
        }
    }
}

#[cfg(unix)]
async fn signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

#[cfg(not(unix))]
async fn signal() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "ctrl-c",
        Err(_) => std::future::pending().await,
    }
}

/// Sizes and times of a group's reader.
#[derive(Debug, Clone)]
pub(crate) struct RunnerSettings {
    pub(crate) queue_bytes: usize,
    pub(crate) drain: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) check_interval: Duration,
    pub(crate) dead_letter_topic: Option<String>,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            queue_bytes: 32 << 20,
            drain: Duration::from_secs(5),
            commit_interval: Duration::from_secs(1),
            check_interval: Duration::from_secs(3),
            dead_letter_topic: None,
        }
    }
}

/// A group, ready to start.
#[async_trait]
pub(crate) trait Runner: Send {
    async fn start(self: Box<Self>, process: &Process) -> Result<Running>;
}

/// A group at work.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    done: watch::Receiver<bool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
    /// What goes on beside it: the watch over its lanes, the forwarding of dead letters, the
    /// forgetting of what retired scopes had.
    helpers: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    async fn has_ended(&mut self) {
        let _ = self.done.wait_for(|done| *done).await;
    }

    async fn ended(mut self) -> Result<()> {
        self.helpers.iter().for_each(|helper| helper.abort());
        self.has_ended().await;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Kafka, "the reader's thread panicked: a bug in idem"))
        })
    }
}

/// Dropped without waiting, a group still ends its lanes and leaves.
impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.helpers.iter().for_each(|helper| helper.abort());
    }
}

pub(crate) struct GroupRunner<S: Store> {
    pub(crate) group: Arc<Group<S>>,
    pub(crate) kafka: Arc<Kafka>,
    pub(crate) lanes: LaneSettings,
    pub(crate) settings: RunnerSettings,
    /// Of a group that reads everything in each instance.
    pub(crate) heart: Option<Heart>,
    pub(crate) adopt: Vec<String>,
    pub(crate) retire: Vec<String>,
}

#[async_trait]
impl<S: Store> Runner for GroupRunner<S> {
    async fn start(self: Box<Self>, process: &Process) -> Result<Running> {
        let Self { group, kafka, lanes, settings, heart, adopt, retire } = *self;
        let named = |error: Error| error.context(format_args!("group {}", group.name));
        let (scopes, windows) = (group.scopes(), group.window_lengths());
        let store = group.store.check().await.map_err(named)?;
        let registration = Registration {
            group: &group.name,
            scopes: &scopes,
            windows: &windows,
            adopt: &adopt,
            retire: &retire,
            broadcast: heart.as_ref().map(|heart| heart.broadcast.as_str()),
        };
        retired::register(&group.store, &registration).await.map_err(named)?;

        let forwarder = match &settings.dead_letter_topic {
            Some(topic) => {
                let forwarder = Forwarder::connect(&kafka, topic, group.store.clone());
                Some(forwarder.await.map_err(named)?)
            }
            None => None,
        };

        let names: Vec<_> = scopes.iter().map(|(scope, _)| *scope).collect();
        let mark = Arc::from(mark::write(store, &names));
        let owner = Owner {
            id: Uuid::new_v4(),
            name: owner_name(&kafka),
            // Three heartbeats that did not come.
            dead_after: settings.check_interval * 3 + Duration::from_secs(1),
        };
        let keeper = Arc::new(Keeper {
            group: Arc::clone(&group),
            owner: owner.clone(),
            settings: lanes,
            stats: Arc::clone(&process.stats),
            care: Arc::clone(&process.care),
            budget: Arc::clone(&process.budget),
            runtime: tokio::runtime::Handle::current(),
            source: Mutex::default(),
            queue_bytes: settings.queue_bytes,
            bound: settings.drain,
            stopped: Arc::clone(&process.stopped),
            lanes: Mutex::default(),
        });
        let keeping: Arc<dyn Keeping> = Arc::clone(&keeper) as _;
        let reader = Reader::new(&kafka, keeping, mark, settings.commit_interval).map_err(named)?;
        let source = reader.source();
        let bootstrap = kafka.bootstrap().to_owned();
        let topics = group.topics();
        let subscribed = tokio::task::spawn_blocking(move || {
            reader.subscribe(&topics, &bootstrap).map(|named| (reader, named))
        });
        let subscribed = subscribed.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Kafka, "the Kafka client did not start").with_source(error))
        });
        let (reader, found) = subscribed.map_err(named)?;
        if let Some(topics) = found {
            // Before the source is set, and so before any lane starts.
            let _ = group.found.set(topics);
        }

        // From here on the consumer lives until the keeper is closed, which the thread does: nothing
        // is awaited in between, where this could be dropped.
        *keeper.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&source));

        let stop = Arc::new(AtomicBool::new(false));
        let (done, ended) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name(format!("idem-{}", group.name))
            .spawn({
                let stop = Arc::clone(&stop);
                move || {
                    let result = reader.run(&stop);
                    done.send_replace(true);
                    result
                }
            })
            .map_err(|error| {
                keeper.close();
                named(Error::new(ErrorKind::Config, "no thread for the reader").with_source(error))
            })?;
        let forward = forwarder.map(|forwarder| {
            let keeper = Arc::clone(&keeper);
            tokio::spawn(forwarder.run(move || keeper.seats(), settings.check_interval))
        });
        let heart =
            heart.map(|it| tokio::spawn(it.run(group.store.clone(), settings.check_interval)));
        let retired = tokio::spawn({
            let (store, group) = (group.store.clone(), Arc::clone(&group.name));
            async move { retired::forget(store, &group).await }
        });
        let seats = move || keeper.seats();
        let watch = tokio::spawn(watch_lanes(group, owner, source, seats, settings.check_interval));
        let helpers = [watch, retired].into_iter().chain(forward).chain(heart).collect();
        Ok(Running { stop, done: ended, thread: Some(thread), helpers })
    }
}

/// A name for people: the instance's, or the host's with the process id.
fn owner_name(kafka: &Kafka) -> String {
    kafka.instance_name().map_or_else(
        || {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}:{}", host.trim(), std::process::id())
        },
        str::to_owned,
    )
}
