//! What one run of a contender is told, and what it tells at its end.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The environment variable that hands a task to a contender's process: an argument would show the
/// database's password to everybody on the machine.
pub(crate) const VARIABLE: &str = "IDEM_BENCH_TASK";

/// What a contender has to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) bootstrap: String,
    pub(crate) database_url: String,
    /// The schema of the effects, and of markers kept by hand.
    pub(crate) schema: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    /// How many messages are to be handled, repeats included.
    pub(crate) messages: u64,
    /// Whose CPU time belongs to the benchmark.
    pub(crate) company: Company,
}

impl Task {
    /// The schema of idem's own tables.
    pub(crate) fn idem_schema(&self) -> String {
        format!("{}_idem", self.schema)
    }
}

/// The processes of the benchmark beside the contender, as far as they are on this machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Company {
    /// The database server's first process; its children belong to it.
    pub(crate) postmaster: Option<i32>,
    pub(crate) broker: Option<i32>,
    /// The one that started the contender.
    pub(crate) bench: Option<i32>,
}

/// What a pass over the messages has left behind in the database, from before it began until after its
/// end.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Written {
    pub(crate) messages: u64,
    /// By how much the tables of markers have grown, with their indexes: all of idem's, or the one of
    /// markers kept by hand.
    pub(crate) table_bytes: i64,
    /// What was written to the log of changes: markers, effects and all.
    pub(crate) wal_bytes: i64,
}

/// How large the tables of markers are, and how far the log of changes is, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) tables: i64,
    pub(crate) wal: i64,
}

impl Extent {
    /// What was written since an earlier time, for so many messages.
    pub(crate) fn since(self, before: Self, messages: u64) -> Written {
        Written {
            messages,
            table_bytes: self.tables - before.tables,
            wal_bytes: self.wal - before.wal,
        }
    }
}

/// What was measured between the first events that were handled and the last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) events: u64,
    pub(crate) seconds: f64,
    /// Of the contender's process.
    pub(crate) cpu_seconds: f64,
    /// Of the database server, if it could be seen.
    pub(crate) postgres_cpu_seconds: Option<f64>,
    /// How much of the machine was used by processes that have nothing to do with the benchmark: 1 is
    /// all of it.
    pub(crate) others: f64,
    /// The most memory the contender's process ever had.
    pub(crate) peak_rss_bytes: u64,
    /// When the first events were handled, for whoever is in the same process.
    #[serde(skip)]
    pub(crate) began: Option<Instant>,
}
