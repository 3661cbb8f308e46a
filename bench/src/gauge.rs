//! The gauge of a contender: how many events it has handled, and what that took.
//!
//! It starts with the first events that were handled, so that joining a group and connecting do not
//! count, and looks every other millisecond, which costs nothing that could be seen.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::task::{Company, Measured, Task};
use crate::usage;

const LOOK: Duration = Duration::from_millis(2);

type Source = Box<dyn Fn() -> u64 + Send + Sync>;

/// Counts handled events; see [`measure`].
pub(crate) struct Gauge {
    total: u64,
    own: AtomicU64,
    source: OnceLock<Source>,
    done: watch::Sender<bool>,
}

impl Gauge {
    /// A gauge that waits for this many events.
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            own: AtomicU64::new(0),
            source: OnceLock::new(),
            done: watch::Sender::new(false),
        })
    }

    /// Notes that so many more events are handled: their transaction is committed.
    pub(crate) fn handled(&self, events: usize) {
        self.own.fetch_add(events as u64, Relaxed);
    }

    /// Reads the count elsewhere, from now on.
    pub(crate) fn read_from(&self, source: impl Fn() -> u64 + Send + Sync + 'static) {
        // Set once, by the one contender of a process.
        let _ = self.source.set(Box::new(source));
    }

    /// Whether all events are handled.
    pub(crate) fn is_done(&self) -> bool {
        *self.done.borrow()
    }

    /// Waits until all events are handled.
    pub(crate) async fn finished(&self) {
        let mut done = self.done.subscribe();
        // The sender is `self`: it is there.
        let _ = done.wait_for(|done| *done).await;
    }

    fn count(&self) -> u64 {
        self.source.get().map_or_else(|| self.own.load(Relaxed), |source| source())
    }
}

/// Measures, in a thread of its own, until all events are handled.
pub(crate) fn measure(gauge: Arc<Gauge>, task: &Task) -> thread::JoinHandle<Measured> {
    let company = task.company.clone();
    thread::spawn(move || {
        let first = loop {
            if gauge.count() > 0 {
                break Sample::take(&gauge, &company);
            }
            // A sampler's period, here and below.
            thread::sleep(LOOK);
        };
        while gauge.count() < gauge.total {
            thread::sleep(LOOK);
        }
        let last = Sample::take(&gauge, &company);
        gauge.done.send_replace(true);
        last.since(&first)
    })
}

struct Sample {
    at: Instant,
    events: u64,
    cpu: Duration,
    postgres: Option<Duration>,
    others: Option<Duration>,
}

impl Sample {
    fn take(gauge: &Gauge, company: &Company) -> Self {
        let cpu = usage::own_cpu();
        Self {
            at: Instant::now(),
            events: gauge.count(),
            cpu,
            postgres: company.postmaster.and_then(usage::family_cpu),
            others: usage::strangers(company).map(|all| all.saturating_sub(cpu)),
        }
    }

    fn since(&self, first: &Self) -> Measured {
        let between = |last: Option<Duration>, first: Option<Duration>| {
            Some(last?.saturating_sub(first?).as_secs_f64())
        };
        let seconds = (self.at - first.at).as_secs_f64();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let others = between(self.others, first.others).unwrap_or_default();
        Measured {
            events: self.events - first.events,
            seconds,
            cpu_seconds: (self.cpu - first.cpu).as_secs_f64(),
            postgres_cpu_seconds: between(self.postgres, first.postgres),
            others: others / (seconds.max(1e-6) * cores as f64),
            peak_rss_bytes: usage::peak_rss(),
            began: Some(first.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handled_before_the_first_look_does_not_count() {
        let gauge = Gauge::new(100);
        gauge.handled(30);
        let task = Task {
            bootstrap: String::new(),
            database_url: String::new(),
            schema: String::new(),
            topic: String::new(),
            group: String::new(),
            messages: 100,
            company: Company::default(),
        };
        let measuring = measure(Arc::clone(&gauge), &task);
        // Handled one after the other, as slowly as it takes to have been looked at in between.
        for _ in 0..70 {
            thread::sleep(Duration::from_millis(1));
            gauge.handled(1);
        }
        let measured = measuring.join().unwrap();
        assert!((1..=70).contains(&measured.events), "{measured:?}");
        assert!(gauge.is_done() && measured.seconds > 0.0);
    }
}
