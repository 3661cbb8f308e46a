//! Replaying one letter: a transaction that settles it, takes its markers over and has its effects.

use std::sync::Arc;

use uuid::Uuid;

use super::Replay;
use crate::backoff::Backoff;
use crate::dead_letter::{DeadLetter, LetterAction, LetterFilter, LetterState, error_text};
use crate::effects::UNKNOWN;
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::group::Registered;
use crate::key::Key;
use crate::letters::{is_open, sealed, settle};
use crate::marker::MarkerMode;
use crate::packed::{NewPack, Pack, WindowId};
use crate::process::failed;
use crate::store::{Claim, Claimed, Settlement, Store, Terms, Writer};
use crate::work::{Item, Room};

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

impl<S: Store> Replay<S> {
    /// Replays one letter, as often as the database fails in a way that passes.
    pub(super) async fn one(&self, handlers: &[&Registered<S>], id: i64) -> Result<Replayed> {
        let mut backoff = Backoff::for_store();
        let mut unknown = false;
        let is_outside = handlers.iter().any(|it| it.policy.unknown_end.is_some());
        loop {
            let mut ran = false;
            let error = match self.attempt(handlers, id, unknown, &mut ran).await {
                Ok(Replayed::Failed(error)) => {
                    let action = LetterAction::ReplayFailed;
                    let note = Settlement { action, by: &self.by, note: Some(&error), edit: None };
                    settle(&self.store, id, &note).await?;
                    return Ok(Replayed::Failed(error));
                }
                Ok(replayed) => return Ok(replayed),
                Err(error) => error,
            };
            unknown |= error.kind() == ErrorKind::UnknownCommit;
            // Its effects may have happened outside of the database: a person decides again.
            if ran && is_outside {
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
        if now.first().is_some_and(|letter| letter.state == LetterState::Replayed) {
            return Ok(Replayed::Processed);
        }
        let action = LetterAction::ReplayFailed;
        let note = Settlement { action, by: &self.by, note: Some(UNKNOWN), edit: None };
        settle(&self.store, id, &note).await?;
        Ok(Replayed::Failed(UNKNOWN.to_owned()))
    }

    /// One transaction. `unknown`: an earlier one of this call may have been committed.
    async fn attempt(
        &self,
        handlers: &[&Registered<S>],
        id: i64,
        unknown: bool,
        ran: &mut bool,
    ) -> Result<Replayed> {
        let store = &self.store;
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let isolations = handlers.iter().map(|it| it.policy.isolation.unwrap_or_default());
        let isolation = isolations.max().unwrap_or_default();
        let outside = handlers.iter().any(|it| it.policy.unknown_end.is_some());
        let terms = Terms { isolation, outside, ..Terms::default() };
        let mut tx = store.begin(&writer, &terms).await?;
        let result = self.steps(handlers, (id, unknown), &writer, &mut tx, ran).await;
        match result {
            Ok(Step::Commit(replayed)) => {
                let error = match store.commit(tx).await {
                    Ok(()) => return Ok(replayed),
                    Err(error) => error,
                };
                match error.kind() {
                    // What the letter's effects are refused for is the letter's.
                    ErrorKind::Store | ErrorKind::Handler | ErrorKind::HandlerBroke => {
                        Ok(Replayed::Failed(error_text(&error.report().into())))
                    }
                    _ => Err(error),
                }
            }
            Ok(Step::Undo(replayed)) => {
                store.rollback(tx).await;
                Ok(replayed)
            }
            // The handler was dropped in the middle of what it did, and its connection with it.
            Ok(Step::Abandon(replayed)) => {
                drop(tx);
                Ok(replayed)
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
        writer: &Writer<'_>,
        tx: &mut S::Tx,
        ran: &mut bool,
    ) -> Result<Step> {
        let store = &self.store;
        let letter = match store.lock_letter(tx, id).await? {
            None => return Ok(Step::Undo(Replayed::Settled)),
            Some(letter) if letter.state == LetterState::Waiting => {
                return Ok(Step::Undo(Replayed::Waiting));
            }
            // The commit whose answer was lost had landed.
            Some(letter) if letter.state == LetterState::Replayed && unknown => {
                return Ok(Step::Undo(Replayed::Processed));
            }
            Some(letter) if !is_open(letter.state) => return Ok(Step::Undo(Replayed::Settled)),
            Some(letter) => letter,
        };
        let mut new = Vec::with_capacity(handlers.len());
        for handler in handlers {
            // Within the transaction: until it was locked the event could be corrected.
            let schemas = self.schemas(handler, &letter.event).await?;
            let event = Encoded::new(&letter.event, &schemas);
            let (work, identity) = match self.push(handler, event) {
                Ok(pushed) => pushed,
                Err(refusal) => return Ok(Step::Undo(Replayed::Failed(refusal.to_string()))),
            };
            if self.claim(handler, &letter, identity.key(), writer, tx).await? {
                new.push((*handler, work, identity, schemas));
            }
        }
        let superseded = new.is_empty();
        let action = if superseded { LetterAction::Superseded } else { LetterAction::Replayed };
        let settlement = Settlement { action, by: &self.by, note: None, edit: None };
        // Before the handler: should it end the transaction by itself, the letter is settled with it.
        store.settle_letter(tx, id, &settlement).await?;
        let group: Arc<str> = letter.group.as_str().into();
        for (handler, mut work, identity, schemas) in new {
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
            *ran = true;
            let answers = match work.run(tx, std::slice::from_ref(&item), room).await {
                Ok(answers) => answers,
                Err(stopped) => return self.judged(stopped.failure),
            };
            if let (Some(key), Some((_, answer))) = (identity.key(), answers.first()) {
                store.keep_results(tx, &[(handler.scope, key, answer)]).await?;
            }
        }
        match sealed(store, tx, writer).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::HandlerBroke => {
                return Ok(Step::Undo(Replayed::Failed(error.to_string())));
            }
            Err(error) => return Err(error),
        }
        Ok(Step::Commit(if superseded { Replayed::Superseded } else { Replayed::Processed }))
    }

    /// Takes the key; answers whether nobody had processed it.
    async fn claim(
        &self,
        handler: &Registered<S>,
        letter: &DeadLetter,
        key: Option<&Key>,
        writer: &Writer<'_>,
        tx: &mut S::Tx,
    ) -> Result<bool> {
        let key = key.filter(|_| handler.mode() != MarkerMode::Offset);
        let offset = Some(letter.event.offset);
        let claim = key.map(|key| Claim {
            offset,
            correlation: self.rules.correlation.correlation_of(&letter.event),
            causation: self.rules.correlation.causation_of(&letter.event),
            reclaim: true,
            ..Claim::new(handler.scope, key)
        });
        match self.store.claim(tx, writer, claim.as_slice()).await? {
            // Without a key the letter itself is the marker; the claim has set the guard.
            Claimed::Keys(_) if claim.is_none() => Ok(true),
            Claimed::Keys(new) if new.first() != Some(&true) => Ok(false),
            Claimed::Keys(_) => match key {
                // What was given up on under its key is in its lane's window already.
                Some(key) if letter.key.as_ref() != Some(key) => {
                    self.pack(handler.scope, letter, key, tx).await
                }
                _ => Ok(true),
            },
            Claimed::Fenced => {
                Err(Error::new(ErrorKind::Fenced, "the replay's claim was refused as a lane's"))
            }
        }
    }

    /// Where the scope's markers are packed, and the letter's event had no key or another one: takes the
    /// key in the window of the letter's lane, too. Answers whether it was new there.
    async fn pack(
        &self,
        scope: &str,
        letter: &DeadLetter,
        key: &Key,
        tx: &mut S::Tx,
    ) -> Result<bool> {
        let store = &self.store;
        let lanes = store.lanes(&letter.group, &letter.event.topic).await?;
        let lane = lanes.iter().find(|lane| lane.id.partition == letter.event.partition);
        // A lane that is gone has nothing packed either.
        let Some(lane) = lane.map(|lane| lane.number) else { return Ok(true) };
        match store.window(&WindowId { lane, scope, slice: None }).await {
            Ok(window) if window.is_packed => {}
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
            partitions: 0,
            first_offset: offset,
            last_offset: offset,
            count: 1,
            data: &pack,
        };
        store.pack_direct(tx, lane, offset, &pack, digest).await
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
            ErrorKind::HandlerBroke => Ok(Step::Undo(Replayed::Failed(error.to_string()))),
            _ => Ok(Step::Undo(Replayed::Failed(text))),
        }
    }
}

/// How a transaction ends.
enum Step {
    Commit(Replayed),
    Undo(Replayed),
    Abandon(Replayed),
}
