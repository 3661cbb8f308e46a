//! Working one batch to its end: attempts, what each of them means, and what is tried next.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::failure::handler_broke;
use crate::lane::Standing;
use crate::pipeline::attempt::{Attempt, Done, Passing, Trial, attempt};
use crate::pipeline::batch::{Batch, Kind};
use crate::pipeline::care::{Careful, Flight};
use crate::pipeline::failed::Failed;
use crate::pipeline::holding::Holding;
use crate::pipeline::isolate::Isolation;
use crate::pipeline::judge::Verdict;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::stats::Stats;
use crate::pipeline::stop::Stop;
use crate::store::Store;

/// How often a range of events fails in a row for reasons that pass by themselves before smaller
/// ones are tried: what comes before an event at which the database keeps failing is not to wait
/// for it, and a transaction that is too big to get through gets smaller. And how often the
/// connection is lost over one event before that counts as a failure of the event.
const SETBACKS: u32 = 3;

/// How long a lane waits before it looks again whether there is room to wait.
const FULL: Duration = Duration::from_secs(1);

/// What an attempt means for the events it tried.
enum Meaning {
    /// They are done.
    Done(Done),
    /// Try the same again.
    Again,
    /// Try the same again, or less: what stood in the way passes by itself, but does not always.
    Setback(Passing),
    /// One of them failed.
    Failed(Failed),
    /// There is no room to wait for this one.
    Full(usize, Error),
    /// Try what is before this one first.
    Apart(usize),
    /// Try what is before this one, and stop then.
    Stop(usize, Error),
    /// Try this one again after this pause.
    Wait(usize, Duration),
    /// The lane is not to go on like this.
    End(Tenure),
}

/// An attempt that only the lane's row can explain.
enum Doubt {
    Failed(Failed),
    Unknown,
    Moved,
}

/// What is kept from one attempt at a batch to the next.
struct Course {
    isolation: Isolation,
    passing: Backoff,
    /// An attempt whose commit may have landed, or may land yet.
    unknown: Option<(Range<usize>, Done)>,
    setbacks: u32,
    /// Setbacks in which the connection was lost over one event.
    lost: u32,
    /// When an event that failed may be tried again.
    due: Option<(usize, Instant)>,
}

impl<S: Store> Lane<S> {
    /// Works one batch to its end; `None` to go on with the next. With a `flight` its one event is
    /// alone in flight, now and each time it is tried again.
    pub(super) async fn batch(
        &self,
        holding: &mut Holding,
        mut batch: Batch<S>,
        calm: bool,
        flight: Option<Flight<'_>>,
    ) -> Option<Tenure> {
        let alone = flight.is_some();
        let mut flight = flight;
        let mut course = Course {
            isolation: Isolation::whole(batch.events.len()),
            passing: Backoff::for_store(),
            unknown: None,
            setbacks: 0,
            lost: 0,
            due: None,
        };
        while let Some(range) = course.isolation.next() {
            if self.stop.now() >= Stop::Finish {
                return Some(Tenure::Left);
            }
            if let Some((_, due)) = course.due.take_if(|(event, _)| *event == range.start) {
                let pause = due.saturating_duration_since(Instant::now());
                if let Some(end) = self.rest(pause, holding).await {
                    return Some(end);
                }
            }
            let offset = batch.events[range.start].offset;
            let flying = match flight.take() {
                Some(flight) => flight,
                None if alone => match self.alone(holding, offset).await {
                    Ok(flight) => flight,
                    Err(end) => return Some(end),
                },
                None => self.among().await,
            };
            let ended = match self.begin_outside(holding, &mut batch, &range).await {
                Some(ended) => ended,
                None => {
                    let group = &self.group;
                    let trial = Trial { group, holding, events: range.clone(), calm };
                    attempt(trial, &mut batch).await
                }
            };
            if self.group.is_outside() {
                self.ended_outside(holding, &mut batch, &range, &ended).await;
            }
            // What may have been committed has forgotten what is known of the event.
            let unknown = matches!(ended, Attempt::Unknown(..)) || course.unknown.is_some();
            let mut flying = Some(flying).filter(|_| !matches!(ended, Attempt::Committed(_)));
            if let Some(flying) = flying.take_if(|_| !unknown)
                && let Err(end) = self.landed(holding, offset, flying).await
            {
                return Some(end);
            }
            let meaning = self.meaning(holding, &range, ended, &mut course).await;
            if let Some(flying) = flying
                && !matches!(meaning, Meaning::Done(_))
                && let Err(end) = self.landed(holding, offset, flying).await
            {
                return Some(end);
            }
            if let Err(end) = self.follow(holding, &mut batch, range, meaning, &mut course).await {
                return Some(end);
            }
        }
        batch.end.map(Tenure::Failed)
    }

    /// Does what a meaning asks for.
    async fn follow(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        range: Range<usize>,
        meaning: Meaning,
        course: &mut Course,
    ) -> Result<(), Tenure> {
        match meaning {
            Meaning::Done(done) => {
                self.committed(holding, batch, range, &done);
                course.isolation.done();
                course.passing.reset();
                (course.setbacks, course.lost) = (0, 0);
                Ok(())
            }
            Meaning::Again => Ok(()),
            Meaning::Setback(passing) => self.set_back(holding, batch, passing, course).await,
            Meaning::Failed(failed) => {
                let Some(event) = failed.event.or_else(|| course.isolation.failed(None)) else {
                    return Ok(());
                };
                self.failed(holding, batch, event, &failed, course).await
            }
            Meaning::Apart(event) => {
                course.isolation.split(event);
                Ok(())
            }
            Meaning::Wait(event, pause) => {
                course.due = Some((event, Instant::now() + pause));
                Ok(())
            }
            Meaning::Stop(event, error) => {
                course.isolation.end(event);
                batch.end = Some(error);
                Ok(())
            }
            Meaning::Full(event, _) if event > range.start => {
                course.isolation.split(event);
                Ok(())
            }
            Meaning::Full(_, error) => {
                self.warn(&error, "the lane waits: there is no more room behind a key", FULL);
                if let Some(end) = self.rest(FULL, holding).await {
                    return Err(end);
                }
                // What makes room is done by this lane, too.
                match Box::pin(self.release(holding, Careful::OFF)).await {
                    Some(end) => Err(end),
                    None => Ok(()),
                }
            }
            Meaning::End(end) => Err(end),
        }
    }

    async fn set_back(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        passing: Passing,
        course: &mut Course,
    ) -> Result<(), Tenure> {
        Stats::add(&self.stats.repeated, 1);
        course.setbacks += 1;
        let alone = course.isolation.next().is_some_and(|range| range.len() == 1);
        course.lost += u32::from(passing.lost && alone);
        if course.setbacks >= SETBACKS {
            course.setbacks = 0;
            // Alone, it is no culprit: it is tried until it gets through. But if the connection is
            // lost each time, and the database answers now, then that is what the event does to it.
            if let Some(event) = course.isolation.failed(passing.at)
                && course.lost >= SETBACKS
            {
                course.lost = 0;
                self.standing(holding).await?;
                let failed = Failed::connection(event, passing.error);
                return self.failed(holding, batch, event, &failed, course).await;
            }
        }
        match self.rest(Duration::ZERO, holding).await {
            Some(end) => Err(end),
            None => Ok(()),
        }
    }

    /// Judges the failure of an event and plans what is tried next.
    async fn failed(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        event: usize,
        failed: &Failed,
        course: &mut Course,
    ) -> Result<(), Tenure> {
        match self.judge(holding, batch, event, failed).await? {
            Verdict::Retry(pause) => {
                course.due = Some((event, Instant::now() + pause));
                let _ = course.isolation.failed(Some(event));
            }
            Verdict::GivenUp => course.isolation.split(event),
            Verdict::Stop(error) => {
                course.isolation.end(event);
                batch.end = Some(error);
            }
        }
        Ok(())
    }

    /// Finds out what an attempt means; where the attempt itself cannot know, the row tells.
    async fn meaning(
        &self,
        holding: &Holding,
        range: &Range<usize>,
        ended: Attempt,
        course: &mut Course,
    ) -> Meaning {
        let doubt = match ended {
            Attempt::Committed(done) => {
                course.unknown = None;
                return Meaning::Done(done);
            }
            Attempt::Away(error) => {
                return match self.passes(&mut course.passing, &error).await {
                    true => Meaning::Again,
                    false => Meaning::End(Tenure::Left),
                };
            }
            Attempt::Transient(passing) => {
                return match self.passes(&mut course.passing, &passing.error).await {
                    true => Meaning::Setback(passing),
                    false => Meaning::End(Tenure::Left),
                };
            }
            Attempt::Full(event, error) => return Meaning::Full(event, error),
            Attempt::Stop(event, error) => return Meaning::Stop(event, error),
            Attempt::Wait(event, pause) => return Meaning::Wait(event, pause),
            Attempt::Apart(event) => return Meaning::Apart(event),
            Attempt::Failed(failed) if course.unknown.is_none() => return Meaning::Failed(failed),
            // Beside a commit that may have landed, a failure can be that commit's own effect.
            Attempt::Failed(failed) => Doubt::Failed(failed),
            Attempt::Unknown(done, error) => {
                course.unknown = Some((range.clone(), done));
                if !self.passes(&mut course.passing, &error).await {
                    return Meaning::End(Tenure::Left);
                }
                Doubt::Unknown
            }
            Attempt::Moved => Doubt::Moved,
        };
        let (standing, now) = match self.standing(holding).await {
            Ok(answer) => answer,
            Err(end) => return Meaning::End(end),
        };
        match (standing, doubt, course.unknown.take()) {
            // The commit had landed: it moved the row once, to where it wanted.
            (Standing::Ahead, _, Some((tried, done)))
                if tried == *range
                    && now.revision == holding.row.revision + 1
                    && now.position.offset == done.position.offset =>
            {
                Meaning::Done(done)
            }
            (Standing::Held, Doubt::Failed(failed), before) => {
                course.unknown = before;
                Meaning::Failed(failed)
            }
            // Trying again goes through the claim and the seal, which wait for what may land yet.
            (Standing::Held, Doubt::Unknown, before) => {
                course.unknown = before;
                Meaning::Again
            }
            // The seal waited for what might have landed, and it had not. Should it land after all,
            // the row is found ahead.
            (Standing::Held, Doubt::Moved, Some(_)) => Meaning::Again,
            // The row is ours and untouched, so the seal met another transaction than was begun.
            (Standing::Held, Doubt::Moved, None) => {
                Meaning::Failed(Failed::nobody(handler_broke()))
            }
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
    fn committed(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        range: Range<usize>,
        done: &Done,
    ) {
        let row = &mut holding.row;
        row.revision += 1;
        row.position = done.position;
        if batch.kind == Kind::Delivered {
            for scope in self.group.offset_scopes(&row.id.topic) {
                let mark = row.offset_marks.entry(scope.to_owned()).or_default();
                *mark = done.position.offset.max(*mark);
            }
        }
        for learnt in &done.learnt {
            if let Some(open) = holding.windows.of(learnt.handler) {
                open.learn(learnt);
            }
        }
        holding.stale.clear();
        if !row.attempts.is_empty() {
            let events = &batch.events[range.clone()];
            row.attempts.retain(|it| events.iter().all(|event| event.offset != it.offset));
        }
        if done.calm {
            row.deaths = 0;
        }
        self.remember_parked(holding, batch, &range, done);
        self.remember_released(holding, batch, &range, done);
        if holding.slice.is_none() {
            self.seat.hold(Some((holding.held(), holding.row.identity.clone())));
            self.seat.resolve(holding.row.position);
        }
        self.report(batch, range, done);
    }
}
