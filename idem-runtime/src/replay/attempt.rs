//! Replaying one letter: a transaction that settles it, takes its markers over and has its effects.
//!
//! Of a handler with effects outside of the database the attempt is written down before, as in a lane
//! (`begun.rs`).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Replay;
use super::begun::Begun;
use crate::backoff::Backoff;
use crate::dead_letter::{
    DeadLetter, FailureClass, LetterAction, LetterFilter, LetterState, error_text,
};
use crate::effects::UNKNOWN;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::failure::Failure;
use crate::format::Encoded;
use crate::group::Registered;
use crate::key::Key;
use crate::letters::settle;
use crate::marker::{Fingerprint, MarkerMode, MarkerState};
use crate::packed::{NewPack, Pack, WindowId, WindowRow};
use crate::process::failed;
use crate::store::direct::sealed;
use crate::store::{Claim, Claimed, Settlement, Store, Terms, Writer};
use crate::work::{Item, Room, Work};

/// How often a replay that met a passing failure of the database is tried again.
const TRIES: u32 = 5;

/// What became of one letter.
pub(super) enum Replayed {
    Processed,
    Superseded,
    Settled,
    Waiting,
    Failed(String),
}

/// What one transaction found.
enum Found {
    /// What becomes of the letter.
    Replayed(Replayed),
    /// A marker is not what it was a moment ago.
    Changed,
    /// The key is that of this attempt, which its handler has no word for.
    Begun(Begun),
}

/// What is known of the handlers of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// None was run.
    No,
    /// One was, and its effects outside of the database may have happened.
    Perhaps,
    /// One returned an error.
    Failed,
}

impl<S: Store> Replay<S> {
    /// Replays one letter, as often as the database fails in a way that passes.
    pub(super) async fn one(&self, handlers: &[&Registered<S>], id: i64) -> Result<Replayed> {
        let mut begun = Vec::new();
        let replayed = self.tries(handlers, id, &mut begun).await;
        if !matches!(replayed, Ok(Replayed::Processed)) {
            // Its end is known, or a person is told that it is not.
            self.put_back(&begun).await;
        }
        match replayed {
            Ok(Replayed::Failed(error)) => {
                let action = LetterAction::ReplayFailed;
                let note = Settlement { action, by: &self.by, note: Some(&error), edit: None };
                settle(&self.store, id, &note).await?;
                Ok(Replayed::Failed(error))
            }
            replayed => replayed,
        }
    }

    /// What is written down on the way is `begun`.
    async fn tries(
        &self,
        handlers: &[&Registered<S>],
        id: i64,
        begun: &mut Vec<Begun>,
    ) -> Result<Replayed> {
        let mut backoff = Backoff::for_store();
        let mut unknown = false;
        let is_outside = handlers.iter().any(|it| it.policy.unknown_end.is_some());
        let mut begin = is_outside;
        loop {
            let mut ran = Ran::No;
            let found = async {
                if begin {
                    self.put_back(&std::mem::take(begun)).await;
                    if let Some(failed) = self.begin(handlers, id, begun).await? {
                        return Ok(Found::Replayed(failed));
                    }
                    begin = false;
                }
                self.attempt(handlers, id, unknown, begun, &mut ran).await
            };
            let error = match found.await {
                Ok(Found::Changed) if backoff.tries() < TRIES => {
                    begin = is_outside;
                    backoff.wait().await;
                    continue;
                }
                Ok(Found::Begun(other)) => {
                    begun.push(other);
                    return Ok(Replayed::Failed(UNKNOWN.to_owned()));
                }
                Ok(Found::Changed) => {
                    let message = "the marker changed under the replay: replay it again";
                    Error::new(ErrorKind::Transient, message)
                }
                Ok(Found::Replayed(Replayed::Failed(error)))
                    if is_outside && ran == Ran::Perhaps =>
                {
                    return Ok(Replayed::Failed(format!("{UNKNOWN}: {error}")));
                }
                Ok(Found::Replayed(replayed)) => return Ok(replayed),
                Err(error) => error,
            };
            unknown |= error.kind() == ErrorKind::UnknownCommit;
            // Its effects may have happened outside of the database: a person decides again.
            if is_outside && ran == Ran::Perhaps {
                return self.unknown_end(id).await;
            }
            if !error.is_retryable() || backoff.tries() >= TRIES {
                return Err(error.context(format_args!("replay of dead letter {id}")));
            }
            backoff.wait().await;
        }
    }

    /// What is said of a letter whose handler was run, with effects outside of the database, and whose
    /// transaction had no confirmed end.
    async fn unknown_end(&self, id: i64) -> Result<Replayed> {
        let now = self.store.letters(&LetterFilter::id(id)).await?;
        Ok(match now.first() {
            Some(letter) if letter.state == LetterState::Replayed => Replayed::Processed,
            _ => Replayed::Failed(UNKNOWN.to_owned()),
        })
    }

    /// One transaction. `unknown`: an earlier one of this call may have been committed.
    async fn attempt(
        &self,
        handlers: &[&Registered<S>],
        id: i64,
        unknown: bool,
        begun: &[Begun],
        ran: &mut Ran,
    ) -> Result<Found> {
        let store = &self.store;
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let isolations = handlers.iter().map(|it| it.policy.isolation.unwrap_or_default());
        let isolation = isolations.max().unwrap_or_default();
        let outside = handlers.iter().any(|it| it.policy.unknown_end.is_some());
        let terms = Terms { isolation, outside, ..Terms::default() };
        let mut tx = store.begin(&writer, &terms).await?;
        let result = self.steps(handlers, (id, unknown), begun, (&writer, &mut tx), ran).await;
        match result {
            Ok(Step::Commit(replayed)) => {
                let error = match store.commit(tx).await {
                    Ok(()) => return Ok(Found::Replayed(replayed)),
                    Err(error) => error,
                };
                match error.kind() {
                    // What the letter's effects are refused for is the letter's.
                    ErrorKind::Store | ErrorKind::Handler | ErrorKind::HandlerBroke => {
                        let error = error_text(&error.report().into());
                        Ok(Found::Replayed(Replayed::Failed(error)))
                    }
                    _ => Err(error),
                }
            }
            Ok(Step::Undo(found)) => {
                store.rollback(tx).await;
                Ok(found)
            }
            // The handler was dropped in the middle of what it did, and its connection with it.
            Ok(Step::Abandon(replayed)) => {
                drop(tx);
                Ok(Found::Replayed(replayed))
            }
            Err(error) => {
                store.rollback(tx).await;
                Err(error)
            }
        }
    }

    async fn steps(
        &self,
        handlers: &[&Registered<S>],
        (id, unknown): (i64, bool),
        begun: &[Begun],
        (writer, tx): (&Writer<'_>, &mut S::Tx),
        ran: &mut Ran,
    ) -> Result<Step> {
        let store = &self.store;
        let letter = match store.lock_letter(tx, id).await? {
            None => return Ok(Step::undo(Replayed::Settled)),
            Some(letter) if letter.state == LetterState::Waiting => {
                return Ok(Step::undo(Replayed::Waiting));
            }
            // The commit whose answer was lost had landed.
            Some(letter) if letter.state == LetterState::Replayed && unknown => {
                return Ok(Step::undo(Replayed::Processed));
            }
            Some(letter) if letter.state.is_settled() => return Ok(Step::undo(Replayed::Settled)),
            Some(letter) => letter,
        };
        let mut new = Vec::with_capacity(handlers.len());
        for handler in handlers {
            // Within the transaction: until it was locked the event could be corrected.
            let schemas = self.schemas(handler, &letter.event).await?;
            let event = Encoded::new(&letter.event, &schemas);
            let (work, identity) = match self.push(handler, event) {
                Ok(pushed) => pushed,
                Err(refusal) => return Ok(Step::undo(Replayed::Failed(refusal.to_string()))),
            };
            let of = |it: &&Begun| it.scope == handler.scope && Some(&it.key) == identity.key();
            let begun = begun.iter().find(of);
            let fingerprint = fingerprint(handler, &*work, &letter.event);
            let key = identity.key().map(|key| (key, fingerprint));
            match self.claim(handler, &letter, (key, begun), writer, tx).await? {
                Taken::New => new.push((*handler, work, identity, schemas, begun)),
                Taken::Known if is_reuse(&letter) => {
                    return Ok(Step::undo(Replayed::Failed(REUSED.to_owned())));
                }
                Taken::Known => {}
                Taken::Changed => return Ok(Step::Undo(Found::Changed)),
                Taken::Begun(begun) => return Ok(Step::Undo(Found::Begun(begun))),
            }
        }
        let superseded = new.is_empty();
        let action = if superseded { LetterAction::Superseded } else { LetterAction::Replayed };
        let settlement = Settlement { action, by: &self.by, note: None, edit: None };
        // Before the handler: should it end the transaction by itself, the letter is settled with it.
        store.settle_letter(tx, id, &settlement).await?;
        let group: Arc<str> = letter.group.as_str().into();
        for (handler, mut work, identity, schemas, begun) in new {
            if begun.is_some_and(|begun| begun.has_happened) {
                continue;
            }
            let attempts = letter.cause.as_ref().map_or(0, |cause| cause.attempts);
            let item = Item {
                event: &letter.event,
                key: identity.shown(),
                slot: 0,
                attempt: attempts + 1,
            };
            let room = Room {
                group: &group,
                states: &self.states,
                schemas: &schemas,
                timeout: handler.policy.timeout,
                correlation: &self.rules.correlation,
            };
            *ran = Ran::Perhaps;
            let answers = match work.run(tx, std::slice::from_ref(&item), room).await {
                Ok(answers) => answers,
                Err(stopped) => {
                    let returned = stopped.failure.returned();
                    let judged = self.judged(stopped.failure);
                    if returned && judged.is_ok() {
                        *ran = Ran::Failed;
                    }
                    return judged;
                }
            };
            if let (Some(key), Some((_, answer))) = (identity.key(), answers.first()) {
                let kept = store.keep_results(tx, &[(handler.scope, key, answer)]).await;
                if let Err(error) = kept {
                    return self.judged(Failure::not_kept(error));
                }
            }
        }
        match sealed(store, tx, writer).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::HandlerBroke => {
                return Ok(Step::undo(Replayed::Failed(error.to_string())));
            }
            Err(error) => return Err(error),
        }
        Ok(Step::Commit(if superseded { Replayed::Superseded } else { Replayed::Processed }))
    }

    /// Takes the key.
    async fn claim(
        &self,
        handler: &Registered<S>,
        letter: &DeadLetter,
        (key, begun): (Option<(&Key, Option<Fingerprint>)>, Option<&Begun>),
        writer: &Writer<'_>,
        tx: &mut S::Tx,
    ) -> Result<Taken> {
        let key = key.filter(|_| handler.mode() != MarkerMode::Offset);
        let claim = key.map(|(key, fingerprint)| Claim {
            over: begun.map(|begun| begun.attempt),
            fingerprint,
            ..self.reclaim(handler.scope, key, &letter.event)
        });
        let was_given_up = match key {
            Some((key, _)) if letter.key.as_ref() != Some(key) => {
                let before = self.store.known(tx, &[(handler.scope, key)]).await?;
                before.into_iter().flatten().any(|marker| marker.state.is_given_up())
            }
            _ => false,
        };
        let new = match self.store.claim(tx, writer, claim.as_slice()).await? {
            Claimed::Keys(new) => new,
            Claimed::Fenced => {
                let message = "the replay's claim was refused as a lane's";
                return Err(Error::new(ErrorKind::Fenced, message));
            }
        };
        // Without a key the letter itself is the marker; the claim has set the guard.
        let Some((key, _)) = key else { return Ok(Taken::New) };
        let is_outside = handler.policy.unknown_end.is_some();
        if new.first() == Some(&true) {
            let is_packed = self.pack(handler.scope, letter, (key, was_given_up), tx).await?;
            return Ok(match is_outside && begun.is_none() {
                true => Taken::Changed,
                false if is_packed => Taken::New,
                false => Taken::Known,
            });
        }
        let known = self.store.known(tx, &[(handler.scope, key)]).await?;
        Ok(match known.into_iter().next().flatten() {
            Some(marker) if marker.state == MarkerState::Begun => match marker.attempt {
                Some(attempt) if !is_outside => {
                    Taken::Begun(Begun::other(handler.scope, key, attempt, letter.state))
                }
                _ => Taken::Changed,
            },
            Some(_) if begun.is_none() => Taken::Known,
            _ => Taken::Changed,
        })
    }

    /// The claim of a letter's key, but for the fingerprint.
    pub(super) fn reclaim<'a>(
        &'a self,
        scope: &'a str,
        key: &'a Key,
        event: &'a Event,
    ) -> Claim<'a> {
        Claim {
            offset: Some(event.offset),
            correlation: self.rules.correlation.correlation_of(event),
            causation: self.rules.correlation.causation_of(event),
            reclaim: true,
            ..Claim::new(scope, key)
        }
    }

    /// Where the scope's markers are packed, and the letter's event had no key or another one, or what was
    /// packed of it is out of date: takes the key in the window of the letter's lane, too. Answers whether
    /// nobody else has it there.
    async fn pack(
        &self,
        scope: &str,
        letter: &DeadLetter,
        (key, was_given_up): (&Key, bool),
        tx: &mut S::Tx,
    ) -> Result<bool> {
        let store = &self.store;
        let lanes = store.lanes(&letter.group, &letter.event.topic).await?;
        let lane = lanes.iter().find(|lane| lane.id.partition == letter.event.partition);
        // A lane that is gone has nothing packed either.
        let Some(lane) = lane.map(|lane| lane.number) else { return Ok(true) };
        let is_its_own = letter.key.as_ref() == Some(key);
        // What is packed under the key of something else that was given up on says that, and no more.
        let says_nothing = is_its_own || was_given_up;
        match store.window(&WindowId { lane, scope, slice: None }).await {
            // What was given up on under its key is in its lane's window already, unless that was before
            // the scope packed.
            Ok(WindowRow { mode: Some(MarkerMode::Packed), switched, floor, now, .. }) => {
                let age = now.duration_since(letter.written_at).unwrap_or_default();
                let is_packed = switched.is_none_or(|ago| age + SWITCHING < ago);
                if is_its_own && letter.event.offset >= floor && is_packed {
                    return Ok(true);
                }
            }
            // It keeps rows, and did not before.
            Ok(WindowRow { switched: Some(_), .. }) if !says_nothing => {
                let digest = store.digest_key().await?.digest(key);
                return Ok(store.find_packed(scope, digest).await?.is_empty());
            }
            Ok(_) => return Ok(true),
            // A store that keeps no packed markers.
            Err(error) if error.kind() == ErrorKind::Config => return Ok(true),
            Err(error) => return Err(error),
        }
        let digest = store.digest_key().await?.digest(key);
        let offset = letter.event.offset;
        let pack = Pack { entries: vec![(offset, digest)], spans: Vec::new() }.encode();
        let pack = NewPack {
            scope,
            partitions: i32::try_from(lanes.len()).unwrap_or(i32::MAX),
            first_offset: offset,
            last_offset: offset,
            count: 1,
            every_slice: true,
            data: &pack,
        };
        Ok(store.pack_direct(tx, lane, offset, &pack, digest).await? || says_nothing)
    }

    /// A passing failure is tried again, any other noted.
    fn judged(&self, failure: Failure) -> Result<Step> {
        let text = error_text(&failure.error);
        if failure.timed_out() {
            return Ok(Step::Abandon(Replayed::Failed(text)));
        }
        let error = failed::<S>(failure);
        match error.kind() {
            ErrorKind::Transient => Err(error),
            ErrorKind::HandlerBroke => Ok(Step::undo(Replayed::Failed(error.to_string()))),
            _ => Ok(Step::undo(Replayed::Failed(text))),
        }
    }
}

/// So long after a switch of forms, letters may have been written by who did not know of it.
const SWITCHING: Duration = Duration::from_secs(60);

/// What is said of an event that was kept because its key is another's, and still has that key. It is not
/// settled: nobody has had its effects.
const REUSED: &str = "its key is that of another event, which was processed: give it a key of its own \
                      (edit it), or drop it";

fn is_reuse(letter: &DeadLetter) -> bool {
    letter.cause.as_ref().is_some_and(|cause| cause.class == FailureClass::KeyReuse)
}

/// What tells the payload that is worked now from others, if the handler compares payloads.
pub(super) fn fingerprint<S: Store>(
    handler: &Registered<S>,
    work: &dyn Work<S>,
    event: &Event,
) -> Option<Fingerprint> {
    handler.policy.payload_check.map(|_| work.fingerprint(event))
}

/// What became of the claim of a letter's key.
enum Taken {
    New,
    /// Another event had been processed under it.
    Known,
    /// The marker is not what it was a moment ago.
    Changed,
    /// It is that of an attempt with effects outside of the database, and its handler has none.
    Begun(Begun),
}

/// How a transaction ends.
enum Step {
    Commit(Replayed),
    Undo(Found),
    Abandon(Replayed),
}

impl Step {
    fn undo(replayed: Replayed) -> Self {
        Self::Undo(Found::Replayed(replayed))
    }
}
