//! Effects outside of the database: an attempt is written down before it begins, in a transaction of
//! its own.
//!
//! Such an event is alone in its batch. Its marker says "begun" and whose attempt it is; the transaction
//! that follows takes over the marker of that attempt and of no other. Whoever finds a marker of another
//! attempt gives it the time that an attempt can take, unless it is known to be over, and does then what
//! the handler's [`UnknownEnd`](crate::UnknownEnd) says.

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::dead_letter::{Cause, FailureClass};
use crate::effects::{Begun, Probed, UNKNOWN, Verdict, can_take, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Encoded;
use crate::key::Key;
use crate::marker::MarkerState;
use crate::outcome::Decision;
use crate::outside::{Other, Seen, is_of_lane, number_in, put_back, write_down};
use crate::packed::Digest;
use crate::pipeline::attempt::{Attempt, Done, Ended, Passing, Trial};
use crate::pipeline::batch::{Batch, Kind, Task, stopping};
use crate::pipeline::claim::Keyed;
use crate::pipeline::failed::Failed;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::Lane;
use crate::pipeline::packing::knows;
use crate::pipeline::plan::Intent;
use crate::pipeline::windows::Open;
use crate::policy::OnFailure;
use crate::store::{Claim, Seal, Sealed, Store, Terms, Writer};

/// How long a lane waits before it looks again at a marker that has changed under it.
const CHANGED: Duration = Duration::from_millis(100);

/// What is known of a task's attempt outside of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// There is none.
    No,
    /// This one is begun: ours, or one that is given up on.
    Begun(Uuid),
    /// This one had happened: there is nothing to run.
    Done(Uuid),
}

impl Outside {
    /// The attempt whose marker is taken over.
    pub(crate) fn attempt(self) -> Option<Uuid> {
        match self {
            Self::No => None,
            Self::Begun(attempt) | Self::Done(attempt) => Some(attempt),
        }
    }
}

/// The number of an attempt of the lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    id: Uuid,
    /// Whether its handler may be running. If it is found so by the next attempt at its event, the lane
    /// was lost and the handler dropped: its end is not known.
    flying: bool,
}

/// An event of a handler that packed before.
struct Packed {
    open: Arc<Open>,
    digest: Digest,
    /// Whether it lies so far back that the window may have forgotten it.
    is_old: bool,
}

/// What the window is asked of an event, if its handler has one from when it packed: not of one that waited
/// under the same key, as its marker says so.
fn packed<S: Store>(holding: &Holding, batch: &Batch<S>, index: usize) -> Option<Packed> {
    let task = &batch.tasks[index];
    let (open, key) = (holding.windows.of(task.handler)?, task.key()?);
    let is_delivered = batch.kind == Kind::Delivered;
    let is_old = is_delivered && batch.events[task.event].offset < open.floor;
    let packed = Packed { open: Arc::clone(open), digest: open.digest(key), is_old };
    (is_delivered || batch.was_rekeyed(task.event, key)).then_some(packed)
}

impl<S: Store> Lane<S> {
    /// Writes down that the event of this range is begun, if its handler asks for that; answers how the
    /// attempt has ended before it began.
    pub(super) async fn begin_outside(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        range: &Range<usize>,
    ) -> Option<Attempt> {
        if !self.group.is_outside() {
            return None;
        }
        batch.ran = false;
        let index = match batch.tasks_of(range).collect::<Vec<_>>()[..] {
            [] => return None,
            [index] => index,
            // One by one, whatever came together: released events, or what a former release took.
            [_, second, ..] => return Some(Attempt::Apart(batch.tasks[second].event)),
        };
        let task = &batch.tasks[index];
        let (scope, policy, timeout) = {
            let handler = &self.group.handlers[task.handler];
            (handler.scope, handler.policy.unknown_end, handler.policy.timeout)
        };
        let (Some(policy), Some(key), None) = (policy, task.key().cloned(), &task.given_up) else {
            return None;
        };
        if let Outside::Done(_) = task.outside {
            return None;
        }
        batch.tasks[index].outside = Outside::No;
        let offset = batch.events[range.start].offset;
        let own = self.attempt_at(&holding.row.id, offset);
        let mut over = None;
        loop {
            let other = match self.write_down(holding, batch, index, own, over).await {
                Ok(Seen::Begun { .. }) => {
                    batch.tasks[index].outside = Outside::Begun(own);
                    self.fly(offset, true);
                    return None;
                }
                Ok(Seen::Known) => return None,
                Ok(Seen::Fenced) => return Some(Attempt::Moved),
                Ok(Seen::Changed) => return Some(Attempt::Wait(range.start, CHANGED)),
                Ok(Seen::Other(other)) => other,
                Err(ended) => return Some(ended),
            };
            let time = match self.is_over(&holding.row.id, other.attempt) {
                true => Duration::ZERO,
                false => can_take(timeout),
            };
            match policy.verdict(other.age, time) {
                Verdict::Again => over = Some(other.attempt),
                Verdict::Wait(rest) => {
                    let message = format!("scope {scope}, offset {offset}: {UNKNOWN}");
                    let error = Error::new(ErrorKind::Handler, message);
                    let pause = pause(other.age, rest);
                    self.warn(&error, "the lane waits before it looks again", pause);
                    // Not here: whoever is in flight holds up those who have to be alone.
                    return Some(Attempt::Wait(range.start, pause));
                }
                Verdict::GiveUp => {
                    return self.give_up_outside(batch, index, other.attempt, UNKNOWN);
                }
                Verdict::Ask => match self.ask(batch, index, (scope, &key, &other)).await {
                    Ok(Probed::NotDone) => over = Some(other.attempt),
                    Ok(Probed::Done) => {
                        batch.tasks[index].outside = Outside::Done(other.attempt);
                        return None;
                    }
                    Ok(Probed::Unknown) => {
                        let why = format!("{UNKNOWN}, not even to its probe");
                        return self.give_up_outside(batch, index, other.attempt, &why);
                    }
                    Err(failed) => return Some(Attempt::Failed(failed)),
                },
            }
        }
    }

    /// In a transaction of its own, sealed like any other: a late owner begins nothing. With `over` that
    /// attempt is taken over.
    async fn write_down(
        &self,
        holding: &mut Holding,
        batch: &mut Batch<S>,
        index: usize,
        own: Uuid,
        over: Option<Uuid>,
    ) -> Result<Seen, Attempt> {
        let store = &self.group.store;
        let held = holding.held();
        let writer = Writer::Lane(&held);
        let passing = |error: Error| Attempt::Transient(Passing { at: None, lost: false, error });
        let mut tx = store.begin(&writer, &Terms::default()).await.map_err(Attempt::Away)?;
        let seen = {
            let task = &batch.tasks[index];
            let Some(key) = task.key() else { return Ok(Seen::Known) };
            let event = &batch.events[task.event];
            let correlation = &self.group.rules.correlation;
            let claim = Claim {
                offset: Some(event.offset),
                correlation: correlation.correlation_of(event),
                causation: correlation.causation_of(event),
                fingerprint: task.fingerprint,
                state: MarkerState::Begun,
                attempt: Some(own),
                // It waited, and its marker says so.
                reclaim: batch.kind != Kind::Delivered,
                ..Claim::new(self.group.handlers[task.handler].scope, key)
            };
            write_down(store, &mut tx, &writer, claim, over).await
        };
        // Where nobody has a row of it, it may be packed.
        let packed = packed(holding, batch, index);
        let seen = match (seen, packed) {
            (Ok(Seen::Begun { is_new: true }), Some(Packed { is_old: true, .. })) => {
                Ok(Seen::Known)
            }
            (Ok(begun @ Seen::Begun { is_new: true }), Some(Packed { open, digest, .. })) => {
                let known = knows(store, &open, &mut tx, digest).await;
                known.map(|known| if known { Seen::Known } else { begun })
            }
            (seen, _) => seen,
        };
        match seen {
            Ok(Seen::Begun { .. }) => {}
            Ok(seen) => {
                store.rollback(tx).await;
                return Ok(seen);
            }
            Err(error) => {
                store.rollback(tx).await;
                return Err(passing(error));
            }
        }
        let seal = Seal { position: held.position, offset_scopes: &[] };
        match store.seal(&mut tx, &writer, Some(&seal)).await {
            Ok(Sealed::Yes) => {}
            Ok(Sealed::No) => {
                store.rollback(tx).await;
                return Ok(Seen::Fenced);
            }
            Err(error) => {
                store.rollback(tx).await;
                return Err(passing(error));
            }
        }
        match store.commit(tx).await {
            Ok(()) => {
                holding.row.revision += 1;
                if holding.slice.is_none() {
                    self.seat.hold(Some((holding.held(), holding.row.identity.clone())));
                }
                Ok(Seen::Begun { is_new: false })
            }
            // An end that is not known, too: if it has landed, the next seal finds the lane ahead, and the
            // attempt is known by its number then.
            Err(error) => Err(passing(error)),
        }
    }

    /// After an attempt: whether its end is known. A handler that returned an error has failed, and what
    /// was written down is taken back; of one that succeeded the commit speaks. Otherwise the next
    /// attempt finds this one as another's.
    pub(super) async fn ended_outside(
        &self,
        holding: &Holding,
        // As everywhere here: what works on it is not `Sync`.
        batch: &mut Batch<S>,
        range: &Range<usize>,
        ended: &Attempt,
    ) {
        let offset = batch.events[range.start].offset;
        let tasks = batch.tasks_of(range);
        let own = tasks.clone().find(|index| {
            let begun = batch.tasks[*index].outside;
            matches!(begun, Outside::Begun(attempt) if self.is_own(offset, attempt))
        });
        let ran = batch.ran;
        match (own, ended) {
            (Some(index), Attempt::Committed(done)) => {
                // It waits still, behind one that failed.
                if done.intents.get(index - tasks.start) == Some(&Intent::Stay) {
                    self.undo_outside(holding, batch, index, offset).await;
                }
                self.forget_attempt_at(offset);
            }
            (None, Attempt::Committed(_)) => self.forget_attempt_at(offset),
            // Its number stays, so that the next attempt knows it.
            (Some(index), Attempt::Failed(failed))
                if failed.class == FailureClass::Handler && failed.returned =>
            {
                self.fly(offset, false);
                self.undo_outside(holding, batch, index, offset).await;
            }
            _ if ran => self.forget_attempt_at(offset),
            _ => self.fly(offset, false),
        }
    }

    /// Takes back what was written down: the marker is removed, or says again that its event waits.
    async fn undo_outside(
        &self,
        holding: &Holding,
        batch: &mut Batch<S>,
        index: usize,
        offset: i64,
    ) {
        let (store, kind) = (&self.group.store, &batch.kind);
        let task = &batch.tasks[index];
        let scope = self.group.handlers[task.handler].scope;
        let (Some(key), Outside::Begun(own)) = (task.key(), task.outside) else { return };
        let undone = match kind {
            Kind::Delivered => store.take_back(scope, key, own).await,
            Kind::Released(_) => put_back(store, (scope, key), own, MarkerState::Parked).await,
        };
        match undone {
            Ok(()) => batch.tasks[index].outside = Outside::No,
            Err(error) => {
                let id = &holding.row.id;
                tracing::warn!(
                    lane = %id, offset, error = %error.report(),
                    "an attempt that has no effect could not be taken back: should this process die \
                     now, its end is not known"
                );
            }
        }
    }

    /// Gives up on it as its handler says: the lane stops, or it becomes a dead letter.
    fn give_up_outside(
        &self,
        batch: &mut Batch<S>,
        index: usize,
        attempt: Uuid,
        why: &str,
    ) -> Option<Attempt> {
        let task = &mut batch.tasks[index];
        let handler = &self.group.handlers[task.handler];
        if handler.on_failure() == OnFailure::Stop {
            let event = &batch.events[task.event];
            let error = stopping(event, handler.scope, why, ErrorKind::Stopped);
            return Some(Attempt::Stop(task.event, error));
        }
        task.outside = Outside::Begun(attempt);
        task.given_up = Some(Box::new(unknown(why)));
        None
    }

    async fn ask(
        &self,
        batch: &mut Batch<S>,
        index: usize,
        (scope, key, other): (&'static str, &Key, &Other),
    ) -> Result<Probed, Failed> {
        // Should it be given up on, its marker is taken over.
        batch.tasks[index].outside = Outside::Begun(other.attempt);
        let Task { handler, event, slot, .. } = batch.tasks[index];
        let states = (*self.group.states).clone();
        let begun = Begun::new(scope, key.clone(), other.at, states);
        let timeout = self.group.handlers[handler].policy.timeout;
        let encoded = Encoded::new(&batch.events[event], &batch.schemas);
        let probed = batch.works[handler].probe(encoded, slot, begun, timeout).await;
        probed.map_err(|failure| {
            let permanent = failure.is_permanent();
            let mut failed = Failed::handler(Some(event), handler, scope, failure, permanent);
            failed.ran = Some(vec![index]);
            failed
        })
    }

    /// The number of the attempt at this event; the same until its end is known, or may be.
    fn attempt_at(&self, lane: &crate::lane::LaneId, offset: i64) -> Uuid {
        let mut attempts = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let number = attempts.get(&offset).copied().filter(|number| !number.flying);
        let number = number.unwrap_or_else(|| Number { id: number_in(lane), flying: false });
        attempts.insert(offset, number);
        number.id
    }

    fn is_own(&self, offset: i64, attempt: Uuid) -> bool {
        let attempts = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.get(&offset).is_some_and(|number| number.id == attempt)
    }

    /// Whether another attempt is known to be over: it is of this lane, which no former owner has any
    /// more, and not of another slice.
    fn is_over(&self, lane: &crate::lane::LaneId, attempt: Uuid) -> bool {
        let attempts = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        is_of_lane(attempt, lane) && attempts.values().all(|number| number.id != attempt)
    }

    fn fly(&self, offset: i64, flying: bool) {
        let mut attempts = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = attempts.get_mut(&offset) {
            number.flying = flying;
        }
    }

    fn forget_attempt_at(&self, offset: i64) {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).remove(&offset);
    }
}

/// Why it is given up on, if the end of an attempt is not known.
fn unknown(why: &str) -> Cause {
    Cause {
        class: FailureClass::UnknownEnd,
        permanent: true,
        error: why.to_owned(),
        attempts: 1,
        first_failed_at: SystemTime::now(),
    }
}

/// After the claim, among tasks whose handlers have their effects outside: the one whose marker is not
/// what it was when it was looked at, and whether it is there; the first, if there are several. What is
/// new without an attempt that is written down is not run, and what another attempt has is decided anew.
pub(crate) async fn astray<S: Store>(
    trial: &Trial<'_, S>,
    tasks: &[Task],
    tx: &mut S::Tx,
    done: &Done,
    keyed: &Keyed<'_>,
) -> Result<Option<(usize, bool)>, Ended> {
    let mut missed = Vec::new();
    for &(index, key) in keyed {
        let task = &tasks[index];
        let handler = &trial.group.handlers[task.handler];
        let is_new = done.decisions[index] != Decision::Duplicate;
        match (task.outside, is_new) {
            (Outside::No, true)
                if handler.policy.unknown_end.is_some()
                    && done.intents[index] == Intent::Handle =>
            {
                return Ok(Some((index, false)));
            }
            (Outside::Begun(_) | Outside::Done(_), false) => missed.push((index, key)),
            _ => {}
        }
    }
    if missed.is_empty() {
        return Ok(None);
    }
    let scope = |index: usize| trial.group.handlers[tasks[index].handler].scope;
    let keys: Vec<_> = missed.iter().map(|(index, key)| (scope(*index), *key)).collect();
    let known = trial.group.store.known(tx, &keys).await.map_err(Ended::Claim)?;
    let mut astray = missed.iter().zip(known).filter_map(|((index, _), marker)| match marker {
        None => Some((*index, false)),
        Some(marker) if marker.state == MarkerState::Begun => Some((*index, true)),
        // A duplicate, whatever it was before.
        Some(_) => None,
    });
    Ok(astray.next())
}

impl Task {
    /// Its marker is not what it was: it is looked at again. What was to be written about the attempt that
    /// was there is void, and about one of ours, if another `is_there` now.
    pub(crate) fn look_again(&mut self, is_there: bool) -> Ended {
        self.outside = Outside::No;
        let unknown = |cause: &mut Box<Cause>| cause.class == FailureClass::UnknownEnd;
        self.given_up.take_if(|cause| is_there || unknown(cause));
        Ended::Wait(self.event, CHANGED)
    }

    /// Its key is that of an attempt with effects outside of the database, by a former release of its
    /// handler, which has no word for unknown ends any more. That is a failure for good.
    pub(crate) fn meets_attempt(&mut self, number: usize, scope: &str, attempt: Uuid) -> Ended {
        self.outside = Outside::Begun(attempt);
        if self.given_up.is_some() {
            self.given_up = Some(Box::new(unknown(UNKNOWN)));
            return Ended::Apart(self.event);
        }
        let error = Error::new(ErrorKind::UnknownEnd, format!("scope {scope}: {UNKNOWN}"));
        Ended::Failed(Failed {
            event: Some(self.event),
            handler: Some(self.handler),
            ran: Some(vec![number]),
            class: FailureClass::UnknownEnd,
            permanent: true,
            returned: false,
            error,
            text: UNKNOWN.to_owned(),
        })
    }
}
