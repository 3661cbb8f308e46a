//! Working one batch to its end: attempts, what each of them means, and what is tried next.

use std::ops::Range;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::event::Event;
use crate::lane::{LaneRow, Standing};
use crate::marker::MarkerMode;
use crate::outcome::Decision;
use crate::pipeline::attempt::{Attempt, Done, attempt};
use crate::pipeline::batch::Batch;
use crate::pipeline::isolate::Isolation;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::policy::Verdict;
use crate::pipeline::stats::Stats;
use crate::pipeline::stop::Stop;
use crate::process::handler_broke;
use crate::store::Store;

/// What an attempt means for the events it tried.
enum Meaning {
    /// They are done.
    Done(Done),
    /// Try the same again.
    Again,
    /// One of them failed.
    Failed(Option<usize>, Error),
    /// The lane is not to go on like this.
    End(Tenure),
}

impl<S: Store> Lane<S> {
    /// Works one batch to its end; `None` to go on with the next.
    pub(super) async fn batch(&self, row: &mut LaneRow, events: Vec<Event>) -> Option<Tenure> {
        let mut batch = Batch::prepare(&self.group, events);
        let mut isolation = Isolation::whole(batch.events.len());
        let mut passing = Backoff::for_store();
        let mut retry = self.settings.retry.backoff();
        // An attempt whose commit may have landed, or may land yet.
        let mut unknown = None;

        while let Some(range) = isolation.next() {
            if self.stop.now() >= Stop::Finish {
                return Some(Tenure::Left);
            }
            let held = row.held();
            let marks = &row.offset_marks;
            let ended = attempt(&self.group, &mut batch, range.clone(), &held, marks).await;
            match self.meaning(row, &range, ended, &mut unknown, &mut passing).await {
                Meaning::Done(done) => {
                    self.committed(row, &batch, range, &done);
                    isolation.done();
                    passing.reset();
                    retry.reset();
                }
                Meaning::Again => {}
                Meaning::Failed(at, error) => {
                    let Some(culprit) = isolation.failed(at) else { continue };
                    let Verdict::RetryAfter(pause) =
                        self.settings.retry.verdict(&error, &mut retry);
                    self.say_failed(&batch.events[culprit], &error, pause);
                    if self.pause(pause).await {
                        return Some(Tenure::Left);
                    }
                }
                Meaning::End(end) => return Some(end),
            }
        }
        batch.refused.map(|refused| Tenure::Failed(refused.into_error()))
    }

    /// Finds out what an attempt means; where the attempt itself cannot know, the row tells.
    async fn meaning(
        &self,
        row: &LaneRow,
        range: &Range<usize>,
        ended: Attempt,
        unknown: &mut Option<(Range<usize>, Done)>,
        passing: &mut Backoff,
    ) -> Meaning {
        let failed = match ended {
            Attempt::Committed(done) => {
                *unknown = None;
                return Meaning::Done(done);
            }
            Attempt::Transient(error) => {
                let pause = passing.next();
                self.warn(&error, "the database failed, trying again", pause);
                return match self.pause(pause).await {
                    true => Meaning::End(Tenure::Left),
                    false => Meaning::Again,
                };
            }
            Attempt::Failed(at, error) if unknown.is_none() => return Meaning::Failed(at, error),
            // Beside a commit that may have landed, a failure can be that commit's own effect.
            Attempt::Failed(at, error) => Some((at, error)),
            Attempt::Unknown(done, error) => {
                self.warn(&error, "the end of a commit is unknown, asking", Duration::ZERO);
                *unknown = Some((range.clone(), done));
                None
            }
            Attempt::Moved => None,
        };
        let (standing, now) = match self.standing(row).await {
            Ok(answer) => answer,
            Err(end) => return Meaning::End(end),
        };
        match (standing, failed, unknown.take()) {
            // The commit had landed: it moved the row once, to where it wanted.
            (Standing::Ahead, _, Some((tried, done)))
                if tried == *range
                    && now.revision == row.revision + 1
                    && now.position.offset == done.position.offset =>
            {
                Meaning::Done(done)
            }
            (Standing::Held, Some((at, error)), before) => {
                *unknown = before;
                Meaning::Failed(at, error)
            }
            // Trying again goes through the claim and the seal, which wait for what may land yet.
            (Standing::Held, None, before @ Some(_)) => {
                *unknown = before;
                Meaning::Again
            }
            // The row is ours and untouched, so the seal met another transaction than was begun.
            (Standing::Held, None, None) => Meaning::Failed(None, handler_broke()),
            (standing, _, _) => Meaning::End(Tenure::Lost(standing)),
        }
    }

    /// Asks the database how the lane stands, until it answers.
    pub(super) async fn standing(&self, row: &LaneRow) -> Result<(Standing, LaneRow), Tenure> {
        let held = row.held();
        let mut backoff = Backoff::for_store();
        loop {
            match self.group.store.read(&held).await {
                Ok(None) => return Err(Tenure::Lost(Standing::Gone)),
                Ok(Some(now)) => {
                    let standing = held.standing(Some((now.token, now.revision)));
                    return Ok((standing, now));
                }
                Err(error) => {
                    let pause = backoff.next();
                    self.warn(&error, "the lane's row cannot be read, trying again", pause);
                    if self.pause(pause).await {
                        return Err(Tenure::Left);
                    }
                }
            }
        }
    }

    /// Memory follows a confirmed commit.
    fn committed(&self, row: &mut LaneRow, batch: &Batch<S>, range: Range<usize>, done: &Done) {
        row.revision += 1;
        row.position = done.position;
        for handler in &self.group.handlers {
            if handler.mode() == MarkerMode::Offset {
                let mark = row.offset_marks.entry(handler.scope.to_owned()).or_default();
                *mark = done.position.offset.max(*mark);
            }
        }
        self.seat.hold(Some((row.held(), row.identity.clone())));
        self.seat.resolve(row.position);

        let duplicates = done.decisions.iter().filter(|it| **it == Decision::Duplicate).count();
        Stats::add(&self.stats.delivered, range.len());
        Stats::add(&self.stats.duplicates, duplicates);
        Stats::add(&self.stats.processed, done.decisions.len() - duplicates);
        Stats::add(&self.stats.batches, 1);
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        for (task, decision) in batch.tasks[batch.tasks_of(&range)].iter().zip(&done.decisions) {
            let event = &batch.events[task.event];
            tracing::debug!(
                scope = self.group.handlers[task.handler].scope,
                key = %task.key,
                topic = %event.topic,
                partition = event.partition,
                offset = event.offset,
                outcome = decision.as_str(),
                "idem"
            );
        }
    }

    fn say_failed(&self, event: &Event, error: &Error, pause: Duration) {
        Stats::add(&self.stats.retried, 1);
        tracing::warn!(
            topic = %event.topic,
            partition = event.partition,
            offset = event.offset,
            outcome = Decision::Retried.as_str(),
            error = %error.report(),
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "the event failed and is tried again; its lane waits, others go on"
        );
    }
}
