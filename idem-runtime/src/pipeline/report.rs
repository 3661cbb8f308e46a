//! What is said and counted of a committed attempt.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::dead_letter::Cause;
use crate::outcome::Decision;
use crate::pipeline::attempt::Done;
use crate::pipeline::batch::{Batch, Kind, Task};
use crate::pipeline::lane::Lane;
use crate::pipeline::stats::Stats;
use crate::routing::{Readers, Unmatched};
use crate::store::Store;

impl<S: Store> Lane<S> {
    pub(super) fn report(&self, batch: &Batch<S>, range: Range<usize>, done: &Done) {
        let count = |decision| done.decisions.iter().filter(|it| **it == decision).count();
        let stats = &self.stats;
        let processed = count(Decision::Processed);
        Stats::add(&stats.batches, 1);
        Stats::add(&stats.processed, processed);
        Stats::add(&stats.duplicates, count(Decision::Duplicate));
        Stats::add(&stats.stale, count(Decision::Stale));
        Stats::add(&stats.dead_lettered, count(Decision::DeadLettered));
        if batch.unmarked {
            self.say_unmarked(batch, &range, done);
        }
        match batch.kind {
            Kind::Delivered => {
                Stats::add(&stats.delivered, range.len());
                Stats::add(&stats.parked, count(Decision::Parked));
            }
            // What is parked still, or again, was counted when it was first.
            Kind::Released(_) => Stats::add(&stats.released, processed),
        }
        let unmatched = batch.unmatched_of(&range);
        if !unmatched.is_empty() {
            Stats::add(&stats.unmatched, unmatched.len());
            self.say_unmatched(batch, unmatched);
        }
        if !done.reused.is_empty() {
            self.say_reused(batch, &range, done);
        }
        let debug = tracing::enabled!(tracing::Level::DEBUG);
        if !debug && processed == done.decisions.len() {
            return;
        }
        let tasks = &batch.tasks[batch.tasks_of(&range)];
        for (index, (task, decision)) in tasks.iter().zip(&done.decisions).enumerate() {
            let stale = done.stale.iter().find(|(it, _)| *it == index).map(|(_, cause)| cause);
            if matches!(decision, Decision::DeadLettered | Decision::Parked)
                && let Some(cause) = task.given_up.as_deref().or(stale)
            {
                self.say_given_up(batch, task, cause, *decision);
            }
            if debug {
                self.say_decided(batch, task, *decision);
            }
        }
    }

    /// Each at debug level, and each type now and then at warn level.
    fn say_unmatched(&self, batch: &Batch<S>, unmatched: &[usize]) {
        let readers = Readers::of(&self.group, &self.seat.id.topic);
        let kept = self.group.rules.unmatched == Unmatched::DeadLetter;
        let outcome = if kept { "dead_lettered" } else { "ignored" };
        for event in unmatched {
            let event = &batch.events[*event];
            let why = readers.why_not(&self.group.name, event);
            tracing::debug!(
                topic = %event.topic,
                partition = event.partition,
                offset = event.offset,
                outcome,
                "{why}"
            );
            if self.group.told.is_news(&why) {
                tracing::warn!(
                    topic = %event.topic,
                    partition = event.partition,
                    offset = event.offset,
                    outcome,
                    "{why}; it is counted, and named again at most every five minutes"
                );
            }
        }
    }

    /// Without a key nothing keeps an event from being worked again. Said of the first and then of every
    /// thousandth: it is what the handler asks for, and somebody should know how often it happens.
    fn say_unmarked(&self, batch: &Batch<S>, range: &Range<usize>, done: &Done) {
        const EVERY: u64 = 1000;
        let tasks = batch.tasks[batch.tasks_of(range)].iter().zip(&done.decisions);
        for (task, decision) in tasks {
            if !task.is_unmarked() || *decision != Decision::Processed {
                continue;
            }
            let before = self.stats.unmarked.fetch_add(1, Relaxed);
            if before.is_multiple_of(EVERY) {
                let event = &batch.events[task.event];
                tracing::warn!(
                    scope = self.group.handlers[task.handler].scope,
                    topic = %event.topic,
                    partition = event.partition,
                    offset = event.offset,
                    so_far = before + 1,
                    "an event without a key was processed without a guarantee: delivered again, it \
                     is processed again"
                );
            }
        }
    }

    /// One key was given to two events: somebody loses the second of them.
    fn say_reused(&self, batch: &Batch<S>, range: &Range<usize>, done: &Done) {
        Stats::add(&self.stats.key_reused, done.reused.len());
        let tasks = &batch.tasks[batch.tasks_of(range)];
        for reuse in &done.reused {
            let task = &tasks[reuse.index];
            let event = &batch.events[task.event];
            let first = reuse.first.as_ref();
            tracing::warn!(
                scope = self.group.handlers[task.handler].scope,
                key = task.key().map(tracing::field::display),
                topic = %event.topic,
                partition = event.partition,
                offset = event.offset,
                first_topic = first.map(|it| it.topic.as_str()),
                first_partition = first.map(|it| it.partition),
                first_offset = first.map(|it| it.offset),
                outcome = done.decisions[reuse.index].as_str(),
                "another payload arrived under a key that was processed before: one key was given to \
                 two events"
            );
        }
    }

    fn say_decided(&self, batch: &Batch<S>, task: &Task, decision: Decision) {
        let event = &batch.events[task.event];
        tracing::debug!(
            scope = self.group.handlers[task.handler].scope,
            key = task.key().map(tracing::field::display),
            topic = %event.topic,
            partition = event.partition,
            offset = event.offset,
            outcome = decision.as_str(),
            correlation_id = self.group.rules.correlation.correlation_of(event),
            causation_id = self.group.rules.correlation.causation_of(event),
            "idem"
        );
    }

    /// Somebody should look at it. One that waits behind another is no news.
    fn say_given_up(&self, batch: &Batch<S>, task: &Task, cause: &Cause, decision: Decision) {
        let event = &batch.events[task.event];
        tracing::error!(
            scope = self.group.handlers[task.handler].scope,
            key = task.key().map(tracing::field::display),
            topic = %event.topic,
            partition = event.partition,
            offset = event.offset,
            outcome = decision.as_str(),
            class = cause.class.as_str(),
            attempts = cause.attempts,
            error = cause.error,
            correlation_id = self.group.rules.correlation.correlation_of(event),
            causation_id = self.group.rules.correlation.causation_of(event),
            "the event was given up on and is a dead letter"
        );
    }
}
