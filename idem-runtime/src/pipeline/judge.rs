//! What becomes of an event that failed: another attempt, a dead letter, or the end of the lane.

use std::time::{Duration, SystemTime};

use crate::dead_letter::Cause;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::outcome::Decision;
use crate::pipeline::batch::{Batch, stopping};
use crate::pipeline::failed::Failed;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::stats::Stats;
use crate::policy::OnFailure;
use crate::store::Store;

/// What is to be done with an event that failed.
pub(super) enum Verdict {
    /// It is tried again in place after this pause; its lane waits, others go on.
    Retry(Duration),
    /// It was given up on, for one handler at least: what is left of it is tried, and that written
    /// down.
    GivenUp,
    /// The lane stops before it.
    Stop(Error),
}

impl<S: Store> Lane<S> {
    /// Judges a failure of this event.
    pub(super) async fn judge(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        event: usize,
        failed: &Failed,
    ) -> Result<Verdict, Tenure> {
        let mut pause = None;
        let mut given_up = false;
        for index in batch.tasks_of(&(event..event + 1)) {
            let task = &batch.tasks[index];
            // A failure that names no handler is that of all who were run.
            let ran = failed.ran.as_ref().is_none_or(|ran| ran.contains(&index));
            let blamed = ran && failed.handler.is_none_or(|handler| handler == task.handler);
            if !blamed || task.given_up.is_some() {
                continue;
            }
            let handler = &self.group.handlers[task.handler];
            let source = &batch.events[event];
            let row = holding.attempts_mut(handler.scope, source.offset);
            if row.failures == 0 {
                row.first_failed_at = SystemTime::now();
            }
            row.failures = row.failures.saturating_add(1);
            let (failures, first_failed_at) = (row.failures, row.first_failed_at);
            let retry = handler.retry();
            let after = retry.pause(failures);
            // A clock that was set back makes it young.
            let since = first_failed_at.elapsed().unwrap_or_default();
            if !failed.permanent && retry.allows(failures, since, after) {
                pause = pause.max(Some(after));
                self.note(holding, handler.scope, source.offset).await?;
                continue;
            }
            if handler.on_failure() == OnFailure::Stop {
                let why = format!("the event failed for good: {}", failed.text);
                let error = stopping(source, handler.scope, &why, ErrorKind::Stopped);
                return Ok(Verdict::Stop(error));
            }
            batch.tasks[index].given_up = Some(Box::new(Cause {
                class: failed.class,
                permanent: failed.permanent,
                error: failed.text.clone(),
                attempts: failures,
                first_failed_at,
            }));
            given_up = true;
        }
        Ok(match pause {
            Some(pause) => {
                self.say_retried(&batch.events[event], &failed.error, pause);
                Verdict::Retry(pause)
            }
            None if given_up => Verdict::GivenUp,
            // Nobody was run: what failed is idem's own, and not for ever.
            None => {
                let pause = Duration::from_secs(1);
                self.warn(&failed.error, "an event cannot be written down, trying again", pause);
                Verdict::Retry(pause)
            }
        })
    }

    fn say_retried(&self, event: &Event, error: &Error, pause: Duration) {
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
