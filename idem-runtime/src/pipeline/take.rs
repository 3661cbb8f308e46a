//! Taking a lane: the row first, then what Kafka knows, then the decision of [`start`].

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::lane::{LaneId, LaneRow, Owner};
use crate::pipeline::policy::Policies;
use crate::pipeline::source::{Seat, Source, Survey};
use crate::pipeline::start::{self, Decided, Moves};
use crate::pipeline::stats::Stats;
use crate::store::{NewLog, Reposition, Store};

/// How often a position past the log's end is looked at again: after a leader change the end can
/// seem lower for a moment.
const LOOKS: u32 = 4;

/// What the source knows of a lane's partition.
pub(crate) async fn survey(source: &dyn Source, id: &LaneId) -> Result<Survey> {
    let surveys = source.survey(&id.topic, Some(id.partition)).await?;
    surveys.into_iter().find(|survey| survey.partition == id.partition).ok_or_else(|| {
        Error::new(ErrorKind::Kafka, format!("{id}: the broker does not know this partition"))
    })
}

pub(crate) struct Taking<'a, S: Store> {
    pub(crate) group: &'a Group<S>,
    pub(crate) owner: &'a Owner,
    pub(crate) seat: &'a Arc<Seat>,
    pub(crate) source: &'a dyn Source,
    pub(crate) policies: &'a Policies,
    pub(crate) stats: &'a Stats,
    /// Whether this owner held or wanted the lane before. Then it is taken only once the broker
    /// answers: one that lost the broker and not the database would fence, time and again, the
    /// owner that has both.
    pub(crate) again: bool,
}

impl<S: Store> Taking<'_, S> {
    /// Takes the lane and answers its row, positioned where it starts.
    ///
    /// # Errors
    /// Retryable ones pass by themselves; any other is for a person, and the lane stops with it.
    pub(crate) async fn take(&self) -> Result<LaneRow> {
        let id = &self.seat.id;
        if self.again {
            self.survey().await?;
        }
        loop {
            let Some(mut row) = self.group.store.take(id, self.owner).await? else {
                self.open().await?;
                continue;
            };
            let (decided, survey) = self.decide(&row).await?;
            if let Some(warning) = &decided.warning {
                tracing::warn!(
                    group = %id.group,
                    topic = %id.topic,
                    partition = id.partition,
                    "{warning}"
                );
            }
            let before = decided.moves.filter(|moves| *moves != Moves::Settle);
            if let Some(moves) = before {
                self.reposition(&mut row, &decided, &survey, moves).await?;
            }
            if decided.mark {
                // Before any event is worked: an unmarked commit below the row is a rewind, and
                // would be one again at the next start.
                self.source.mark(self.seat, decided.position).await?;
            }
            if decided.moves == Some(Moves::Settle) {
                self.reposition(&mut row, &decided, &survey, Moves::Settle).await?;
            }
            return Ok(row);
        }
    }

    async fn decide(&self, row: &LaneRow) -> Result<(Decided, Survey)> {
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            let survey = self.survey().await?;
            let beyond = row.reach() > survey.high;
            if beyond && backoff.tries() < LOOKS {
                backoff.wait().await;
                continue;
            }
            return Ok((start::with_row(row, &survey, self.policies)?, survey));
        }
    }

    async fn survey(&self) -> Result<Survey> {
        survey(self.source, &self.seat.id).await
    }

    async fn reposition(
        &self,
        row: &mut LaneRow,
        decided: &Decided,
        survey: &Survey,
        moves: Moves,
    ) -> Result<()> {
        // A gap alone does not make it another log: what offset mode remembers stays. A log that
        // lost its tail gives those offsets to other events.
        let new_log = match moves {
            Moves::LogChanged if row.identity.difference(&survey.identity).is_some() => {
                Some(NewLog::Another)
            }
            Moves::LogChanged if row.reach() > survey.high => Some(NewLog::Shorter(survey.high)),
            _ => None,
        };
        let identity = survey.identity.or(&row.identity);
        let to =
            Reposition { position: decided.position, identity: &identity, new_log, slices: &[] };
        if !self.group.store.reposition(&row.held(), &to).await? {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!("{}: another owner took the lane", row.id),
            ));
        }
        row.revision += 1;
        row.handled_to = match new_log {
            None => row.handled_to.max(row.position.offset),
            Some(NewLog::Another) => 0,
            Some(NewLog::Shorter(high)) => row.handled_to.max(row.position.offset).min(high),
        };
        row.position = decided.position;
        row.identity = identity;
        if new_log.is_some() {
            row.offset_marks.clear();
            row.attempts.clear();
        }
        if moves == Moves::Rewind {
            Stats::add(&self.stats.rewinds, 1);
        }
        Ok(())
    }
}
