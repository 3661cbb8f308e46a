//! A source in memory: a topic with logs that can have holes, lose their head or tail and be created
//! again, and the group's commits with their metadata.

use std::sync::{Arc, Mutex, MutexGuard};

use uuid::Uuid;

use crate::event::Event;
use crate::lane::LogIdentity;
use crate::pipeline::mark;
use crate::pipeline::source::{Commit, Seat};

pub(super) const TOPIC: &str = "orders";

#[derive(Clone, Default)]
pub(super) struct Broker(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) logs: Vec<Log>,
    pub(super) identity: LogIdentity,
    seats: Vec<(Arc<Seat>, bool)>,
    pub(super) failures: Vec<Call>,
    pub(super) marks: Vec<(i32, i64)>,
}

#[derive(Default)]
pub(super) struct Log {
    events: Vec<Event>,
    pub(super) low: i64,
    pub(super) high: i64,
    pub(super) commit: Option<Commit>,
}

/// What a source can be made to fail at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Survey,
    Start,
    Mark,
    /// Whatever is called panics.
    Panic,
}

impl Broker {
    pub(super) fn new(partitions: usize) -> Self {
        let broker = Self::default();
        broker.state().identity = identity("T1");
        broker.add_partitions(partitions);
        broker
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn add_partitions(&self, count: usize) {
        self.state().logs.extend(std::iter::repeat_with(Log::default).take(count));
    }

    /// Appends events with these ids; answers the log's end.
    pub(super) fn produce<I: AsRef<str>>(
        &self,
        partition: i32,
        ids: impl IntoIterator<Item = I>,
    ) -> i64 {
        let payload = |id: &str| serde_json::json!({ "id": id }).to_string();
        self.produce_raw(partition, ids.into_iter().map(|id| payload(id.as_ref())))
    }

    /// Appends an event for each message key and id; answers the log's end.
    pub(super) fn produce_keyed<K: AsRef<str>, I: AsRef<str>>(
        &self,
        partition: i32,
        events: impl IntoIterator<Item = (K, I)>,
    ) -> i64 {
        let event = |(key, id): (K, I)| {
            let payload = serde_json::json!({ "id": id.as_ref() }).to_string();
            (Some(key.as_ref().to_owned()), payload)
        };
        self.append(partition, events.into_iter().map(event))
    }

    pub(super) fn produce_raw(
        &self,
        partition: i32,
        payloads: impl IntoIterator<Item = String>,
    ) -> i64 {
        self.append(partition, payloads.into_iter().map(|payload| (None, payload)))
    }

    /// Appends an event for each type, in the header `event-type`, and id; answers the log's end.
    pub(super) fn produce_typed<T: AsRef<str>, I: AsRef<str>>(
        &self,
        partition: i32,
        events: impl IntoIterator<Item = (T, I)>,
    ) -> i64 {
        let event = |(event_type, id): (T, I)| {
            let payload = serde_json::json!({ "id": id.as_ref() }).to_string();
            let mut event = of_type(event_type.as_ref(), payload);
            event.message_key = Some(id.as_ref().to_owned().into());
            event
        };
        self.append_events(partition, events.into_iter().map(event))
    }

    /// Appends an event of this type; answers the log's end.
    pub(super) fn produce_typed_raw(
        &self,
        partition: i32,
        event_type: &str,
        payload: String,
    ) -> i64 {
        self.append_events(partition, [of_type(event_type, payload)])
    }

    /// Appends message keys and payloads.
    pub(super) fn append(
        &self,
        partition: i32,
        events: impl IntoIterator<Item = (Option<String>, String)>,
    ) -> i64 {
        let event = |(key, payload): (Option<String>, String)| {
            let mut event = Event::new(TOPIC.into(), 0, 0, payload);
            event.message_key = key.map(bytes::Bytes::from);
            event
        };
        self.append_events(partition, events.into_iter().map(event))
    }

    /// Appends these events, at places of their own; answers the log's end.
    pub(super) fn append_events(
        &self,
        partition: i32,
        events: impl IntoIterator<Item = Event>,
    ) -> i64 {
        let mut state = self.state();
        let log = state.log(partition);
        for event in events {
            log.events.push(Event { partition, offset: log.high, ..event });
            log.high += 1;
        }
        let high = log.high;
        state.deliver();
        high
    }

    /// Offsets that no consumer sees: control records, or what compaction removed.
    pub(super) fn hole(&self, partition: i32, offsets: i64) {
        self.state().log(partition).high += offsets;
    }

    /// Retention deletes what is below.
    pub(super) fn trim(&self, partition: i32, low: i64) {
        let mut state = self.state();
        let log = state.log(partition);
        log.low = low;
        log.events.retain(|event| event.offset >= low);
    }

    /// The log loses its tail.
    pub(super) fn truncate(&self, partition: i32, high: i64) {
        let mut state = self.state();
        let log = state.log(partition);
        log.high = high;
        log.events.retain(|event| event.offset < high);
    }

    /// The topic is deleted and created again, empty. The group's commits stay.
    pub(super) fn recreate(&self) {
        let mut state = self.state();
        state.identity = identity("T2");
        for log in &mut state.logs {
            *log = Log { commit: log.commit.take(), ..Log::default() };
        }
    }

    /// The same, with so many partitions.
    pub(super) fn recreate_with(&self, partitions: usize) {
        self.recreate();
        self.state().logs.truncate(partitions);
    }

    /// The broker tells the topic's id, or does not.
    pub(super) fn tells_identity(&self, tells: bool) {
        self.state().identity = if tells { identity("T1") } else { LogIdentity::default() };
    }

    /// An operator resets the group with Kafka's own tools.
    pub(super) fn reset(&self, partition: i32, offset: i64) {
        let commit = Commit { offset, metadata: String::new() };
        self.state().log(partition).commit = Some(commit);
    }

    /// Commits what the lane resolved, as the reader does.
    pub(super) fn commit_resolved(&self, seat: &Seat) {
        if let Some(position) = seat.resolved() {
            self.state().log(seat.id.partition).commit = Some(ours(position.offset));
        }
    }

    pub(super) fn commit(&self, partition: i32) -> Option<Commit> {
        self.state().log(partition).commit.clone()
    }

    /// The commits that lanes asked to be marked.
    pub(super) fn marks(&self) -> Vec<(i32, i64)> {
        self.state().marks.clone()
    }

    /// What is in the log: offset and payload.
    pub(super) fn events(&self, partition: i32) -> Vec<Event> {
        self.state().log(partition).events.clone()
    }

    pub(super) fn high(&self, partition: i32) -> i64 {
        self.state().log(partition).high
    }

    pub(super) fn partitions(&self) -> std::ops::Range<i32> {
        0..i32::try_from(self.state().logs.len()).unwrap()
    }

    /// The next call of this kind fails as when the broker is away.
    pub(super) fn fail(&self, call: Call) {
        self.state().failures.push(call);
    }

    /// A seat that events may flow to, once its lane starts.
    pub(super) fn assign(&self, seat: &Arc<Seat>) {
        self.state().seats.push((Arc::clone(seat), false));
    }

    pub(super) fn revoke(&self, seat: &Seat) {
        seat.vacate();
        self.state().seats.retain(|(it, _)| !std::ptr::eq(&**it, seat));
    }
}

impl State {
    pub(super) fn log(&mut self, partition: i32) -> &mut Log {
        &mut self.logs[usize::try_from(partition).unwrap()]
    }

    /// Hands over what is there; the queues drop what they have.
    pub(super) fn deliver(&self) {
        for (seat, _) in self.seats.iter().filter(|(_, flows)| *flows) {
            let log = &self.logs[usize::try_from(seat.id.partition).unwrap()];
            let next = seat.queue.next().map_or(i64::MAX, |it| it.offset);
            let from = log.events.partition_point(|event| event.offset < next);
            seat.queue.push(log.events[from..].iter().cloned());
        }
    }

    pub(super) fn flow(&mut self, seat: &Seat, flows: bool) {
        if let Some(entry) = self.seats.iter_mut().find(|(it, _)| std::ptr::eq(&**it, seat)) {
            entry.1 = flows;
        }
    }
}

pub(super) fn ours(offset: i64) -> Commit {
    Commit { offset, metadata: mark::write(Uuid::nil(), &["bill", "audit", "count", "bulk"]) }
}

fn of_type(event_type: &str, payload: String) -> Event {
    let mut event = Event::new(TOPIC.into(), 0, 0, payload);
    event.headers = std::iter::once(("event-type", Some(event_type.to_owned()))).collect();
    event
}

fn identity(topic_id: &str) -> LogIdentity {
    LogIdentity { cluster_id: Some("C".into()), topic_id: Some(topic_id.into()) }
}
