//! Latency: how long after an event was sent its effect is committed, while events are sent at a
//! fixed rate.
//!
//! The times of commits are the server's (`track_commit_timestamp`), read afterwards: no contender
//! does anything for it. They are taken when a commit is written, before it is flushed to disk.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use idem::BoxError;
use rdkafka::producer::{BaseProducer, Producer as _};
use serde::Serialize;

use crate::catalog::Contender;
use crate::child;
use crate::data::{self, Message};
use crate::database::Database;
use crate::task::{Measured, Task};
use crate::topic::{Kafka, send};

/// Events in a second.
pub(crate) const RATE: u64 = 2_000;
/// Messages that are sent before any is timed: whoever handled them has joined its group.
const FIRST: u64 = 200;
/// How long the rate is held before any is timed.
const WARM_UP: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds from an event's sending until its effect was committed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// What it took meanwhile.
    pub(crate) measured: Measured,
}

/// How many messages that takes.
pub(crate) fn messages(seconds: u64) -> u64 {
    FIRST + RATE * (WARM_UP.as_secs() + seconds)
}

/// Sends events to the task's topic, which is empty, and times their effects.
///
/// # Errors
/// When the contender, the database or Kafka fails.
pub(crate) async fn time(
    contender: &Contender,
    task: &Task,
    kafka: &Kafka,
    database: &Database,
) -> Result<Latency, BoxError> {
    let running = child::start(contender, task)?;
    let producer = kafka.producer(0)?;
    let mut messages = data::messages(task.messages);
    for message in messages.by_ref().take(usize::try_from(FIRST)?) {
        send(&producer, &task.topic, &message)?;
    }
    producer.flush(PATIENCE)?;
    until_handled(contender, task, database).await?;
    let rest: Vec<Message> = messages.collect();
    let topic = task.topic.clone();
    let sent = tokio::task::spawn_blocking(move || send_at_rate(&producer, &topic, rest)).await??;
    let measured = running.measured().await?;
    let committed = database.commit_times(&task.schema).await?;
    let mut latencies = Vec::with_capacity(sent.len());
    for (order, sent) in sent {
        let at = committed.get(&order).ok_or_else(|| format!("order {order} has no effect"))?;
        latencies.push(at - sent);
    }
    latencies.sort_unstable();
    Ok(summary(&latencies, measured))
}

async fn until_handled(
    contender: &Contender,
    task: &Task,
    database: &Database,
) -> Result<(), BoxError> {
    let deadline = Instant::now() + PATIENCE;
    while database.effects(&task.schema).await? != contender.effects.expected(FIRST) {
        if Instant::now() >= deadline {
            return Err(format!("{} has not begun after {PATIENCE:?}", contender.name).into());
        }
        // Each look is a query: rarely, so as not to load what is measured.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Sends messages at the rate; answers when each order was first sent, without those of the warm-up.
fn send_at_rate(
    producer: &BaseProducer,
    topic: &str,
    messages: Vec<Message>,
) -> Result<Vec<(u64, i64)>, BoxError> {
    let mut sent = Vec::with_capacity(messages.len());
    let mut next_new = data::distinct(FIRST);
    let began = Instant::now();
    for (due, message) in (0..).map(|it| Duration::from_secs(it) / rate()).zip(messages) {
        if let Some(wait) = due.checked_sub(began.elapsed()) {
            // The rate is the point.
            thread::sleep(wait);
        }
        // Orders come in sequence; whatever is before the next one is a repeat.
        if message.order == next_new {
            next_new += 1;
            if due >= WARM_UP {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                sent.push((message.order, i64::try_from(now.as_micros())?));
            }
        }
        send(producer, topic, &message)?;
    }
    producer.flush(PATIENCE)?;
    Ok(sent)
}

fn rate() -> u32 {
    u32::try_from(RATE).unwrap_or(u32::MAX)
}

/// Of times in microseconds, in ascending order.
fn summary(latencies: &[i64], measured: Measured) -> Latency {
    let at = |share: f64| {
        let last = latencies.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        latencies.get(index).map_or(0.0, |micros| *micros as f64 / 1_000.0)
    };
    Latency { p50: at(0.5), p99: at(0.99), max: at(1.0), measured }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_times_themselves() {
        let micros: Vec<i64> = (0..=1_000).map(|ms| ms * 1_000).collect();
        let Latency { p50, p99, max, .. } = summary(&micros, Measured::default());
        assert_eq!((p50, p99, max), (500.0, 990.0, 1_000.0));
        assert_eq!(summary(&[], Measured::default()).p99, 0.0);
    }
}
