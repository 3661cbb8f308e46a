//! Lanes with large windows of packed markers: how long it takes until one that was taken over is at
//! work, and how much memory its owner has then.
//!
//! The window is written into the database as batches of a thousand events would have, for a lane that
//! has worked one event. Then each process that takes the lane over finds an event that is new and one
//! whose key is in the window.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use idem::{BoxError, Key};
use idem_runtime::packed::{Digest, DigestKey, Pack};
use idem_runtime::store::PackedMarkers as _;
use rdkafka::producer::Producer as _;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::calm;
use crate::contenders::by_idem;
use crate::data::{self, Message};
use crate::database::Database;
use crate::gauge::{self, Gauge};
use crate::numbers::short;
use crate::say;
use crate::task::{Task, VARIABLE};
use crate::topic::{Kafka, send};
use crate::usage;

type Result<T> = std::result::Result<T, BoxError>;

/// What windows have by default, in bytes.
const DEFAULT: usize = 256 << 20;
/// The environment variable with the bytes that windows have.
const MEMORY: &str = "IDEM_BENCH_MEMORY";
/// As many digests in a row as a batch has events.
const ROW: u64 = 1_000;
/// How many rows are written at once.
const ROWS: usize = 200;
/// A process that moves what does not fit into runs takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// A lane that was taken over.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Takeover {
    /// How many packed markers its window has.
    pub(crate) digests: u64,
    /// How much memory they may have, in bytes.
    pub(crate) memory: usize,
    /// What is special about this time.
    pub(crate) what: String,
    /// Milliseconds until they were loaded, from when the lane was taken.
    pub(crate) loaded_ms: f64,
    /// Milliseconds until the first event was handled, from when the process began to connect.
    pub(crate) first_ms: f64,
    /// The most memory that the process ever had.
    pub(crate) peak_rss_bytes: u64,
}

/// What a process that takes a lane over tells.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Taken {
    loaded_ms: u64,
    first_ms: u64,
    peak_rss_bytes: u64,
}

/// Measures takeovers of one lane, whose topic is not there yet.
pub(crate) struct Measuring<'a> {
    pub(crate) task: &'a Task,
    pub(crate) kafka: &'a Kafka,
    pub(crate) database: &'a Database,
    /// How long to wait, each time, until others leave the machine alone.
    pub(crate) patience: Duration,
}

impl Measuring<'_> {
    /// Measures them with so many digests: with memory for nothing, with memory for all, and twice with
    /// what windows have by default, because the first time what does not fit has to be moved.
    ///
    /// # Errors
    /// When the services fail, or an effect is lost or repeated.
    pub(crate) async fn measure(&self, digests: u64) -> Result<Vec<Takeover>> {
        let name = short(digests);
        self.kafka.create(&self.task.topic, 1).await?;
        let mut orders = Orders::default();
        let mut takeovers = vec![self.take(&mut orders, 0, DEFAULT, "nothing in it").await?];
        say(&format!("filling a window with {name} packed markers"));
        self.fill(digests).await?;
        let enough = usize::try_from(digests)?.saturating_mul(64) + DEFAULT;
        let times =
            [(enough, "room for all"), (DEFAULT, "the default"), (DEFAULT, "the default, again")];
        for (memory, what) in times {
            takeovers.push(self.take(&mut orders, digests, memory, what).await?);
        }
        Ok(takeovers)
    }

    /// Has a process of its own take the lane.
    async fn take(
        &self,
        orders: &mut Orders,
        digests: u64,
        memory: usize,
        what: &str,
    ) -> Result<Takeover> {
        let mut task = self.task.clone();
        let messages = orders.next();
        task.messages = messages.len() as u64;
        let producer = self.kafka.producer(0)?;
        for message in &messages {
            send(&producer, &task.topic, message)?;
        }
        producer.flush(PATIENCE)?;
        calm::wait(&task.company, self.patience).await;
        let taken = take_over(&task, memory).await?;
        let (expected, found) = (orders.effects(), self.database.effects(&task.schema).await?);
        if found != (expected, expected) {
            return Err(format!(
                "WRONG ({what}): {} effects for {} events, and {expected} for as many are right",
                found.0, found.1
            )
            .into());
        }
        let Taken { loaded_ms, first_ms, peak_rss_bytes } = taken;
        say(&format!(
            "window of {}, {what}: loaded in {loaded_ms} ms, {:.0} MB",
            short(digests),
            peak_rss_bytes as f64 / 1e6
        ));
        Ok(Takeover {
            digests,
            memory,
            what: what.to_owned(),
            loaded_ms: loaded_ms as f64,
            first_ms: first_ms as f64,
            peak_rss_bytes,
        })
    }

    /// Writes the window: rows of the log before the one that the topic has now, as if it had been made
    /// anew since.
    async fn fill(&self, digests: u64) -> Result<()> {
        let store = by_idem::store(self.task).await?;
        let key = store.digest_key().await?;
        store.close().await;
        self.database.begin_log(self.task).await?;
        let mut known = Orders::known(key)?;
        let mut rows = Vec::with_capacity(ROWS);
        let mut first = 0;
        while first < digests {
            let last = (first + ROW).min(digests);
            let entries = (first..last)
                .map(|at| Ok((i64::try_from(at)?, known.pop().unwrap_or_else(|| random(at)))))
                .collect::<Result<_>>()?;
            let pack = Pack { entries, spans: Vec::new() };
            rows.push((i64::try_from(first)?, i64::try_from(last - first)?, pack.encode()));
            first = last;
            if rows.len() == ROWS || first == digests {
                self.database.add_packs(self.task, by_idem::PACKED_SCOPE, &rows).await?;
                rows.clear();
            }
        }
        self.database.vacuum_packs(self.task).await
    }
}

/// The orders of a lane: two for each process that takes it, of which one is in the window.
#[derive(Debug, Default)]
struct Orders {
    processes: usize,
}

impl Orders {
    /// How many processes there can be.
    const MOST: usize = 8;

    fn all() -> impl Iterator<Item = Message> {
        let mut before = None;
        // Without repeats: those are behind a higher number.
        data::messages(1_000).filter(move |message| {
            let is_new = before.is_none_or(|before| message.order > before);
            before = before.max(Some(message.order));
            is_new
        })
    }

    /// What the next process finds: an order that is known, if the window has any, and a new one.
    fn next(&mut self) -> Vec<Message> {
        let all = Self::all().skip(2 * self.processes);
        // The first process comes before the window is filled.
        let messages = if self.processes == 0 { 1..2 } else { 0..2 };
        self.processes += 1;
        let messages = all.take(messages.end).skip(messages.start);
        messages.map(|message| Message { partition: 0, ..message }).collect()
    }

    /// How many of what was sent have an effect.
    fn effects(&self) -> u64 {
        self.processes as u64
    }

    /// The digests of those that are in the window.
    fn known(key: DigestKey) -> Result<Vec<Digest>> {
        let known = Self::all().step_by(2).take(Self::MOST).map(|message| {
            let order: data::Order = serde_json::from_str(&message.payload)?;
            Ok(key.digest(&Key::of(&order.event_id)?))
        });
        known.collect()
    }
}

fn random(number: u64) -> Digest {
    let high = u128::from(data::mix(number));
    Digest(high << 64 | u128::from(data::mix(number ^ 0x5a5a_0000_0000_5a5a)))
}

/// Starts this program as the next owner of the lane.
async fn take_over(task: &Task, memory: usize) -> Result<Taken> {
    let child = Command::new(std::env::current_exe()?)
        .arg("window")
        .env(VARIABLE, serde_json::to_string(task)?)
        .env(MEMORY, memory.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .map_err(|_| format!("the lane is not at work after {PATIENCE:?}"))??;
    if !output.status.success() {
        return Err(format!("the lane's owner failed ({})", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the process of the next owner does: works until its events are handled.
///
/// # Errors
/// When idem fails.
#[expect(clippy::print_stdout, reason = "its answer")]
pub(crate) async fn work() -> Result<bool> {
    let task: Task = serde_json::from_str(&std::env::var(VARIABLE)?)?;
    let memory: usize = std::env::var(MEMORY)?.parse()?;
    let (sender, loaded) = channel();
    let words = fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(words.with_filter(EnvFilter::new("warn")))
        .with(Loaded(sender).with_filter(EnvFilter::new("idem_runtime=info")))
        .init();
    let gauge = Gauge::new(task.messages);
    let began = Instant::now();
    let measuring = gauge::measure(Arc::clone(&gauge), &task);
    by_idem::in_window(task, Arc::clone(&gauge), memory).await?;
    let measured = measuring.join().map_err(|_| "the gauge panicked")?;
    let first = measured.began.map_or(Duration::ZERO, |at| at - began);
    let taken = Taken {
        loaded_ms: last(&loaded).ok_or("nobody said that the window is loaded")?,
        first_ms: u64::try_from(first.as_millis())?,
        peak_rss_bytes: usage::peak_rss(),
    };
    println!("{}", serde_json::to_string(&taken)?);
    Ok(true)
}

fn last(loaded: &Receiver<u64>) -> Option<u64> {
    loaded.try_iter().last()
}

/// Hears how long windows took to be loaded.
struct Loaded(Sender<u64>);

impl<S: Subscriber> Layer<S> for Loaded {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        if let (true, Some(took_ms)) = (words.loaded, words.took_ms) {
            // Whoever waits for it is there until the end.
            let _ = self.0.send(took_ms);
        }
    }
}

#[derive(Default)]
struct Words {
    loaded: bool,
    took_ms: Option<u64>,
}

impl Visit for Words {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "took_ms" {
            self.took_ms = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.loaded = format!("{value:?}") == "packed markers are loaded";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_finds_a_known_order_and_a_new_one() {
        let key = DigestKey::new([7; 16]);
        let digest = |message: &Message| {
            let order: data::Order = serde_json::from_str(&message.payload).unwrap();
            key.digest(&Key::of(&order.event_id).unwrap())
        };
        let known = Orders::known(key).unwrap();
        let mut orders = Orders::default();
        let first = orders.next();
        assert_eq!((first.len(), known.contains(&digest(&first[0]))), (1, false));
        for _ in 1..Orders::MOST {
            let found: Vec<bool> =
                orders.next().iter().map(|it| known.contains(&digest(it))).collect();
            assert_eq!(found, [true, false]);
        }
    }
}
