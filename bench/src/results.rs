//! What came out: rows of the table, each with its rounds, and the medians of them.

use serde::Serialize;

use crate::catalog::{Contender, Kind};
use crate::latency::Latency;
use crate::machine::Machine;
use crate::numbers::short;
use crate::task::{Measured, Written};
use crate::windows::Takeover;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Messages of the full data.
    pub(crate) events: u64,
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
    /// Lanes with large windows that were taken over.
    pub(crate) takeovers: Vec<Takeover>,
    /// What must not be: effects lost or repeated, contenders that failed.
    pub(crate) wrong: Vec<String>,
}

/// What is different from a contender's first pass over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    First,
    /// Everything a second time.
    Replay,
    /// With so many markers before the first event.
    Markers(u64),
}

/// A contender in one variant.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) kind: Kind,
    /// One for each round.
    pub(crate) measured: Vec<Measured>,
    /// One for each round.
    pub(crate) written: Vec<Written>,
    /// One for each round, if it was of interest.
    pub(crate) latencies: Vec<Latency>,
}

/// The middle of the rounds, and how far they are apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, least, most })
    }
}

/// A round in which others used more of the machine than this does not count, if there is a calmer
/// one.
const DISTURBED: f64 = 0.1;

/// The rounds that count.
fn calm<T>(rounds: &[T], others: impl Fn(&T) -> f64) -> impl Iterator<Item = &T> {
    let least = rounds.iter().map(&others).reduce(f64::min).unwrap_or_default();
    rounds.iter().filter(move |round| others(round) <= least.max(DISTURBED))
}

impl Row {
    /// Whether others were at work in every round.
    pub(crate) fn is_disturbed(&self) -> bool {
        let others = |measured: &Measured| measured.others > DISTURBED;
        !self.measured.is_empty() && self.measured.iter().all(others)
    }

    fn rounds(&self) -> impl Iterator<Item = &Measured> {
        calm(&self.measured, |round| round.others)
    }

    fn timed(&self) -> impl Iterator<Item = &Latency> {
        calm(&self.latencies, |round| round.measured.others)
    }

    /// Of events in a second.
    pub(crate) fn rate(&self) -> Option<Spread> {
        Spread::of(self.rounds().map(|it| it.events as f64 / it.seconds.max(1e-6)))
    }

    /// CPU seconds of the contender for a million events.
    pub(crate) fn cpu(&self) -> Option<Spread> {
        Spread::of(self.rounds().map(|it| per_million(it.cpu_seconds, it)))
    }

    /// CPU seconds of PostgreSQL for a million events.
    pub(crate) fn postgres_cpu(&self) -> Option<Spread> {
        let seconds = |it: &Measured| Some(per_million(it.postgres_cpu_seconds?, it));
        Spread::of(self.rounds().filter_map(seconds))
    }

    /// The most memory, in MB.
    pub(crate) fn rss(&self) -> Option<Spread> {
        Spread::of(self.measured.iter().map(|it| it.peak_rss_bytes as f64 / 1e6))
    }

    /// Bytes of the tables of markers for a message.
    pub(crate) fn table_bytes(&self) -> Option<Spread> {
        Spread::of(self.written.iter().map(|it| each(it.table_bytes, it)))
    }

    /// Bytes of the log of changes for a message.
    pub(crate) fn wal_bytes(&self) -> Option<Spread> {
        Spread::of(self.written.iter().map(|it| each(it.wal_bytes, it)))
    }

    /// Milliseconds.
    pub(crate) fn p50(&self) -> Option<Spread> {
        Spread::of(self.timed().map(|it| it.p50))
    }

    /// Milliseconds.
    pub(crate) fn p99(&self) -> Option<Spread> {
        Spread::of(self.timed().map(|it| it.p99))
    }
}

fn each(bytes: i64, written: &Written) -> f64 {
    bytes as f64 / (written.messages.max(1) as f64)
}

fn per_million(seconds: f64, measured: &Measured) -> f64 {
    seconds * 1e6 / (measured.events.max(1) as f64)
}

impl Report {
    /// The events in a second of a row, if it was measured.
    pub(crate) fn rate(&self, name: &str) -> Option<f64> {
        Some(self.row(name)?.rate()?.median)
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The row of a contender's variant, which is made if it is new.
    pub(crate) fn row_of(&mut self, contender: &Contender, variant: Variant) -> &mut Row {
        let name = variant.name_of(contender.name);
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row {
                name,
                what: variant.what(contender.what),
                kind: contender.kind,
                measured: Vec::new(),
                written: Vec::new(),
                latencies: Vec::new(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }
}

impl Variant {
    /// The name of a row.
    pub(crate) fn name_of(self, contender: &str) -> String {
        match self {
            Self::First => contender.to_owned(),
            Self::Replay => format!("{contender} replay"),
            Self::Markers(markers) => format!("{contender} {}", short(markers)),
        }
    }

    fn what(self, what: &str) -> String {
        match self {
            Self::First => what.to_owned(),
            Self::Replay => format!("{what}; the whole topic again"),
            Self::Markers(markers) => format!("{what}; {} markers before", short(markers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        let three = Spread { median: 2.0, least: 1.0, most: 9.0 };
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some(three));
        assert_eq!(spread(&[1.0, 2.0]).map(|it| it.median), Some(1.5));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_disturbed_round_counts_only_when_there_is_no_calmer_one() {
        let counted = |rounds: &[f64]| calm(rounds, |it| *it).copied().collect::<Vec<_>>();
        assert_eq!(counted(&[0.5, 0.02, 0.09]), [0.02, 0.09]);
        assert_eq!(counted(&[0.5, 0.3]), [0.3]);
        assert_eq!(counted(&[]), [0.0; 0]);
    }

    #[test]
    fn rows_are_named_after_what_was_different() {
        assert_eq!(Variant::Markers(10_000_000).name_of("idem-plain"), "idem-plain 10M");
        assert_eq!(Variant::Replay.name_of("idem-plain"), "idem-plain replay");
    }
}
