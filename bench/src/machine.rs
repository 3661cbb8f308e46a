//! The machine in words, without its name.

use std::fs;

use idem::BoxError;
use rdkafka::util::get_rdkafka_version;
use serde::Serialize;

use crate::database::Database;

/// What the numbers depend on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_gib: u64,
    pub(crate) postgres: String,
    pub(crate) librdkafka: String,
    /// Whether a commit waits for the disk.
    pub(crate) fsync: String,
    /// How many processes wanted to run before the benchmark began.
    pub(crate) load_before: f64,
}

impl Machine {
    /// Looks at it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn look(database: &Database) -> Result<Self, BoxError> {
        let version = database.show("server_version").await?;
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: value_of("/proc/cpuinfo", "model name"),
            memory_gib: value_of("/proc/meminfo", "MemTotal")
                .split(' ')
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or_default()
                .div_ceil(1 << 20),
            postgres: version.split(' ').next().unwrap_or_default().to_owned(),
            librdkafka: get_rdkafka_version().1,
            fsync: database.show("fsync").await?,
            load_before: load.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default(),
        })
    }

    /// One line.
    pub(crate) fn describe(&self) -> String {
        let Self { cores, processor, memory_gib, postgres, librdkafka, fsync, .. } = self;
        format!(
            "{cores} cores ({processor}), {memory_gib} GiB of memory, everything on it: broker, \
             PostgreSQL {postgres} (fsync {fsync}), librdkafka {librdkafka}"
        )
    }

    /// Whether others were at work when the benchmark began.
    pub(crate) fn was_busy(&self) -> bool {
        self.load_before > self.cores as f64 / 2.0
    }
}

/// The value behind `name` in a file of `name: value` lines.
fn value_of(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}
