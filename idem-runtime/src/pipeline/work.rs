//! Working one batch to its end: attempts, what each of them means, and what is tried next.

use std::ops::Range;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::lane::{LaneRow, Standing};
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

/// How often a range of events fails in a row for reasons that pass by themselves before smaller
/// ones are tried: what comes before an event at which the database keeps failing is not to wait
/// for it, and a transaction that is too big to get through gets smaller.
const SETBACKS: u32 = 3;

/// What an attempt means for the events it tried.
enum Meaning {
    /// They are done.
    Done(Done),
    /// Try the same again.
    Again,
    /// Try the same again, or less: what stood in the way passes by itself, but does not always.
    Setback(Option<usize>),
    /// One of them failed.
    Failed(Option<usize>, Error),
    /// The lane is not to go on like this.
    End(Tenure),
}

/// An attempt that only the lane's row can explain.
enum Doubt {
    Failed(Option<usize>, Error),
    Unknown,
    Moved,
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
        let mut setbacks = 0;

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
                    setbacks = 0;
                }
                Meaning::Again => {}
                Meaning::Setback(at) => {
                    setbacks += 1;
                    if setbacks == SETBACKS {
                        setbacks = 0;
                        // Alone, it is no culprit: it is tried until it gets through.
                        let _ = isolation.failed(at);
                    }
                    if let Some(end) = self.rest(Duration::ZERO, row).await {
                        return Some(end);
                    }
                }
                Meaning::Failed(at, error) => {
                    let Some(culprit) = isolation.failed(at) else { continue };
                    if at.is_none() {
                        batch.blame(culprit);
                    }
                    let Verdict::RetryAfter(pause) =
                        self.settings.retry.verdict(&error, &mut retry);
                    self.say_failed(&batch.events[culprit], &error, pause);
                    if let Some(end) = self.rest(pause, row).await {
                        return Some(end);
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
        let doubt = match ended {
            Attempt::Committed(done) => {
                *unknown = None;
                return Meaning::Done(done);
            }
            Attempt::Away(error) => {
                return match self.passes(passing, &error).await {
                    true => Meaning::Again,
                    false => Meaning::End(Tenure::Left),
                };
            }
            Attempt::Transient(at, error) => {
                return match self.passes(passing, &error).await {
                    true => Meaning::Setback(at),
                    false => Meaning::End(Tenure::Left),
                };
            }
            Attempt::Failed(at, error) if unknown.is_none() => return Meaning::Failed(at, error),
            // Beside a commit that may have landed, a failure can be that commit's own effect.
            Attempt::Failed(at, error) => Doubt::Failed(at, error),
            Attempt::Unknown(done, error) => {
                *unknown = Some((range.clone(), done));
                if !self.passes(passing, &error).await {
                    return Meaning::End(Tenure::Left);
                }
                Doubt::Unknown
            }
            Attempt::Moved => Doubt::Moved,
        };
        let (standing, now) = match self.standing(row).await {
            Ok(answer) => answer,
            Err(end) => return Meaning::End(end),
        };
        match (standing, doubt, unknown.take()) {
            // The commit had landed: it moved the row once, to where it wanted.
            (Standing::Ahead, _, Some((tried, done)))
                if tried == *range
                    && now.revision == row.revision + 1
                    && now.position.offset == done.position.offset =>
            {
                Meaning::Done(done)
            }
            (Standing::Held, Doubt::Failed(at, error), before) => {
                *unknown = before;
                Meaning::Failed(at, error)
            }
            // Trying again goes through the claim and the seal, which wait for what may land yet.
            (Standing::Held, Doubt::Unknown, before) => {
                *unknown = before;
                Meaning::Again
            }
            // The seal waited for what might have landed, and it had not. Should it land after all,
            // the row is found ahead.
            (Standing::Held, Doubt::Moved, Some(_)) => Meaning::Again,
            // The row is ours and untouched, so the seal met another transaction than was begun.
            (Standing::Held, Doubt::Moved, None) => Meaning::Failed(None, handler_broke()),
            (standing, _, _) => Meaning::End(Tenure::Lost(standing)),
        }
    }

    /// Waits for what passes by itself; answers whether the lane goes on.
    async fn passes(&self, passing: &mut Backoff, error: &Error) -> bool {
        let pause = passing.next();
        let what = match error.kind() {
            ErrorKind::UnknownCommit => "the end of a commit is unknown, asking the database",
            _ => "the database failed, trying again",
        };
        self.warn(error, what, pause);
        !self.pause(pause).await
    }

    /// Memory follows a confirmed commit.
    fn committed(&self, row: &mut LaneRow, batch: &Batch<S>, range: Range<usize>, done: &Done) {
        row.revision += 1;
        row.position = done.position;
        for scope in self.group.offset_scopes(&row.id.topic) {
            let mark = row.offset_marks.entry(scope.to_owned()).or_default();
            *mark = done.position.offset.max(*mark);
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
