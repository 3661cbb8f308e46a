//! The list of contenders. A new one is an entry here and a function in `contenders`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use crate::contenders::{
    Result, bare, bare_idem, by_idem, check_do_mark, hand_batch, tx_per_event,
};
use crate::data;
use crate::gauge::Gauge;
use crate::task::Task;

type Working = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Somebody who handles the events.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What it is, for the table.
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
    pub(crate) size: Size,
    pub(crate) effects: Effects,
    /// Whether everything is read a second time.
    pub(crate) replay: bool,
    /// Whether its latency is of interest.
    pub(crate) latency: bool,
    pub(crate) work: fn(Task, Arc<Gauge>) -> Working,
}

/// Whose work it is, which also says where its markers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    ByHand,
    Idem,
    Limit,
}

/// How much of the data it reads, so that a run of each takes about as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    /// A transaction or more for each event.
    Small,
    /// A statement for each event.
    Middle,
    /// Set-based.
    Full,
}

impl Size {
    pub(crate) const ALL: [Self; 3] = [Self::Small, Self::Middle, Self::Full];

    /// How many of `messages` that is.
    pub(crate) fn of(self, messages: u64) -> u64 {
        let parts = match self {
            Self::Small => 20,
            Self::Middle => 4,
            Self::Full => 1,
        };
        (messages / parts).max(1_000).min(messages)
    }
}

/// What must be in the database in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effects {
    /// One for each different event.
    Distinct,
    /// One for each different event that is not refused.
    Good,
    /// One for each message.
    Every,
    /// Nothing.
    None,
}

impl Effects {
    /// How many effects, and for how many different events, `messages` messages must have.
    pub(crate) fn expected(self, messages: u64) -> (u64, u64) {
        let distinct = data::distinct(messages);
        match self {
            Self::Distinct => (distinct, distinct),
            Self::Good => (data::distinct_good(messages), data::distinct_good(messages)),
            Self::Every => (messages, distinct),
            Self::None => (0, 0),
        }
    }
}

impl Contender {
    /// Whether it has a table of markers, which can be many before it begins. What many packed markers
    /// cost is measured by their windows.
    pub(crate) fn has_markers(&self) -> bool {
        matches!(self.effects, Effects::Distinct)
            && self.kind != Kind::Limit
            && self.size != Size::Small
            && !self.name.ends_with("-packed")
    }

    /// The contender of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|contender| contender.name == name)
    }
}

/// All of them, the slowest first.
pub(crate) const ALL: &[Contender] = &[
    Contender {
        name: "check-do-mark",
        what: "check, do, mark by hand, one at a time",
        kind: Kind::ByHand,
        size: Size::Small,
        effects: Effects::Distinct,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(check_do_mark::one_at_a_time(task, gauge)),
    },
    Contender {
        name: "check-do-mark-4",
        what: "check, do, mark by hand, a task a partition",
        kind: Kind::ByHand,
        size: Size::Small,
        effects: Effects::Distinct,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(check_do_mark::by_partition(task, gauge)),
    },
    Contender {
        name: "tx-per-event",
        what: "a transaction an event by hand, one at a time",
        kind: Kind::ByHand,
        size: Size::Small,
        effects: Effects::Distinct,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(tx_per_event::one_at_a_time(task, gauge)),
    },
    Contender {
        name: "tx-per-event-16",
        what: "a transaction an event by hand, 16 in flight",
        kind: Kind::ByHand,
        size: Size::Small,
        effects: Effects::Distinct,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(tx_per_event::in_flight(task, gauge)),
    },
    Contender {
        name: "tx-fused-16",
        what: "the same, claim and effect fused into one statement",
        kind: Kind::ByHand,
        size: Size::Small,
        effects: Effects::Distinct,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(tx_per_event::fused(task, gauge)),
    },
    Contender {
        name: "hand-batch",
        what: "set-based batches by hand, a task a partition",
        kind: Kind::ByHand,
        size: Size::Full,
        effects: Effects::Distinct,
        replay: true,
        latency: true,
        work: |task, gauge| Box::pin(hand_batch::by_partition(task, gauge)),
    },
    Contender {
        name: "idem-plain",
        what: "idem, a handler of one event",
        kind: Kind::Idem,
        size: Size::Middle,
        effects: Effects::Distinct,
        replay: true,
        latency: true,
        work: |task, gauge| Box::pin(by_idem::plain(task, gauge)),
    },
    Contender {
        name: "idem-plain-packed",
        what: "idem, a handler of one event, packed markers",
        kind: Kind::Idem,
        size: Size::Middle,
        effects: Effects::Distinct,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(by_idem::plain_packed(task, gauge)),
    },
    Contender {
        name: "idem-offset",
        what: "idem, a handler of one event, key = offset",
        kind: Kind::Idem,
        size: Size::Middle,
        effects: Effects::Every,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(by_idem::by_offset(task, gauge)),
    },
    Contender {
        name: "idem-plain-dead",
        what: "the same, one event in a hundred becomes a dead letter",
        kind: Kind::Idem,
        size: Size::Middle,
        effects: Effects::Good,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(by_idem::plain_with_dead(task, gauge)),
    },
    Contender {
        name: "idem-slices",
        what: "idem, a handler of one event, four slices a partition",
        kind: Kind::Idem,
        size: Size::Middle,
        effects: Effects::Distinct,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(by_idem::in_slices(task, gauge)),
    },
    Contender {
        name: "idem-batch",
        what: "idem, a handler of a batch",
        kind: Kind::Idem,
        size: Size::Full,
        effects: Effects::Distinct,
        replay: true,
        latency: true,
        work: |task, gauge| Box::pin(by_idem::many(task, gauge)),
    },
    Contender {
        name: "idem-batch-packed",
        what: "idem, a handler of a batch, packed markers",
        kind: Kind::Idem,
        size: Size::Full,
        effects: Effects::Distinct,
        replay: true,
        latency: true,
        work: |task, gauge| Box::pin(by_idem::many_packed(task, gauge)),
    },
    Contender {
        name: "idem-batch-dead",
        what: "the same, one event in a hundred becomes a dead letter",
        kind: Kind::Idem,
        size: Size::Middle,
        effects: Effects::Good,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(by_idem::many_with_dead(task, gauge)),
    },
    Contender {
        name: "idem-batch-offset",
        what: "idem, a handler of a batch, key = offset",
        kind: Kind::Idem,
        size: Size::Full,
        effects: Effects::Every,
        replay: false,
        latency: true,
        work: |task, gauge| Box::pin(by_idem::many_by_offset(task, gauge)),
    },
    Contender {
        name: "bare-postgres-each",
        what: "PostgreSQL without Kafka, a statement an effect",
        kind: Kind::Limit,
        size: Size::Middle,
        effects: Effects::Distinct,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(bare::statement_each(task, gauge)),
    },
    Contender {
        name: "bare-postgres",
        what: "PostgreSQL without Kafka, set-based",
        kind: Kind::Limit,
        size: Size::Full,
        effects: Effects::Distinct,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(bare::set_based(task, gauge)),
    },
    Contender {
        name: "bare-idem",
        what: "idem's statements without Kafka and its pipeline, set-based",
        kind: Kind::Limit,
        size: Size::Full,
        effects: Effects::Distinct,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(bare_idem::rows(task, gauge)),
    },
    Contender {
        name: "bare-idem-packed",
        what: "the same, packed markers",
        kind: Kind::Limit,
        size: Size::Full,
        effects: Effects::Distinct,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(bare_idem::packed(task, gauge)),
    },
    Contender {
        name: "bare-idem-offset",
        what: "the same, key = offset",
        kind: Kind::Limit,
        size: Size::Full,
        effects: Effects::Every,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(bare_idem::offset(task, gauge)),
    },
    Contender {
        name: "bare-kafka",
        what: "consumption without PostgreSQL",
        kind: Kind::Limit,
        size: Size::Full,
        effects: Effects::None,
        replay: false,
        latency: false,
        work: |task, gauge| Box::pin(bare::consume(task, gauge)),
    },
];
