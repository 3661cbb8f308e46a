//! What the hand-written contenders share: a consumer, and a thread that hands its messages to a
//! task for each partition, in chunks.
//!
//! It is what a careful team writes, without what a team forgets: no rebalance is handled, because
//! none happens here.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Result;
use crate::data::{Order, PARTITIONS};
use crate::gauge::Gauge;
use crate::task::Task;

/// How many chunks wait for a partition's task before the reader waits for it.
const DEPTH: usize = 16;
/// How long a poll waits; the end of a run is noticed that late.
const POLL: Duration = Duration::from_millis(100);

/// How a consumer by hand is set up: offsets are committed by the client, from what is stored, which
/// is what was handled.
pub(crate) fn settings(task: &Task) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &task.bootstrap)
        .set("group.id", &task.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        // The default is a second, for which a consumer that drained its queue stands still.
        .set("fetch.queue.backoff.ms", "10");
    config
}

/// The event in a message.
pub(crate) fn decode(message: &BorrowedMessage<'_>) -> Result<Order> {
    Ok(serde_json::from_slice(message.payload().unwrap_or_default())?)
}

/// Events of one partition with their offsets, in order.
pub(crate) type Chunk = Vec<(i64, Order)>;

/// A partition's events.
pub(crate) struct Partition {
    pub(crate) number: i32,
    pub(crate) chunks: Receiver<Chunk>,
    pub(crate) offsets: Offsets,
}

/// Where handled offsets are noted.
#[derive(Clone)]
pub(crate) struct Offsets {
    consumer: Arc<BaseConsumer>,
    topic: Arc<str>,
}

impl Offsets {
    /// Notes that everything up to this offset is handled.
    ///
    /// # Errors
    /// When the partition is not ours any more.
    pub(crate) fn store(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.consumer.store_offset(&self.topic, partition, offset)
    }
}

/// The thread that reads.
pub(crate) struct Reader(JoinHandle<Result<()>>);

impl Reader {
    /// Waits until it has ended, which it does once all events are handled. With it goes the consumer,
    /// which leaves its group.
    ///
    /// # Errors
    /// When it could not read.
    pub(crate) async fn ended(self) -> Result<()> {
        tokio::task::spawn_blocking(|| self.0.join().map_err(|_| "the reader panicked")).await??
    }
}

/// Starts reading, in chunks of at most `most` events.
///
/// # Errors
/// When the consumer cannot be made.
pub(crate) fn read(
    task: &Task,
    gauge: &Arc<Gauge>,
    most: usize,
) -> Result<(Reader, Vec<Partition>)> {
    let consumer: Arc<BaseConsumer> = Arc::new(settings(task).create()?);
    consumer.subscribe(&[&task.topic])?;
    let offsets = Offsets { consumer: Arc::clone(&consumer), topic: task.topic.as_str().into() };
    let mut lanes = Vec::new();
    let mut partitions = Vec::new();
    for number in 0..PARTITIONS {
        let (sender, chunks) = channel(DEPTH);
        lanes.push(Lane { chunk: Vec::new(), sender });
        partitions.push(Partition { number, chunks, offsets: offsets.clone() });
    }
    let gauge = Arc::clone(gauge);
    // When it fails, the tasks find their channels closed.
    let thread = std::thread::spawn(move || poll(&consumer, &gauge, lanes, most));
    Ok((Reader(thread), partitions))
}

struct Lane {
    chunk: Chunk,
    sender: Sender<Chunk>,
}

impl Lane {
    fn send(&mut self) -> Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() { Ok(()) } else { Ok(self.sender.blocking_send(chunk)?) }
    }
}

/// Gathers what is there; hands over what is full, and everything once there is nothing more.
fn poll(consumer: &BaseConsumer, gauge: &Gauge, mut lanes: Vec<Lane>, most: usize) -> Result<()> {
    let mut wait = POLL;
    while !gauge.is_done() {
        match consumer.poll(wait) {
            Some(message) => {
                let message = message?;
                let lane = &mut lanes[usize::try_from(message.partition())?];
                lane.chunk.push((message.offset(), decode(&message)?));
                if lane.chunk.len() == most {
                    lane.send()?;
                }
                wait = Duration::ZERO;
            }
            None => {
                lanes.iter_mut().try_for_each(Lane::send)?;
                wait = POLL;
            }
        }
    }
    Ok(())
}
