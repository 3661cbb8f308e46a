//! One key, processed once in a transaction of its own.

use serde_json::Value;
use uuid::Uuid;

use super::failed;
use crate::effects::UNKNOWN;
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::key::{IntoKey, Key};
use crate::marker::MarkerState;
use crate::outcome::Outcome;
use crate::scope::check_scope;
use crate::store::direct::sealed;
use crate::store::{Claim, Claimed, Lends, Store, Terms, Writer};

/// How often a claim that failed for a passing reason is tried again before the caller is told.
const CLAIM_TRIES: u32 = 5;
/// How often an unknown commit is looked up before the caller is told.
const LOOKUPS: u32 = 10;

pub(crate) fn checked(scope: &str, key: impl IntoKey) -> Result<Key> {
    check_scope(scope)?;
    key.into_key().map_err(|error| refused(scope, error))
}

pub(crate) async fn mark<S: Store>(
    store: &S,
    scope: &str,
    key: Key,
    metadata: Option<Value>,
) -> Result<Outcome> {
    let once =
        Once { metadata: metadata.as_ref(), marker: Wanted::Settled, ..Once::new(scope, &key) };
    let outcome = once.run(store, async |_: &mut S::Tx| Ok(())).await?;
    outcome.ok_or_else(|| changed(scope, &key))
}

pub(crate) async fn closure<S: Store, T>(
    store: &S,
    scope: &str,
    key: Key,
    effects: impl AsyncFnOnce(&mut S::Connection) -> Result<T, Failure>,
) -> Result<Outcome<T>> {
    let once = Once::new(scope, &key);
    let outcome = once
        .run(store, async move |tx: &mut S::Tx| {
            effects(<S as Lends<S::Connection>>::lend(tx)).await
        })
        .await?;
    outcome.ok_or_else(|| changed(scope, &key))
}

/// What is said when a marker changed under every look.
fn changed(scope: &str, key: &Key) -> Error {
    let message =
        format!("scope {scope}, key {key}: the marker changed under the call: call again");
    Error::new(ErrorKind::Transient, message)
}

/// One key, to be processed once.
pub(super) struct Once<'a> {
    pub(super) scope: &'a str,
    pub(super) key: &'a Key,
    pub(super) metadata: Option<&'a Value>,
    pub(super) marker: Wanted,
    pub(super) terms: Terms,
}

/// Which marker a key has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None.
    New,
    /// None, or one of an attempt, which is marked as processed.
    Settled,
    /// That of this attempt, which was begun.
    Attempt(Uuid),
    /// Any that is not of an attempt: one was seen.
    Known,
}

impl<'a> Once<'a> {
    fn new(scope: &'a str, key: &'a Key) -> Self {
        Self { scope, key, metadata: None, marker: Wanted::New, terms: Terms::default() }
    }

    /// Claim, run, seal, commit. Nothing, and nothing is run, when the marker is not the one that was
    /// seen before, or changed under the claim.
    pub(super) async fn run<S: Store, T>(
        &self,
        store: &S,
        effects: impl AsyncFnOnce(&mut S::Tx) -> Result<T, Failure>,
    ) -> Result<Option<Outcome<T>>> {
        let Self { scope, key, .. } = *self;
        let attempt = Uuid::new_v4();
        let writer = Writer::Direct { attempt };
        let place = |error: Error| error.context(format_args!("scope {scope}, key {key}"));

        let claimed = self.claimed(store, &writer).await.map_err(place)?;
        let settled = matches!(claimed, Taken::Settled(_));
        let mut tx = match claimed {
            Taken::New(tx) | Taken::Settled(tx) => tx,
            Taken::Duplicate => {
                tracing::debug!(scope, key = %key, outcome = "duplicate", "idem");
                return Ok(Some(Outcome::Duplicate(None)));
            }
            Taken::Changed => return Ok(None),
            Taken::UnknownEnd => {
                let message = format!(
                    "{UNKNOWN}: `mark_processed` says that it has had its effect; the handler that \
                     began it decides otherwise when the event comes again"
                );
                return Err(place(Error::new(ErrorKind::UnknownEnd, message)));
            }
            Taken::GivenUp => {
                return Err(place(Error::new(
                    ErrorKind::GivenUp,
                    "an event with this key was given up on and is a dead letter: replay it, or \
                     correct it and replay it, or drop it",
                )));
            }
        };
        let value = match effects(&mut tx).await {
            Ok(value) => value,
            Err(failure) if failure.timed_out() => {
                // It was dropped in the middle of what it did: the connection goes with it.
                drop(tx);
                return Err(place(failed::<S>(failure)));
            }
            Err(failure) => {
                store.rollback(tx).await;
                return Err(place(failed::<S>(failure)));
            }
        };
        if let Err(error) = sealed(store, &mut tx, &writer).await {
            store.rollback(tx).await;
            return Err(place(error));
        }
        match store.commit(tx).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnknownCommit => {
                if !self.landed(store, attempt, &error).await.map_err(place)? {
                    return Err(place(Error::new(
                        ErrorKind::Transient,
                        "the connection was lost in the commit and nothing was kept: call again",
                    )));
                }
            }
            Err(error) => return Err(place(error)),
        }
        tracing::debug!(scope, key = %key, outcome = "processed", "idem");
        Ok(Some(if settled { Outcome::Settled } else { Outcome::Processed(value) }))
    }

    /// Begins and claims. Nothing of the user's has run yet, so that a passing failure is tried
    /// again here.
    async fn claimed<S: Store>(&self, store: &S, writer: &Writer<'_>) -> Result<Taken<S::Tx>> {
        let Self { metadata, marker: wanted, .. } = *self;
        let over = match wanted {
            Wanted::Attempt(attempt) => Some(attempt),
            _ => None,
        };
        let claim = Claim { metadata, over, ..Claim::new(self.scope, self.key) };
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            let result: Result<Taken<S::Tx>> = async {
                let mut tx = store.begin(writer, &self.terms).await?;
                let taken = self.taken(store, writer, &mut tx, claim).await;
                match taken {
                    Ok(Taken::New(())) => return Ok(Taken::New(tx)),
                    Ok(Taken::Settled(())) => return Ok(Taken::Settled(tx)),
                    _ => {}
                }
                store.rollback(tx).await;
                Ok(match taken? {
                    Taken::GivenUp => Taken::GivenUp,
                    Taken::UnknownEnd => Taken::UnknownEnd,
                    Taken::Duplicate => Taken::Duplicate,
                    Taken::Changed | Taken::New(()) | Taken::Settled(()) => Taken::Changed,
                })
            }
            .await;
            match result {
                // Where an attempt was seen, the caller looks at it again.
                Ok(Taken::Changed)
                    if matches!(wanted, Wanted::New | Wanted::Settled)
                        && backoff.tries() < CLAIM_TRIES =>
                {
                    backoff.wait().await;
                }
                Err(error) if error.is_retryable() && backoff.tries() < CLAIM_TRIES => {
                    backoff.wait().await;
                }
                other => return other,
            }
        }
    }

    /// Claims the key, and says what was found if it is not to be worked.
    async fn taken<S: Store>(
        &self,
        store: &S,
        writer: &Writer<'_>,
        tx: &mut S::Tx,
        claim: Claim<'_>,
    ) -> Result<Taken<()>> {
        let is_new = |claimed: Claimed| matches!(claimed, Claimed::Keys(new) if new == [true]);
        if is_new(store.claim(tx, writer, &[claim]).await?) {
            return Ok(match self.marker {
                Wanted::Known => Taken::Changed,
                _ => Taken::New(()),
            });
        }
        let known = store.known(tx, &[(self.scope, self.key)]).await?;
        let Some(marker) = known.into_iter().next().flatten() else { return Ok(Taken::Changed) };
        Ok(match (marker.state, self.marker) {
            (MarkerState::Processed, _) => Taken::Duplicate,
            (MarkerState::Dead | MarkerState::Parked, _) => Taken::GivenUp,
            (MarkerState::Begun, Wanted::New) => Taken::UnknownEnd,
            (MarkerState::Begun, Wanted::Attempt(_) | Wanted::Known) => Taken::Changed,
            (MarkerState::Begun, Wanted::Settled) => {
                let claim = Claim { over: marker.attempt, ..claim };
                match is_new(store.claim(tx, writer, &[claim]).await?) {
                    true => Taken::Settled(()),
                    false => Taken::Changed,
                }
            }
        })
    }

    /// Whether a commit whose answer was lost had landed. Claiming the key again waits for the lost
    /// connection's transaction, if the server is still at it; then the marker tells who wrote it.
    async fn landed<S: Store>(&self, store: &S, attempt: Uuid, lost: &Error) -> Result<bool> {
        let writer = Writer::Direct { attempt };
        let again = Once::new(self.scope, self.key);
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            let answer = match again.claimed(store, &writer).await {
                Ok(Taken::New(tx)) => {
                    store.rollback(tx).await;
                    return Ok(false);
                }
                Ok(_) => store.marker(self.scope, self.key).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(marker) => return Ok(marker.is_some_and(|it| it.attempt == Some(attempt))),
                Err(error) if error.is_retryable() && backoff.tries() < LOOKUPS => {
                    backoff.wait().await;
                }
                Err(error) => {
                    return Err(Error::new(
                        ErrorKind::UnknownCommit,
                        format!(
                            "{lost}, and the database cannot be asked whether it was kept: call \
                             again with the same event, which has its effect once"
                        ),
                    )
                    .with_source(error));
                }
            }
        }
    }
}

/// The answer to a claim of one key.
enum Taken<T> {
    New(T),
    /// The marker of an attempt was taken over.
    Settled(T),
    Duplicate,
    GivenUp,
    /// It is the key of an attempt that was begun.
    UnknownEnd,
    /// The marker is not the one that was seen before.
    Changed,
}

pub(super) fn refused(scope: &str, error: crate::key::KeyError) -> Error {
    Error::new(ErrorKind::Key, format!("scope {scope}: {error}"))
}
