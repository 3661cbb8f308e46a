//! A call without Kafka whose effects are outside of the database: the attempt is written down first.
//!
//! As in a lane (`pipeline/outside.rs`), but for one key, and with a caller to be told.

use std::time::SystemTime;

use uuid::Uuid;

use crate::effects::{Begun, Probed, UNKNOWN, UnknownEnd, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::key::Key;
use crate::marker::MarkerState;
use crate::process::{failed, handler_broke};
use crate::state::States;
use crate::store::{Claim, Claimed, Sealed, Store, Terms, Writer};

/// How often what passes by itself is tried again before the caller is told.
const TRIES: u32 = 5;

/// What is to be done for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The attempt is written down: run the handler.
    Run,
    /// The effect had happened: mark the key.
    Mark,
    /// The key is known: the claim that follows tells as what.
    Known,
    /// Ask the probe about an attempt that was begun then.
    Ask(SystemTime),
}

/// An attempt at a key.
pub(crate) struct Opening<'a> {
    pub(crate) scope: &'static str,
    pub(crate) key: &'a Key,
    pub(crate) attempt: Uuid,
    pub(crate) unknown: UnknownEnd,
    pub(crate) states: &'a States,
}

impl Opening<'_> {
    /// Writes the attempt down, or finds out why not. With `over` another's is taken over, whatever is
    /// said of unknown ends.
    pub(crate) async fn open<S: Store>(&self, store: &S, mut over: bool) -> Result<Opened> {
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            let at = match self.write_down(store, over).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(at)) => at,
                // Written down or not, it is known by its number.
                Err(error)
                    if (error.is_retryable() || error.kind() == ErrorKind::UnknownCommit)
                        && backoff.tries() < TRIES =>
                {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.unknown.verdict(at.elapsed().ok()) {
                Verdict::Again => over = true,
                Verdict::Wait(rest) => {
                    let message = format!("{UNKNOWN}: call again in {rest:.0?}");
                    return Err(Error::new(ErrorKind::UnknownEnd, message));
                }
                Verdict::GiveUp => {
                    let message =
                        format!("{UNKNOWN}, and its handler says that it is not repeated");
                    return Err(Error::new(ErrorKind::UnknownEnd, message));
                }
                Verdict::Ask => return Ok(Opened::Ask(at)),
            }
        }
    }

    /// What a probe is told of an attempt that was begun then.
    pub(crate) fn begun(&self, at: SystemTime) -> Begun {
        Begun::new(self.scope, self.key.clone(), at, self.states.clone())
    }

    /// What follows from the probe's answer; nothing when the attempt is to be repeated.
    pub(crate) fn probed<S: Store>(
        &self,
        probed: Result<Probed, Failure>,
    ) -> Result<Option<Opened>> {
        match probed.map_err(failed::<S>)? {
            Probed::NotDone => Ok(None),
            Probed::Done => Ok(Some(Opened::Mark)),
            Probed::Unknown => {
                let message = format!("{UNKNOWN}, not even to its probe");
                Err(Error::new(ErrorKind::UnknownEnd, message))
            }
        }
    }

    /// In a transaction of its own. The error within says when another attempt was begun.
    async fn write_down<S: Store>(
        &self,
        store: &S,
        over: bool,
    ) -> Result<Result<Opened, SystemTime>> {
        let writer = Writer::Direct { attempt: self.attempt };
        let claim = Claim {
            state: MarkerState::Begun,
            attempt: Some(self.attempt),
            ..Claim::new(self.scope, self.key)
        };
        let mut tx = store.begin(&writer, &Terms::default()).await?;
        let found = async {
            if is_new(store.claim(&mut tx, &writer, &[claim]).await?) {
                return Ok(Ok(Opened::Run));
            }
            let known = store.known(&mut tx, &[(self.scope, self.key)]).await?;
            match known.into_iter().next().flatten() {
                Some(marker) if marker.state == MarkerState::Begun => {
                    if marker.attempt != Some(self.attempt) && !over {
                        return Ok(Err(marker.processed_at));
                    }
                }
                _ => return Ok(Ok(Opened::Known)),
            }
            let claim = Claim { reclaim: true, ..claim };
            let new = is_new(store.claim(&mut tx, &writer, &[claim]).await?);
            Ok(Ok(if new { Opened::Run } else { Opened::Known }))
        }
        .await;
        match &found {
            Ok(Ok(Opened::Run)) => {}
            _ => {
                store.rollback(tx).await;
                return found;
            }
        }
        match store.seal(&mut tx, &writer, None).await {
            Ok(Sealed::Yes) => {}
            Ok(Sealed::No) => {
                store.rollback(tx).await;
                return Err(handler_broke());
            }
            Err(error) => {
                store.rollback(tx).await;
                return Err(error);
            }
        }
        store.commit(tx).await?;
        found
    }

    /// The handler returned an error: the attempt has failed, and its end is known.
    pub(crate) async fn take_back<S: Store>(&self, store: &S) {
        if let Err(error) = store.take_back(self.scope, self.key, self.attempt).await {
            tracing::warn!(
                scope = self.scope, key = %self.key, error = %error.report(),
                "an attempt that failed could not be taken back: its end is not known now"
            );
        }
    }
}

fn is_new(claimed: Claimed) -> bool {
    matches!(claimed, Claimed::Keys(new) if new == [true])
}
