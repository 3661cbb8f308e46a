//! Where a lane starts, as a table: the database decides.
//!
//! | lane row | the group's commit | start at |
//! |---|---|---|
//! | yes | marked, or none | the row's position |
//! | yes | unmarked, lower | there, once: an operator's rewind |
//! | yes | unmarked, higher | the row, said loudly |
//! | yes, just opened | any | the row: `start` weighed the commit already |
//! | no | its mark names a scope of ours | refuse, or the policy: the database lost it |
//! | no | unmarked | the explicit `start` |
//! | no | none | `start`; the beginning for a partition that was added later |
//!
//! Which store a mark names is not compared: a database that was made anew has lost what is marked with
//! the scope, and a lane's row that was put into it decides as it did before (see [`mark`]).
//!
//! A position that the log cannot serve is an error that names the gap, or the policy.

use crate::error::{Error, ErrorKind};
use crate::lane::{LaneId, LaneRow, Position};
use crate::pipeline::mark::{self, Mark};
use crate::pipeline::policy::{DatabaseLost, LogChanged, Policies, Start};
use crate::pipeline::source::Survey;

/// What to do with a lane that has a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decided {
    /// Where to start.
    pub(crate) position: Position,
    /// Whether the row must be moved there first.
    pub(crate) moves: Option<Moves>,
    /// Whether the group's commit must be marked before anything is worked: otherwise it would be
    /// taken for an operator's word a second time.
    pub(crate) mark: bool,
    /// What to say at warn level.
    pub(crate) warning: Option<String>,
}

/// Why a lane's row is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moves {
    /// An operator rewound the group.
    Rewind,
    /// The log is another one, or has a gap, and the policy says to start again.
    LogChanged,
    /// Nowhere: the lane was just opened, or its log's identity is only now known. Its revision
    /// leaves 0, so that from now on an unmarked commit is an operator's word and not one from
    /// before the lane.
    Settle,
}

/// Decides for a lane that has a row.
pub(crate) fn with_row(
    row: &LaneRow,
    survey: &Survey,
    policies: &Policies,
) -> Result<Decided, Error> {
    let mut decided = Decided { position: row.position, moves: None, mark: false, warning: None };
    let changed = |gap: String| log_changed(row, survey, policies, &gap);

    if row.identity.topic_id.is_some() && survey.identity.topic_id.is_none() {
        return Err(Error::new(
            ErrorKind::Kafka,
            format!("{}: the broker does not tell the topic's id now; asking again", row.id),
        ));
    }
    if let Some(difference) = row.identity.difference(&survey.identity) {
        return changed(format!("the log is another one: {difference}"));
    }
    let at = row.position.offset;
    let unmarked = survey.commit.as_ref().filter(|it| !mark::read(&it.metadata).is_ours());
    decided.mark = unmarked.is_some();
    if row.revision == 0 {
        // `start` already weighed whatever commit there is; only a member that is not idem's may have
        // gone on since, while it still had the partition.
        decided.moves = Some(Moves::Settle);
        if let (Some(Start::Committed), Some(commit)) = (policies.start, unmarked) {
            decided.position = Position::at(commit.offset.max(survey.low));
        }
    } else if let Some(commit) = unmarked {
        if commit.offset < at {
            decided.position = Position::at(commit.offset);
            decided.moves = Some(Moves::Rewind);
            decided.warning = Some(format!(
                "the group's offset was reset to {} by hand: reading again from there, the \
                 database was at {at}",
                commit.offset
            ));
        } else if commit.offset > at {
            decided.warning = Some(format!(
                "the group's offset was set to {} by hand, but the database is at {at}: nothing is \
                 skipped, going on at {at}",
                commit.offset
            ));
        }
    }
    if decided.moves.is_none() && survey.identity.or(&row.identity) != row.identity {
        // The broker did not tell an id when the lane was opened, and does now.
        decided.moves = Some(Moves::Settle);
    }
    let at = decided.position.offset;
    if at < survey.low {
        return changed(format!(
            "events {at} to {} are gone from the log before they were processed (retention, or \
             deleted records)",
            survey.low - 1
        ));
    }
    // Also when the operator rewound to what is left, now or before: offset mode remembers the tail that
    // is lost, and so do floors.
    let at = at.max(row.reach());
    if at > survey.high {
        let what = match at > row.position.offset {
            true => "events were handled up to",
            false => "the position is",
        };
        return changed(format!(
            "{what} {at}, but the log ends at {}: it lost its tail, or was replaced",
            survey.high
        ));
    }
    Ok(decided)
}

fn log_changed(
    row: &LaneRow,
    survey: &Survey,
    policies: &Policies,
    gap: &str,
) -> Result<Decided, Error> {
    match policies.log_changed {
        LogChanged::Stop => Err(Error::new(
            ErrorKind::Log,
            format!(
                "{}: {gap}; nothing was skipped and the lane stands at {}. Find out what happened; \
                 to go on with the oldest event of the log ({}), set \
                 `.log_changed(LogChanged::Earliest)`",
                row.id, row.position.offset, survey.low
            ),
        )),
        LogChanged::Earliest => Ok(Decided {
            position: Position::at(survey.low),
            moves: Some(Moves::LogChanged),
            mark: true,
            warning: Some(format!(
                "{gap}; starting again at the oldest event of the log ({}), as configured",
                survey.low
            )),
        }),
    }
}

/// Decides for a lane without a row. `topic_is_known`: other partitions of the topic have rows.
pub(crate) fn without_row(
    id: &LaneId,
    survey: &Survey,
    policies: &Policies,
    scopes: &[&str],
    topic_is_known: bool,
) -> Result<Position, Error> {
    let committed = survey.commit.as_ref();
    let resolve = |start: Start| match start {
        Start::Earliest => survey.low,
        Start::Latest => survey.high,
        Start::Committed => committed.map_or(survey.low, |commit| commit.offset.max(survey.low)),
    };
    let mark = committed.map_or(Mark::None, |commit| mark::read(&commit.metadata));
    let offset = match committed {
        Some(commit) if mark.names_any(scopes) => match policies.database_lost {
            DatabaseLost::Refuse => {
                return Err(Error::new(
                    ErrorKind::DatabaseLost,
                    format!(
                        "{id}: Kafka's commit ({}) says that a database of idem had this position, \
                         but this one does not: it was restored, recreated, or is the wrong one. \
                         Connect to the right database; if it is lost, say where to start with \
                         `.database_lost(DatabaseLost::StartAt(..))`",
                        commit.offset
                    ),
                ));
            }
            DatabaseLost::StartAt(start) => resolve(start),
        },
        Some(commit) => match policies.start {
            Some(start) => resolve(start),
            None => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "{id}: the group committed offset {} before it used these handlers, so say \
                         where they start: `.start(Start::Committed)` goes on there, \
                         `.start(Start::Earliest)` processes everything that is in the log, \
                         `.start(Start::Latest)` only what comes from now on",
                        commit.offset
                    ),
                ));
            }
        },
        None if topic_is_known => survey.low,
        None => resolve(policies.start.unwrap_or(Start::Earliest)),
    };
    Ok(Position::at(offset))
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
