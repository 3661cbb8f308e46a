//! The builder: what a program registers, and every mistake in it at once.

mod current;
mod facts;
#[cfg(test)]
mod packed_tests;
#[cfg(test)]
mod routing_tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broadcast::Broadcast;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Serves;
use crate::handler::Subscriber;
use crate::kafka::Kafka;
use crate::pipeline::policy::{
    DatabaseLost, LaneSettings, LayoutChanged, LogChanged, Stale, Start,
};
use crate::policy::{Markers, OnFailure, Policy, Retry, Window};
use crate::registry::SchemaRegistry;
use crate::routing::{Correlation, EventType, Rules, Unmatched};
use crate::run::{Idem, PACKED_MEMORY, RunnerSettings};
use crate::state::States;
use crate::store::Store;

use self::current::Closed;
pub use self::current::{Current, NoStore, With};

/// Registers handlers with Kafka and their stores.
///
/// Settings apply to the group that is being described; [`group`](Builder::group) begins one. The
/// handlers of a group share its lanes, their order and their transactions; handlers that must not
/// wait for each other belong in groups of their own. All handlers of a group use one store.
///
/// ```no_run
/// # async fn example<S, H>(store: S) -> idem_runtime::Result<()>
/// # where S: idem_runtime::Store + idem_runtime::Serves<H>, H: idem_runtime::Subscriber {
/// use idem_runtime::{Builder, Kafka};
///
/// let idem = Builder::new()
///     .kafka(Kafka::new("127.0.0.1:9092"))
///     .group("billing")
///     .store(store)
///     .handler::<H>()
///     .build()?;
/// let counts = idem.run().await?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is built and run"]
pub struct Builder<C = NoStore> {
    kafka: Option<Kafka>,
    states: States,
    registry: Option<SchemaRegistry>,
    packed_memory: usize,
    closed: Vec<Box<dyn Closed>>,
    mistakes: Vec<String>,
    open: Open,
    current: C,
}

/// The group that is being described.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open {
    name: Option<String>,
    lanes: LaneSettings,
    policy: Policy,
    runner: RunnerSettings,
    rules: Rules,
    broadcast: Option<Broadcast>,
    topics: Option<Vec<String>>,
    names: BTreeMap<String, String>,
    adopt: Vec<String>,
    retire: Vec<String>,
}

impl Open {
    /// The group as Kafka and the database know it.
    fn group_name(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        self.broadcast.as_ref().map_or_else(|| name.to_owned(), |it| it.group(name))
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A builder with nothing.
    pub fn new() -> Self {
        Self {
            kafka: None,
            states: States::default(),
            registry: None,
            packed_memory: PACKED_MEMORY,
            closed: Vec::new(),
            mistakes: Vec::new(),
            open: Open::default(),
            current: NoStore,
        }
    }
}

impl<C: Current> Builder<C> {
    /// How to reach Kafka. One for all groups.
    pub fn kafka(mut self, kafka: Kafka) -> Self {
        self.kafka = Some(kafka);
        self
    }

    /// Gives a value to every handler that has a `State<T>` parameter.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Where the schemas of events in Avro are. One for all groups.
    #[cfg(feature = "avro")]
    pub fn schema_registry(mut self, registry: SchemaRegistry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Begins a consumer group. Its name is what Kafka keeps offsets under and what scopes belong
    /// to: choose it once.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.close();
        self.open = Open { name: Some(name.into()), ..Open::default() };
        self
    }

    /// The store of the handlers that follow.
    pub fn store<S: Store>(mut self, store: S) -> Builder<With<S>> {
        if self.current.has_handlers() {
            self.close();
            self.open = Open::default();
        }
        let Self { kafka, states, registry, packed_memory, closed, mistakes, open, .. } = self;
        let current = With::new(store);
        Builder { kafka, states, registry, packed_memory, closed, mistakes, open, current }
    }

    /// Where the group starts in a topic it has no position in. Default: at the oldest event; but
    /// when the group committed offsets before it used idem, it must be said.
    pub fn start(mut self, start: Start) -> Self {
        self.open.lanes.policies.start = Some(start);
        self
    }

    /// What to do when the log in Kafka is not the one the position was taken from. Default: stop.
    pub fn log_changed(mut self, policy: LogChanged) -> Self {
        self.open.lanes.policies.log_changed = policy;
        self
    }

    /// What to do when the database lost a position that Kafka says it had. Default: refuse.
    pub fn database_lost(mut self, policy: DatabaseLost) -> Self {
        self.open.lanes.policies.database_lost = policy;
        self
    }

    /// Takes a scope over from the group it belonged to, after a group was renamed. The old group's
    /// consumers must be gone. Refused while there are packed markers of it, which are the old group's
    /// lanes'.
    pub fn adopt_scope(mut self, scope: impl Into<String>) -> Self {
        self.open.adopt.push(scope.into());
        self
    }

    /// Says that the handler of this scope is gone for good. The group does not ask about it any more,
    /// and an hour later deletes what it had packed; its rows of markers and its dead letters stay. Until
    /// then the handler can be registered again, and has what it had; after that it begins as a new one,
    /// which is said in the log. An instance that still runs the handler after that hour stops its lanes
    /// with an error.
    pub fn retire_scope(mut self, scope: impl Into<String>) -> Self {
        self.open.retire.push(scope.into());
        self
    }

    /// Names the topics the group reads, to have them checked: each must have a handler, and each
    /// handler's topic must be among them.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.open.topics = Some(topics.into_iter().map(Into::into).collect());
        self
    }

    /// Reads the topic that the handlers call `handlers_name` under another name: for environments
    /// that share a broker and prefix their topics. The database keeps the real name. A pattern, which
    /// begins with `^`, is replaced as a whole by another.
    pub fn topic_name(
        mut self,
        handlers_name: impl Into<String>,
        real_name: impl Into<String>,
    ) -> Self {
        self.open.names.insert(handlers_name.into(), real_name.into());
        self
    }

    /// Where the type of an event is, for handlers with `types` whose attribute does not say.
    /// Default: the header `event-type`.
    pub fn event_type(mut self, event_type: EventType) -> Self {
        self.open.rules.event_type = event_type;
        self
    }

    /// What becomes of an event that no handler of the group wants, because each has `types` and none
    /// of them is the event's. Default: it is counted and named in the log, and passes.
    pub fn unmatched(mut self, unmatched: Unmatched) -> Self {
        self.open.rules.unmatched = unmatched;
        self
    }

    /// The headers with an event's correlation and causation ids. They are in the log lines of what
    /// became of the event, in its marker, in the span in which its handler runs (a batch handler has
    /// none: its call is for many events), and the handler's `Context` has them. Default:
    /// `correlation-id` and `causation-id`.
    pub fn correlation(mut self, correlation: Correlation) -> Self {
        self.open.rules.correlation = Arc::new(correlation);
        self
    }

    /// Makes this instance read every event of the group's topics, in place of sharing them with the
    /// group's other instances. In Kafka the group is `GROUP.INSTANCE` then, and scopes are
    /// `SCOPE@INSTANCE` ([`Replay::instance`](crate::Replay::instance) finds its dead letters).
    ///
    /// It must be said where an instance that was never here starts: at [`Start::Latest`], such as for
    /// caches that are empty then, or at [`Start::Earliest`]. So does one that comes back after it was
    /// forgotten, unless [`database_lost`](Self::database_lost) says otherwise.
    pub fn broadcast(mut self, broadcast: Broadcast) -> Self {
        self.open.broadcast = Some(broadcast);
        self
    }

    /// The most events in one transaction. A batch is what is waiting, so that a lone event is not
    /// delayed. Default: 1000.
    pub fn max_batch(mut self, events: usize) -> Self {
        if events == 0 {
            self.mistakes.push("`.max_batch(0)` leaves nothing to work: use 1 or more".into());
        }
        self.open.lanes.max_batch = events.max(1);
        self
    }

    /// How long a batch that is not full waits for more events. Default: not at all, a batch is
    /// what is waiting.
    pub fn linger(mut self, time: Duration) -> Self {
        self.open.lanes.linger = time;
        self
    }

    /// How a failed event is tried again, by handlers whose attribute does not say. Default:
    /// [`Retry::new`].
    pub fn retry(mut self, retry: Retry) -> Self {
        self.open.policy.retry = Some(retry);
        self
    }

    /// What becomes of an event that failed for good, in handlers whose attribute does not say.
    /// Default: a dead letter.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.open.policy.on_failure = Some(on_failure);
        self
    }

    /// How long one call of a handler may take, of handlers whose attribute does not say. Default:
    /// as long as it takes.
    pub fn handler_timeout(mut self, time: Duration) -> Self {
        self.open.policy.timeout = Some(time);
        self
    }

    /// How markers are kept, of handlers whose attribute does not say. Default: [`Markers::Rows`].
    ///
    /// A handler with `key = offset` has no markers, and stays as it is. One that compares payloads,
    /// stores its results or has effects outside of the database needs rows, and has to say so. A handler
    /// whose markers are packed by this word cannot run without Kafka either, which the compiler does not
    /// know then: `process` fails with [`ErrorKind::Scope`].
    pub fn markers(mut self, markers: Markers) -> Self {
        self.open.policy.markers = Some(markers);
        self
    }

    /// How long packed markers are kept, of handlers whose attribute does not say. Default:
    /// [`Window::DEFAULT`], seven days, however many events that are.
    pub fn window(mut self, window: Window) -> Self {
        self.open.policy.window = Some(window);
        self
    }

    /// What to do when a topic has another number of partitions than when packed markers were written,
    /// or a lane another number of slices. Default: stop the lane.
    pub fn layout_changed(mut self, policy: LayoutChanged) -> Self {
        self.open.lanes.policies.layout_changed = policy;
        self
    }

    /// What becomes of an event that Kafka delivers after its packed marker may have been forgotten; and
    /// that it may be forgotten before Kafka has deleted the event. Default: there is no such event,
    /// because a marker outlives its window for as long as the topic still has what it was written for.
    pub fn stale(mut self, policy: Stale) -> Self {
        self.open.lanes.policies.stale = Some(policy);
        self
    }

    /// How many bytes of memory the windows of packed markers have, all lanes of all groups of this
    /// process together. Where they are used up, the oldest markers are looked for in the database, so
    /// that fewer bytes cost time and not the guarantee. One for all groups; at least 1 MiB. Default:
    /// 256 MiB.
    ///
    /// Plan about 25 bytes for each marker that is to be in memory, and 2 bytes for each of the others, for
    /// filters that tell most new keys without the database: 2 GB for a billion. With 1 byte one new key of
    /// 40 is asked for in vain in each run (a run has up to 20 million markers), with half a byte one of
    /// three; with less every new key is asked for in some runs. Then a warning is logged that says how many
    /// bytes are needed.
    pub fn packed_memory(mut self, bytes: usize) -> Self {
        const LEAST: usize = 1 << 20;
        if bytes < LEAST {
            self.mistakes.push(format!(
                "`.packed_memory({bytes})` is in bytes, and has to be 1 MiB at least: write \
                 `.packed_memory(256 << 20)` for 256 MiB"
            ));
        }
        self.packed_memory = bytes;
        self
    }

    /// How many processes an event may kill before it is given up on, as its handlers' `on_failure`
    /// says. Default: 3. Only deaths with the event alone in flight are counted, which is how a lane
    /// works after two owners have died in a row.
    pub fn quarantine_after(mut self, deaths: u32) -> Self {
        self.open.lanes.quarantine_after = deaths.max(1);
        self
    }

    /// Also sends dead letters of this group to a Kafka topic, which must exist: at least once, with
    /// the event's own key, payload and headers, and headers that say where it came from and why it
    /// was given up on (`idem-dead-letter-id`, which tells a repetition, `idem-topic`,
    /// `idem-partition`, `idem-offset`, `idem-scope`, `idem-key`, `idem-class`, `idem-error`, ..).
    /// What is in the database already is sent, too. Without it dead letters are in the database
    /// only.
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.open.runner.dead_letter_topic = Some(topic.into());
        self
    }

    /// How many bytes of waiting events the group keeps in memory, shared by all its partitions; each
    /// has 256 KiB at least. Default: 32 MiB. The client's own buffers (16 MiB unless set) come on top.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.open.runner.queue_bytes = bytes;
        self
    }

    /// How long a running transaction may take when its partition is revoked, or at shutdown;
    /// then it is dropped. Default: 5 s. It must be well below `max.poll.interval.ms`, because the
    /// group waits meanwhile.
    pub fn drain_timeout(mut self, time: Duration) -> Self {
        self.open.runner.drain = time;
        self
    }

    /// How often offsets are committed to Kafka. They follow the database and only save the next
    /// owner a look. Default: 1 s.
    pub fn commit_interval(mut self, time: Duration) -> Self {
        self.open.runner.commit_interval = time.max(Duration::from_millis(10));
        self
    }

    /// How often every lane is compared with the database, which is how an idle lane notices that
    /// the database went back. Default: 3 s.
    pub fn check_interval(mut self, time: Duration) -> Self {
        self.open.runner.check_interval = time.max(Duration::from_millis(10));
        self
    }

    /// Checks everything that can be checked without Kafka and the database.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with all mistakes, one a line, each with its fix.
    pub fn build(mut self) -> Result<Idem> {
        self.close();
        let mut mistakes = self.mistakes;
        let kafka = self.kafka.unwrap_or_else(|| {
            mistakes.push("no Kafka settings: add `.kafka(Kafka::new(\"host:9092\"))`".into());
            Kafka::new("none:0")
        });
        mistakes.extend(kafka.mistakes());
        mistakes.extend(self.registry.iter().flat_map(SchemaRegistry::mistakes));
        if self.closed.is_empty() {
            mistakes.push(
                "no handler: add `.group(\"..\").store(..).handler::<your_function>()`".into(),
            );
        }
        let mut scopes = BTreeMap::<String, String>::new();
        let mut groups = BTreeMap::<String, ()>::new();
        for group in &self.closed {
            let facts = group.facts();
            if groups.insert(facts.name.clone(), ()).is_some() {
                mistakes.push(format!(
                    "group `{}` is described twice: put its handlers together",
                    facts.name
                ));
            }
            mistakes.extend(facts.mistakes(&self.states, self.registry.is_some(), &mut scopes));
        }
        if !mistakes.is_empty() {
            return Err(Error::new(ErrorKind::Config, mistakes.join("\n")));
        }
        let kafka = Arc::new(kafka);
        let states = Arc::new(self.states);
        let registry = self.registry.as_ref();
        let groups = self.closed.into_iter();
        let runners = groups.map(|group| group.runner(&kafka, &states, registry)).collect();
        Ok(Idem::new(runners, self.packed_memory))
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        match (self.current.has_handlers(), &open.name) {
            (true, Some(_)) => self.closed.extend(self.current.close(open)),
            (true, None) => {
                let handlers = self.current.scopes().join("`, `");
                let _ = self.current.close(open);
                self.mistakes.push(format!(
                    "the handlers `{handlers}` have no group: call `.group(\"..\")` before them; \
                     handlers of a second store need a group of their own"
                ));
            }
            (false, Some(name)) => {
                self.mistakes.push(format!(
                    "group `{name}` has no handler: add `.handler::<..>()`, or remove the group"
                ));
            }
            (false, None) => {}
        }
    }
}

impl<S: Store> Builder<With<S>> {
    /// Registers a handler in the current group.
    pub fn handler<H: Subscriber>(mut self) -> Self
    where
        S: Serves<H>,
    {
        <S as Serves<H>>::register(self.current.handlers());
        self
    }

    /// Registers a handler with a policy that comes before its attribute, such as one read from the
    /// environment.
    pub fn handler_with<H: Subscriber>(mut self, policy: Policy) -> Self
    where
        S: Serves<H>,
    {
        let handlers = self.current.handlers();
        <S as Serves<H>>::register(handlers);
        if let Some(handler) = handlers.0.last_mut() {
            handler.policy = policy.or(handler.policy);
        }
        self
    }
}
