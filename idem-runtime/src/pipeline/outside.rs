//! Effects outside of the database: an attempt is written down before it begins, in a transaction of
//! its own.
//!
//! Such an event is alone in its batch. Its marker says "begun" and whose attempt it is; the transaction
//! that follows takes the marker over, as one of a dead letter is. Whoever finds a marker of an attempt
//! that is not its own does what the handler's [`UnknownEnd`] says.

use std::ops::Range;
use std::sync::PoisonError;
use std::time::SystemTime;

use uuid::Uuid;

use crate::dead_letter::{Cause, FailureClass};
use crate::effects::{Begun, Probed, UNKNOWN, Verdict};
use crate::error::{Error, ErrorKind};
use crate::format::Encoded;
use crate::key::Key;
use crate::marker::MarkerState;
use crate::pipeline::attempt::{Attempt, Passing};
use crate::pipeline::batch::{Batch, Kind, Task, stopping};
use crate::pipeline::failed::Failed;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::Lane;
use crate::policy::OnFailure;
use crate::store::{Claim, Claimed, Seal, Sealed, Store, Terms, Writer};

/// What is known of a task's attempt outside of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// There is none.
    No,
    /// It is begun, and ours.
    Begun,
    /// It had happened: there is nothing to run.
    Done,
}

/// What the transaction that writes an attempt down has found.
enum Found {
    /// It is written down.
    Begun,
    /// The key is known, and not of an attempt: the claim that follows sees what it is.
    Known,
    /// Another attempt, begun then.
    Another(SystemTime),
    /// The lane is another's.
    Fenced,
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
        let (scope, policy) = {
            let handler = &self.group.handlers[task.handler];
            (handler.scope, handler.policy.unknown_end)
        };
        let (Some(policy), Some(key), None) = (policy, task.key().cloned(), &task.given_up) else {
            return None;
        };
        if batch.kind != Kind::Delivered || task.outside == Outside::Done {
            return None;
        }
        batch.tasks[index].outside = Outside::No;
        let offset = batch.events[range.start].offset;
        let mut over = false;
        loop {
            let found = match self.write_down(holding, scope, &key, offset, over).await {
                Ok(found) => found,
                Err(ended) => return Some(ended),
            };
            let at = match found {
                Found::Begun => {
                    batch.tasks[index].outside = Outside::Begun;
                    return None;
                }
                Found::Known => return None,
                Found::Fenced => return Some(Attempt::Moved),
                Found::Another(at) => at,
            };
            match policy.verdict(at.elapsed().ok()) {
                Verdict::Again => over = true,
                Verdict::Wait(pause) => {
                    let message = format!("scope {scope}, offset {offset}: {UNKNOWN}");
                    let error = Error::new(ErrorKind::Handler, message);
                    self.warn(&error, "the lane waits before it tries again", pause);
                    // Not here: whoever is in flight holds up those who have to be alone.
                    return Some(Attempt::Wait(range.start, pause));
                }
                Verdict::GiveUp => return self.give_up_outside(batch, index, UNKNOWN),
                Verdict::Ask => match self.ask(batch, index, (scope, &key, at)).await {
                    Ok(Probed::NotDone) => over = true,
                    Ok(Probed::Done) => {
                        batch.tasks[index].outside = Outside::Done;
                        return None;
                    }
                    Ok(Probed::Unknown) => {
                        let why = format!("{UNKNOWN}, not even to its probe");
                        return self.give_up_outside(batch, index, &why);
                    }
                    Err(failed) => return Some(Attempt::Failed(failed)),
                },
            }
        }
    }

    /// In a transaction of its own, sealed like any other: a late owner begins nothing. With `over`
    /// another's attempt is taken over.
    async fn write_down(
        &self,
        holding: &mut Holding,
        scope: &'static str,
        key: &Key,
        offset: i64,
        over: bool,
    ) -> Result<Found, Attempt> {
        let store = &self.group.store;
        let held = holding.held();
        let writer = Writer::Lane(&held);
        let own = self.attempt_at(offset);
        let claim = Claim {
            offset: Some(offset),
            state: MarkerState::Begun,
            attempt: Some(own),
            ..Claim::new(scope, key)
        };
        let passing = |error: Error| Attempt::Transient(Passing { at: None, lost: false, error });
        let mut tx = store.begin(&writer, &Terms::default()).await.map_err(Attempt::Away)?;
        let found = async {
            match store.claim(&mut tx, &writer, &[claim]).await? {
                Claimed::Keys(new) if new == [true] => return Ok(Found::Begun),
                Claimed::Keys(_) => {}
                Claimed::Fenced => return Ok(Found::Fenced),
            }
            let known = store.known(&mut tx, &[(scope, key)]).await?;
            match known.into_iter().next().flatten() {
                Some(marker) if marker.state == MarkerState::Begun => {
                    if marker.attempt != Some(own) && !over {
                        return Ok(Found::Another(marker.processed_at));
                    }
                }
                _ => return Ok(Found::Known),
            }
            let claim = Claim { reclaim: true, ..claim };
            match store.claim(&mut tx, &writer, &[claim]).await? {
                Claimed::Keys(new) if new == [true] => Ok(Found::Begun),
                Claimed::Keys(_) => Ok(Found::Known),
                Claimed::Fenced => Ok(Found::Fenced),
            }
        }
        .await;
        match found {
            Ok(Found::Begun) => {}
            Ok(found) => {
                store.rollback(tx).await;
                return Ok(found);
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
                return Ok(Found::Fenced);
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
                Ok(Found::Begun)
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
        if matches!(ended, Attempt::Committed(_)) {
            return self.forget_attempt_at(offset);
        }
        let ran = batch.ran;
        let mut begun = batch.tasks[batch.tasks_of(range)]
            .iter()
            .filter(|task| task.outside == Outside::Begun && task.given_up.is_none())
            .filter_map(|task| Some((self.group.handlers[task.handler].scope, task.key()?)));
        let Some((scope, key)) = begun.next() else { return };
        let own = self.attempt_at(offset);
        match ended {
            // Its number stays, so that the next attempt knows it.
            Attempt::Failed(failed) if failed.class == FailureClass::Handler && failed.returned => {
                if let Err(error) = self.group.store.take_back(scope, key, own).await {
                    let id = &holding.row.id;
                    tracing::warn!(
                        lane = %id, offset, error = %error.report(),
                        "an attempt that failed could not be taken back: should this process die now, \
                         its end is not known"
                    );
                }
            }
            _ if ran => self.forget_attempt_at(offset),
            _ => {}
        }
    }

    /// Gives up on it as its handler says: the lane stops, or it becomes a dead letter.
    fn give_up_outside(&self, batch: &mut Batch<S>, index: usize, why: &str) -> Option<Attempt> {
        let task = &mut batch.tasks[index];
        let handler = &self.group.handlers[task.handler];
        if handler.on_failure() == OnFailure::Stop {
            let event = &batch.events[task.event];
            let error = stopping(event, handler.scope, why, ErrorKind::Stopped);
            return Some(Attempt::Stop(task.event, error));
        }
        task.outside = Outside::Begun;
        task.given_up = Some(Box::new(Cause {
            class: FailureClass::UnknownEnd,
            permanent: true,
            error: why.to_owned(),
            attempts: 1,
            first_failed_at: SystemTime::now(),
        }));
        None
    }

    async fn ask(
        &self,
        batch: &mut Batch<S>,
        index: usize,
        (scope, key, at): (&'static str, &Key, SystemTime),
    ) -> Result<Probed, Failed> {
        // Should it be given up on, its marker is taken over.
        batch.tasks[index].outside = Outside::Begun;
        let Task { handler, event, slot, .. } = batch.tasks[index];
        let states = (*self.group.states).clone();
        let begun = Begun::new(scope, key.clone(), at, states);
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
    fn attempt_at(&self, offset: i64) -> Uuid {
        let mut attempts = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        *attempts.entry(offset).or_insert_with(Uuid::new_v4)
    }

    fn forget_attempt_at(&self, offset: i64) {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).remove(&offset);
    }
}
