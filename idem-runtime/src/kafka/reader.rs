//! The reader: the thread that polls the consumer, hands events to lanes in chunks, and commits
//! offsets behind them.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::kafka::blocks::{Blocks, copied};
use crate::kafka::context::Callbacks;
use crate::kafka::fetched::{Consumer, Fetch};
use crate::kafka::flow::{control, resume_now};
use crate::kafka::keeper::Keeping;
use crate::kafka::lists::{commit_list, one};
use crate::kafka::settings::{Kafka, created, kafka_error};
use crate::kafka::source::{KafkaSource, named_by, partitions_of};
use crate::lane::{LaneId, Position};
use crate::pipeline::queue::Pressure;
use crate::pipeline::source::{Seat, Source};
use crate::routing::{Topic, subscription};

/// How long a poll waits when there is nothing: also how late a paused partition is resumed.
const POLL: Duration = Duration::from_millis(10);
/// How long the reader rests when every lane has enough to do.
const NAP: Duration = Duration::from_millis(2);
/// The most messages that are moved before they are handed over.
const CHUNK: usize = 2_000;
/// How many of them are taken at once.
const PORTION: usize = 500;
/// The most bytes of them.
const CHUNK_BYTES: usize = 4 << 20;
/// How often partitions are led to where messages are taken from, besides when their lanes seek.
const GATHER: Duration = Duration::from_secs(1);
/// How often the same trouble is logged.
const QUIET: Duration = Duration::from_secs(30);
/// How long the end waits for calls that are still under way.
const LAST_CALLS: Duration = Duration::from_secs(8);

pub(crate) struct Reader {
    consumer: Arc<Consumer>,
    keeper: Arc<dyn Keeping>,
    commit_interval: Duration,
    sent: HashMap<LaneId, Position>,
    pressed: Vec<Arc<Seat>>,
    told: HashMap<String, Instant>,
    blocks: Blocks,
}

impl Reader {
    /// A consumer of the group, not yet subscribed.
    pub(crate) fn new(
        kafka: &Kafka,
        keeper: Arc<dyn Keeping>,
        mark: Arc<str>,
        commit_interval: Duration,
    ) -> Result<Self> {
        let callbacks = Callbacks {
            keeper: Arc::clone(&keeper),
            mark,
            control: Mutex::new(()),
            no_topic_ids: Mutex::default(),
            rounds: watch::Sender::new(0),
            debug: kafka.debugs(),
            commit_failed: AtomicBool::new(false),
        };
        let config = kafka.consumer(keeper.group());
        let consumer = Consumer::new(created(config.create_with_context(callbacks))?);
        let no_queue =
            || Error::new(ErrorKind::Kafka, "the Kafka client has no memory for a queue");
        Ok(Self {
            consumer: Arc::new(consumer.ok_or_else(no_queue)?),
            keeper,
            commit_interval,
            sent: HashMap::new(),
            pressed: Vec::new(),
            told: HashMap::new(),
            blocks: Blocks::default(),
        })
    }

    /// The consumer as a source for lanes.
    pub(crate) fn source(&self) -> Arc<dyn Source> {
        Arc::new(KafkaSource { consumer: Arc::clone(&self.consumer) })
    }

    /// Checks that the broker answers and has the topics that are named; then subscribes. Answers, if
    /// there are patterns, which topics they name now.
    pub(crate) fn subscribe(
        &self,
        topics: &[Topic],
        bootstrap: &str,
    ) -> Result<Option<BTreeSet<String>>> {
        let silent = |error: Error| match error.kind() {
            ErrorKind::Kafka => error.context(format_args!(
                "no answer from Kafka at {bootstrap}; check the address, the port and the security \
                 settings"
            )),
            _ => error,
        };
        for topic in topics.iter().filter(|topic| !topic.is_pattern()) {
            partitions_of(&self.consumer, &topic.text).map_err(silent)?;
        }
        let named = match topics.iter().any(Topic::is_pattern) {
            true => Some(named_by(&self.consumer, topics).map_err(silent)?),
            false => None,
        };
        let entries = subscription(topics);
        let names: Vec<_> = entries.iter().map(String::as_str).collect();
        self.consumer
            .subscribe(&names)
            .map_err(|error| kafka_error("the topics cannot be subscribed", error))?;
        Ok(named)
    }

    /// Reads until told to stop; then ends the lanes, commits and leaves the group.
    ///
    /// # Errors
    /// When the client cannot go on, such as after another instance took its name.
    pub(crate) fn run(mut self, stop: &AtomicBool) -> Result<()> {
        let mut next_commit = Instant::now() + self.commit_interval;
        let mut next_gather = Instant::now() + GATHER;
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut result = Ok(());
        while !stop.load(SeqCst) {
            let most = if self.is_fed() {
                std::thread::sleep(NAP);
                0
            } else {
                CHUNK
            };
            if let Err(error) = self.fill(&mut chunk, most) {
                result = Err(error);
                break;
            }
            self.deliver(&mut chunk);
            self.consumer.context().rounds.send_modify(|rounds| *rounds += 1);
            self.relieve();
            if Instant::now() >= next_commit {
                self.commit(CommitMode::Async);
                next_commit = Instant::now() + self.commit_interval;
            }
            if Instant::now() >= next_gather {
                self.gather();
                next_gather = Instant::now() + GATHER;
            }
        }
        self.leave();
        result
    }

    /// Whether every lane has enough to do. To read on would only fill the queues, and end in pausing
    /// partitions, after which the client has to fetch again what it had already fetched. As soon as
    /// one lane has not enough, all is read: its events stand behind those of others.
    fn is_fed(&self) -> bool {
        let seats = self.keeper.seats();
        let mut armed = seats.iter().filter(|seat| seat.queue.next().is_some()).peekable();
        armed.peek().is_some() && armed.all(|seat| seat.queue.pressure() != Pressure::Low)
    }

    /// Moves what is there; waits a moment when nothing is. Serves the client's callbacks.
    fn fill(&mut self, chunk: &mut Vec<Event>, most: usize) -> Result<()> {
        let mut troubles = Vec::new();
        self.serve(&mut troubles);
        let mut wait = POLL;
        let mut bytes = 0;
        while chunk.len() < most && bytes < CHUNK_BYTES {
            let fetched = self.consumer.fetch(PORTION.min(most - chunk.len()), wait);
            if fetched.is_empty() {
                break;
            }
            wait = Duration::ZERO;
            for same in fetched.chunk_by(Fetch::shares_topic) {
                let topic: Arc<str> = Arc::from(same[0].topic());
                for fetch in same {
                    match fetch.error() {
                        Some(error) => troubles.push(error),
                        None => {
                            let event = event(fetch, Arc::clone(&topic), &mut self.blocks);
                            bytes += event.weight();
                            chunk.push(event);
                        }
                    }
                }
            }
        }
        let seats = self.keeper.seats();
        if self.blocks.len() > seats.len() {
            self.blocks.keep(|topic, partition| {
                seats.iter().any(|it| it.id.partition == partition && *it.id.topic == *topic)
            });
        }
        troubles.into_iter().try_for_each(|error| self.trouble(error))
    }

    /// Serves what is no message: rebalances, answers to commits, errors.
    fn serve(&self, troubles: &mut Vec<KafkaError>) {
        for _ in 0..=self.consumer.waiting() {
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Err(error)) => troubles.push(error),
                // From before its partition was led into the other queue. No lane accepts anything
                // then; should one do, it starts again, where it stands.
                Some(Ok(message)) => {
                    let seat = self.keeper.seat(message.topic(), message.partition());
                    if let Some(seat) = seat.filter(|seat| seat.queue.next().is_some()) {
                        tracing::debug!(lane = %seat.id, "a message came beside the others");
                        seat.shut();
                    }
                }
            }
        }
    }

    /// Hands the chunk over, a run of one partition at a time.
    fn deliver(&mut self, chunk: &mut Vec<Event>) {
        while let Some(first) = chunk.first() {
            let (topic, partition) = (Arc::clone(&first.topic), first.partition);
            let run = chunk
                .iter()
                .take_while(|event| event.partition == partition && *event.topic == *topic)
                .count();
            let Some(seat) = self.keeper.seat(&topic, partition) else {
                chunk.drain(..run);
                continue;
            };
            if seat.queue.push(chunk.drain(..run)) == Pressure::High {
                self.press(seat);
            }
        }
    }

    /// Leads partitions again to where messages are taken from: one that was given up and assigned again
    /// without its lane (when the fetcher of another one had to be started again) is led nowhere.
    fn gather(&self) {
        for seat in self.keeper.seats().iter().filter(|seat| seat.queue.next().is_some()) {
            self.consumer.gather(&seat.id.topic, seat.id.partition);
        }
    }

    /// Pauses a partition whose queue is full. It waits for its turn: reading on meanwhile would
    /// fill the memory.
    fn press(&mut self, seat: Arc<Seat>) {
        let _control = control(&self.consumer);
        if seat.queue.next().is_none() {
            return;
        }
        match self.consumer.pause(&one(&seat.id)) {
            Ok(()) => {
                // A lane that was started again meanwhile was resumed by its start.
                self.pressed.retain(|it| !Arc::ptr_eq(it, &seat));
                self.pressed.push(seat);
            }
            Err(error) => tracing::debug!(%error, "the partition could not be paused"),
        }
    }

    /// Resumes partitions whose queue has room again.
    fn relieve(&mut self) {
        if self.pressed.is_empty() {
            return;
        }
        let _control = match self.consumer.context().control.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let consumer = &self.consumer;
        self.pressed.retain(|seat| {
            // A lane that is not started is resumed by its start.
            if seat.is_vacated() || seat.queue.next().is_none() {
                return false;
            }
            if seat.queue.pressure() != Pressure::Low {
                return true;
            }
            resume_now(consumer, seat).is_err()
        });
    }

    /// Commits what lanes resolved since the last time.
    fn commit(&mut self, mode: CommitMode) {
        if self.consumer.context().commit_failed.swap(false, SeqCst) {
            self.sent.clear();
        }
        let resolved: Vec<_> = self
            .keeper
            .seats()
            .iter()
            .filter_map(|seat| seat.resolved().map(|position| (seat.id.clone(), position)))
            .filter(|(id, position)| self.sent.get(id) != Some(position))
            .collect();
        if resolved.is_empty() {
            return;
        }
        let list = commit_list(&resolved, &self.consumer.context().mark);
        match self.consumer.commit(&list, mode) {
            Ok(()) => self.sent.extend(resolved),
            Err(error) => tracing::debug!(%error, "offsets were not committed, trying again"),
        }
    }

    /// Ends the lanes, commits what they did, and leaves the group.
    fn leave(self) {
        let resolved = self.keeper.revoke(None);
        self.keeper.close();
        if !resolved.is_empty() {
            let list = commit_list(&resolved, &self.consumer.context().mark);
            if let Err(error) = self.consumer.commit(&list, CommitMode::Sync) {
                tracing::debug!(%error, "the last offsets were not committed");
            }
        }
        // The client leaves when its last user is gone: calls that are under way end first.
        let deadline = Instant::now() + LAST_CALLS;
        while Arc::strong_count(&self.consumer) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.consumer);
    }

    /// An error of the client: most pass by themselves, some mean that a lane should look.
    fn trouble(&mut self, error: KafkaError) -> Result<()> {
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            return Err(Error::new(
                ErrorKind::Kafka,
                match code {
                    RDKafkaErrorCode::FencedInstanceId => {
                        "another process runs under the same instance name; this one ends. Give \
                         each instance a name of its own with `.instance(..)`"
                            .to_owned()
                    }
                    _ => format!("the Kafka client cannot go on: {reason}"),
                },
            )
            .with_source(error));
        }
        // The client does not say which partition: each lane looks for itself.
        match error.rdkafka_error_code() {
            // The fetcher of one of them has stopped for good, and its log may look as it should
            // again by the time that somebody looks: each starts again where it stands.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation) => {
                self.keeper.seats().iter().for_each(|seat| seat.doubt());
            }
            Some(
                RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => self.keeper.seats().iter().for_each(|seat| seat.look()),
            _ => {}
        }
        let text = error.to_string();
        let now = Instant::now();
        if self.told.get(&text).is_none_or(|last| now - *last >= QUIET) {
            tracing::warn!(error = %text, "trouble with Kafka; trying again");
            self.told.insert(text, now);
        }
        Ok(())
    }
}

/// Copies a message out of the client's memory.
fn event(message: &Fetch<'_>, topic: Arc<str>, blocks: &mut Blocks) -> Event {
    let block = blocks.of(&topic, message.partition());
    let mut event = Event::new(topic, message.partition(), message.offset(), Bytes::new());
    event.leader_epoch = message.leader_epoch();
    if let Some((time, kind)) = message.timestamp() {
        event.timestamp = Some(time);
        event.timestamp_kind = Some(kind);
    }
    event.message_key = message.key().map(|key| copied(block, key));
    event.payload = message.payload().map(|payload| copied(block, payload));
    event.headers = message.headers();
    event
}

#[cfg(test)]
mod tests;
