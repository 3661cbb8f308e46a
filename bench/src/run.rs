//! The whole run: topics once, then every contender in every round, in an order that turns from
//! round to round, so that what changes with time does not always meet the same one.

use std::collections::BTreeMap;

use idem::BoxError;
use uuid::Uuid;

use crate::calm;
use crate::catalog::{Contender, Effects, Kind, Size};
use crate::child;
use crate::data::PARTITIONS;
use crate::database::Database;
use crate::latency;
use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Report, Variant};
use crate::say;
use crate::task::{Company, Measured, Task, Written};
use crate::topic::Kafka;
use crate::windows;

type Result<T> = std::result::Result<T, BoxError>;

/// The environment variable with the broker's process, if it is on this machine.
const BROKER_PID: &str = "IDEM_BENCH_BROKER_PID";

struct Bench<'a> {
    options: &'a Options,
    kafka: Kafka,
    database: Database,
    /// The topics with the data, by size.
    topics: BTreeMap<Size, String>,
    company: Company,
    /// How long latency is measured; 0 when it is not, or cannot be.
    latency_seconds: u64,
    report: Report,
}

/// Measures everything that the options ask for. What is wrong with a contender is in the report.
///
/// # Errors
/// When the services fail.
pub(crate) async fn run(options: &Options, bootstrap: &str, database_url: &str) -> Result<Report> {
    let database = Database::connect(database_url).await?;
    let machine = Machine::look(&database).await?;
    say(&machine.describe());
    if machine.was_busy() {
        say("note: others are at work on this machine; the numbers will be worse than they are");
    }
    let can_time = database.keeps_commit_times().await?;
    if options.latency_seconds > 0 && !can_time {
        say(
            "note: no latency, because the database keeps no times (track_commit_timestamp is off)",
        );
    }
    let mut bench = Bench {
        options,
        latency_seconds: if can_time { options.latency_seconds } else { 0 },
        kafka: Kafka { bootstrap: bootstrap.to_owned() },
        company: Company {
            postmaster: database.postmaster().await?,
            broker: std::env::var(BROKER_PID).ok().and_then(|pid| pid.parse().ok()),
            bench: i32::try_from(std::process::id()).ok(),
        },
        database,
        topics: BTreeMap::new(),
        report: Report {
            machine,
            events: options.events,
            rounds: options.rounds,
            rows: Vec::new(),
            takeovers: Vec::new(),
            wrong: Vec::new(),
        },
    };
    bench.declare();
    bench.load().await?;
    for round in 0..options.rounds {
        let mut contenders = options.contenders.clone();
        let turned = round * contenders.len() / options.rounds;
        contenders.rotate_left(turned);
        for contender in contenders {
            bench.contend(round, contender).await?;
        }
    }
    bench.windows().await?;
    let topics: Vec<&str> = bench.topics.values().map(String::as_str).collect();
    bench.kafka.delete(&topics).await?;
    Ok(bench.report)
}

impl Bench<'_> {
    /// Makes the rows in the order of the list, whatever the order of the rounds.
    fn declare(&mut self) {
        for contender in &self.options.contenders {
            for variant in self.variants(contender) {
                self.report.row_of(contender, variant);
            }
        }
    }

    fn variants(&self, contender: &Contender) -> Vec<Variant> {
        let mut variants = vec![Variant::First];
        if contender.replay {
            variants.push(Variant::Replay);
        }
        if contender.has_markers() && self.options.markers > 0 {
            variants.push(Variant::Markers(self.options.markers));
        }
        variants
    }

    /// Loads the topics that are needed, each once.
    async fn load(&mut self) -> Result<()> {
        for size in Size::ALL {
            if self.options.contenders.iter().any(|contender| contender.size == size) {
                let messages = size.of(self.options.events);
                say(&format!("loading a topic with {messages} messages"));
                let topic = format!("idem-bench-{}", Uuid::new_v4().simple());
                self.kafka.load(&topic, messages).await?;
                self.topics.insert(size, topic);
            }
        }
        Ok(())
    }

    /// Lanes with large windows, once.
    async fn windows(&mut self) -> Result<()> {
        for &digests in &self.options.windows {
            let id = Uuid::new_v4().simple().to_string();
            let task = Task {
                bootstrap: self.kafka.bootstrap.clone(),
                database_url: self.database.url.clone(),
                schema: format!("b_window_{}", &id[..8]),
                topic: format!("idem-bench-{id}"),
                group: format!("window_{}", &id[..8]),
                messages: 0,
                company: self.company.clone(),
            };
            self.database.prepare(&task, Kind::Idem, 0).await?;
            let measuring = windows::Measuring {
                task: &task,
                kafka: &self.kafka,
                database: &self.database,
                patience: self.options.wait,
            };
            match measuring.measure(digests).await {
                Ok(takeovers) => self.report.takeovers.extend(takeovers),
                Err(error) => {
                    self.wrong(format!("a window of {digests} packed markers: {error}"));
                }
            }
            self.kafka.delete(&[&task.topic]).await?;
            self.database.clear(&task).await?;
        }
        Ok(())
    }

    async fn contend(&mut self, round: usize, contender: &Contender) -> Result<()> {
        self.first_and_replay(round, contender).await?;
        if contender.has_markers() && self.options.markers > 0 {
            let variant = Variant::Markers(self.options.markers);
            let task = self.task(contender);
            self.database.prepare(&task, contender.kind, self.options.markers).await?;
            let measured = self.pass(contender, &task).await;
            self.note(round, contender, variant, measured);
            self.database.clear(&task).await?;
        }
        if contender.latency && self.latency_seconds > 0 {
            self.time(round, contender).await?;
        }
        Ok(())
    }

    async fn first_and_replay(&mut self, round: usize, contender: &Contender) -> Result<()> {
        let task = self.task(contender);
        self.database.prepare(&task, contender.kind, 0).await?;
        let first = self.pass(contender, &task).await;
        let went_well = first.is_ok();
        self.note(round, contender, Variant::First, first);
        if contender.replay && went_well {
            self.kafka.rewind(&task.group, &task.topic).await?;
            let again = self.pass(contender, &task).await;
            self.note(round, contender, Variant::Replay, again);
        }
        self.database.clear(&task).await
    }

    /// Has the contender handle all messages, and counts the effects.
    async fn pass(&self, contender: &Contender, task: &Task) -> Result<(Measured, Written)> {
        calm::wait(&self.company, self.options.wait).await;
        let before = self.database.extent(task).await?;
        let measured = child::start(contender, task)?.measured().await?;
        let written = self.database.extent(task).await?.since(before, task.messages);
        self.check(contender.effects, task).await?;
        Ok((measured, written))
    }

    async fn time(&mut self, round: usize, contender: &Contender) -> Result<()> {
        let mut task = self.task(contender);
        task.topic = format!("idem-bench-{}", Uuid::new_v4().simple());
        task.messages = latency::messages(self.latency_seconds);
        self.database.prepare(&task, contender.kind, 0).await?;
        self.kafka.create(&task.topic, PARTITIONS).await?;
        calm::wait(&self.company, self.options.wait).await;
        let timed = latency::time(contender, &task, &self.kafka, &self.database).await;
        let checked = match timed {
            Ok(latency) => self.check(contender.effects, &task).await.map(|()| latency),
            Err(error) => Err(error),
        };
        let progress = self.progress(round, contender.name);
        match checked {
            Ok(latency) => {
                let (p50, p99) = (latency.p50, latency.p99);
                let Measured { seconds, cpu_seconds, others, .. } = latency.measured;
                let (cpu, others) = (100.0 * cpu_seconds / seconds, others * 100.0);
                say(&format!(
                    "{progress} p50 {p50:.1} ms, p99 {p99:.1} ms (its CPU {cpu:.0} %, others {others:.0} %)"
                ));
                self.report.row_of(contender, Variant::First).latencies.push(latency);
            }
            Err(error) => self.wrong(format!("{progress} latency: {error}")),
        }
        self.kafka.delete(&[&task.topic]).await?;
        self.database.clear(&task).await
    }

    /// A task with names of its own.
    fn task(&self, contender: &Contender) -> Task {
        let id = Uuid::new_v4().simple().to_string();
        let unique = format!("{}_{}", contender.name.replace('-', "_"), &id[..8]);
        Task {
            bootstrap: self.kafka.bootstrap.clone(),
            database_url: self.database.url.clone(),
            schema: format!("b_{unique}"),
            topic: self.topics.get(&contender.size).cloned().unwrap_or_default(),
            group: unique,
            messages: contender.size.of(self.options.events),
            company: self.company.clone(),
        }
    }

    /// No effect lost, none repeated.
    async fn check(&self, effects: Effects, task: &Task) -> Result<()> {
        let (expected, found) =
            (effects.expected(task.messages), self.database.effects(&task.schema).await?);
        if found == expected {
            return Ok(());
        }
        Err(format!(
            "WRONG: {} effects for {} events, and {} for {} are right",
            found.0, found.1, expected.0, expected.1
        )
        .into())
    }

    fn note(
        &mut self,
        round: usize,
        contender: &Contender,
        variant: Variant,
        measured: Result<(Measured, Written)>,
    ) {
        let progress = self.progress(round, &variant.name_of(contender.name));
        match measured {
            Ok((measured, written)) => {
                let rate = measured.events as f64 / measured.seconds.max(1e-6);
                let (seconds, cpu) = (measured.seconds, measured.cpu_seconds);
                let others = measured.others * 100.0;
                say(&format!(
                    "{progress} {rate:.0}/s ({seconds:.1} s, its CPU {cpu:.1} s, others {others:.0} %)"
                ));
                let row = self.report.row_of(contender, variant);
                row.measured.push(measured);
                row.written.push(written);
            }
            Err(error) => self.wrong(format!("{progress} {error}")),
        }
    }

    fn wrong(&mut self, what: String) {
        say(&what);
        self.report.wrong.push(what);
    }

    fn progress(&self, round: usize, name: &str) -> String {
        format!("[{}/{}] {name}:", round + 1, self.options.rounds)
    }
}
