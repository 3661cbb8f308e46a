//! Attempts with effects outside of the database: their numbers, the look at a marker before one is
//! written down, and a call or a replay that writes one down.
//!
//! A lane does the same with its own transaction (`pipeline/outside.rs`).

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::backoff::Backoff;
use crate::dead_letter::Fnv;
use crate::effects::{self, Begun, Probed, UNKNOWN, UnknownEnd, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::lane::LaneId;
use crate::marker::MarkerState;
use crate::state::States;
use crate::store::direct::sealed;
use crate::store::{Claim, Claimed, Store, Terms, Writer};

/// How often what passes by itself is tried again before the caller is told.
const TRIES: u32 = 5;

/// A number for an attempt of this lane. Its first half says which lane: the marker tells where its
/// event came from, which after a take-over is not where the attempt is.
pub(crate) fn number_in(lane: &LaneId) -> Uuid {
    let mut bytes = Uuid::new_v4().into_bytes();
    bytes[..8].copy_from_slice(&named(lane));
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Whether it is the number of an attempt of this lane, by whichever of its owners.
pub(crate) fn is_of_lane(attempt: Uuid, lane: &LaneId) -> bool {
    let mut bytes = attempt.into_bytes();
    bytes[..8].copy_from_slice(&named(lane));
    uuid::Builder::from_custom_bytes(bytes).into_uuid() == attempt
}

fn named(lane: &LaneId) -> [u8; 8] {
    let mut hash = Fnv::default();
    hash.part(lane.group.as_bytes());
    hash.part(lane.topic.as_bytes());
    hash.bytes(&lane.partition.to_be_bytes());
    hash.0.to_be_bytes()
}

/// Another's attempt, which was begun and has no end yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Other {
    /// Its number.
    pub(crate) attempt: Uuid,
    /// When it was begun, by the database's clock.
    pub(crate) at: SystemTime,
    /// How long that is ago, by the same clock.
    pub(crate) age: Duration,
}

/// What a transaction that is to write an attempt down has found.
pub(crate) enum Seen {
    /// The attempt is written down: seal and commit. Whether the key had no marker at all.
    Begun { is_new: bool },
    /// The key is known, and not of an attempt: the claim that follows sees what it is.
    Known,
    /// Another attempt.
    Other(Other),
    /// The marker has changed since it was looked at.
    Changed,
    /// The lane is another's.
    Fenced,
}

/// Looks at the key's marker, and writes the attempt of this claim down if nobody else's is there; with
/// `over` also if that one is. Without waiting for a transaction that works one.
pub(crate) async fn write_down<S: Store>(
    store: &S,
    tx: &mut S::Tx,
    writer: &Writer<'_>,
    claim: Claim<'_>,
    over: Option<Uuid>,
) -> Result<Seen> {
    let known = store.known(tx, &[(claim.scope, claim.key)]).await?.into_iter().next().flatten();
    let is_new = known.is_none();
    let over = match known {
        None => None,
        Some(marker) => match (marker.state, marker.attempt) {
            (MarkerState::Begun, Some(it)) if Some(it) == claim.attempt || Some(it) == over => {
                Some(it)
            }
            (MarkerState::Begun, None) => {
                let (scope, key) = (claim.scope, claim.key);
                let message = format!(
                    "scope {scope}, key {key}: the marker says that an attempt was begun, and has no \
                     number of it"
                );
                return Err(Error::new(ErrorKind::Store, message));
            }
            (MarkerState::Begun, Some(attempt)) => {
                // It sees to it that the lane is still its owner's.
                if store.claim(tx, writer, &[]).await? == Claimed::Fenced {
                    return Ok(Seen::Fenced);
                }
                let (at, age) = (marker.processed_at, marker.age);
                return Ok(Seen::Other(Other { attempt, at, age }));
            }
            (MarkerState::Dead | MarkerState::Parked, _) if claim.reclaim => None,
            _ => return Ok(Seen::Known),
        },
    };
    Ok(match store.claim(tx, writer, &[Claim { over, ..claim }]).await? {
        Claimed::Keys(new) if new == [true] => Seen::Begun { is_new },
        Claimed::Keys(_) => Seen::Changed,
        Claimed::Fenced => Seen::Fenced,
    })
}

/// Puts the marker of an attempt, if it is still that attempt's, back to this state: what it said before
/// the attempt was begun, or that it is given up on. In a transaction of its own.
pub(crate) async fn put_back<S: Store>(
    store: &S,
    (scope, key): (&str, &Key),
    attempt: Uuid,
    state: MarkerState,
) -> Result<()> {
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    let claim = Claim { state, over: Some(attempt), ..Claim::new(scope, key) };
    let mut backoff = Backoff::for_store();
    loop {
        let done = async {
            let mut tx = store.begin(&writer, &Terms::default()).await?;
            match store.claim(&mut tx, &writer, &[claim]).await {
                Ok(Claimed::Keys(new)) if new == [true] => {}
                other => {
                    store.rollback(tx).await;
                    return other.map(drop);
                }
            }
            finish(store, tx, &writer).await
        };
        match done.await {
            Err(error) if passes(&error) && backoff.tries() < TRIES => backoff.wait().await,
            done => return done,
        }
    }
}

/// Whether the same may be tried again: whatever has landed, a number tells.
fn passes(error: &Error) -> bool {
    error.is_retryable() || error.kind() == ErrorKind::UnknownCommit
}

/// Seals and commits.
async fn finish<S: Store>(store: &S, mut tx: S::Tx, writer: &Writer<'_>) -> Result<()> {
    if let Err(error) = sealed(store, &mut tx, writer).await {
        store.rollback(tx).await;
        return Err(error);
    }
    store.commit(tx).await
}

/// What is to be done for a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The attempt is written down: run the handler.
    Run,
    /// The effect of this attempt had happened: mark the key.
    Mark(Uuid),
    /// The key is known, and not of an attempt: the claim that follows tells as what.
    Known,
    /// Ask the probe about this attempt.
    Ask(Other),
    /// This attempt is not repeated before that time has passed.
    Later(Duration),
    /// This attempt is not repeated.
    GiveUp(Uuid, String),
}

/// An attempt at a key by a call or a replay.
pub(crate) struct Opening<'a> {
    /// With its number; `reclaim` where it is of a dead letter.
    pub(crate) claim: Claim<'a>,
    /// The letter that is replayed.
    pub(crate) letter: Option<i64>,
    pub(crate) scope: &'static str,
    pub(crate) unknown: UnknownEnd,
    pub(crate) timeout: Option<Duration>,
    pub(crate) states: &'a States,
}

impl Opening<'_> {
    /// Writes the attempt down, or finds out why not. With `over` that one is taken over. While another
    /// may go on, it waits for its end.
    pub(crate) async fn open<S: Store>(&self, store: &S, mut over: Option<Uuid>) -> Result<Opened> {
        let mut backoff = Backoff::for_store();
        let can_take = effects::can_take(self.timeout);
        loop {
            let other = match self.write_down(store, over).await {
                Ok(Seen::Begun { .. }) => return Ok(Opened::Run),
                Ok(Seen::Known) => return Ok(Opened::Known),
                Ok(Seen::Other(other)) => other,
                Ok(Seen::Changed) => {
                    (over, _) = (None, backoff.wait().await);
                    continue;
                }
                Ok(Seen::Fenced) => {
                    let message = "an attempt was refused as a lane's";
                    return Err(Error::new(ErrorKind::Fenced, message));
                }
                // Written down or not, it is known by its number.
                Err(error) if passes(&error) && backoff.tries() < TRIES => {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            over = None;
            match self.unknown.verdict(other.age, can_take) {
                Verdict::Again => over = Some(other.attempt),
                Verdict::Wait(rest) if other.age < can_take => {
                    let rest = rest.min(can_take - other.age);
                    tokio::time::sleep(effects::pause(other.age, rest)).await;
                }
                Verdict::Wait(rest) => return Ok(Opened::Later(rest)),
                Verdict::GiveUp => {
                    let why = format!("{UNKNOWN}, and its handler says that it is not repeated");
                    return Ok(Opened::GiveUp(other.attempt, why));
                }
                Verdict::Ask => return Ok(Opened::Ask(other)),
            }
        }
    }

    /// What a probe is told of this attempt.
    pub(crate) fn begun(&self, other: &Other) -> Begun {
        Begun::new(self.scope, self.claim.key.clone(), other.at, self.states.clone())
    }

    /// What follows from the probe's answer.
    pub(crate) async fn probed<S: Store>(
        &self,
        store: &S,
        other: &Other,
        probed: Probed,
    ) -> Result<Opened> {
        match probed {
            Probed::NotDone => self.open(store, Some(other.attempt)).await,
            Probed::Done => Ok(Opened::Mark(other.attempt)),
            Probed::Unknown => {
                let why = format!("{UNKNOWN}, not even to its probe");
                Ok(Opened::GiveUp(other.attempt, why))
            }
        }
    }

    /// In a transaction of its own.
    async fn write_down<S: Store>(&self, store: &S, over: Option<Uuid>) -> Result<Seen> {
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut tx = store.begin(&writer, &Terms::default()).await?;
        let seen = async {
            if let Some(id) = self.letter {
                match store.lock_letter(&mut tx, id).await? {
                    Some(letter) if !letter.state.is_settled() => {}
                    _ => return Ok(Seen::Known),
                }
            }
            write_down(store, &mut tx, &writer, self.claim, over).await
        };
        match seen.await {
            Ok(Seen::Begun { .. }) => {}
            seen => {
                store.rollback(tx).await;
                return seen;
            }
        }
        finish(store, tx, &writer).await?;
        Ok(Seen::Begun { is_new: false })
    }

    /// The handler returned an error: the attempt has failed, and its end is known.
    pub(crate) async fn take_back<S: Store>(&self, store: &S) {
        let Some(attempt) = self.claim.attempt else { return };
        if let Err(error) = store.take_back(self.scope, self.claim.key, attempt).await {
            tracing::warn!(
                scope = self.scope, key = %self.claim.key, error = %error.report(),
                "an attempt that failed could not be taken back: its end is not known now"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_attempt_says_which_lane_it_is_of() {
        let lane =
            |topic: &str, partition| LaneId { group: "g".into(), topic: topic.into(), partition };
        let (number, again) = (number_in(&lane("t", 1)), number_in(&lane("t", 1)));
        assert_ne!(number, again);
        for it in [number, again] {
            assert!(is_of_lane(it, &lane("t", 1)));
            assert!(!is_of_lane(it, &lane("t", 2)) && !is_of_lane(it, &lane("u", 1)));
        }
        assert!(!is_of_lane(Uuid::new_v4(), &lane("t", 1)));
    }
}
