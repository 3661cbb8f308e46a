//! A replay of letters whose handlers have effects outside of the database: the attempt is written down
//! before, in a transaction of its own.

use uuid::Uuid;

use super::Replay;
use super::attempt::{Replayed, fingerprint};
use crate::dead_letter::{LetterFilter, LetterState, error_text};
use crate::effects::UNKNOWN;
use crate::error::Result;
use crate::format::Encoded;
use crate::group::Registered;
use crate::key::Key;
use crate::marker::MarkerState;
use crate::outside::{Opened, Opening, put_back};
use crate::store::{Claim, Store};

/// An attempt whose marker says "begun".
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) scope: &'static str,
    pub(super) key: Key,
    pub(super) attempt: Uuid,
    /// Whether its effects had happened: there is nothing to run.
    pub(super) has_happened: bool,
    /// What its marker said before, or says when it is given up on.
    before: MarkerState,
}

impl Begun {
    /// An attempt of somebody else, at the event of a letter in this state.
    pub(super) fn other(
        scope: &'static str,
        key: &Key,
        attempt: Uuid,
        letter: LetterState,
    ) -> Self {
        let before = match letter {
            LetterState::Parked | LetterState::Waiting => MarkerState::Parked,
            _ => MarkerState::Dead,
        };
        Self { scope, key: key.clone(), attempt, has_happened: false, before }
    }
}

impl<S: Store> Replay<S> {
    /// Writes down the attempts of those handlers whose effects are outside; answers what the replay has
    /// ended with if one of them cannot be.
    pub(super) async fn begin(
        &self,
        handlers: &[&Registered<S>],
        id: i64,
        begun: &mut Vec<Begun>,
    ) -> Result<Option<Replayed>> {
        let letters = self.store.letters(&LetterFilter::id(id)).await?;
        let open = letters.first().filter(|letter| !letter.state.is_settled());
        // The transaction that follows says what it is, and why it cannot be read.
        let Some(letter) = open.filter(|letter| letter.state != LetterState::Waiting) else {
            return Ok(None);
        };
        for handler in handlers {
            let Some(unknown) = handler.policy.unknown_end else { continue };
            let schemas = self.schemas(handler, &letter.event).await?;
            let event = Encoded::new(&letter.event, &schemas);
            let Ok((mut work, identity)) = self.push(handler, event) else { return Ok(None) };
            let Some(key) = identity.key() else { continue };
            let own = Uuid::new_v4();
            let opening = Opening {
                claim: Claim {
                    state: MarkerState::Begun,
                    attempt: Some(own),
                    fingerprint: fingerprint(handler, &*work, &letter.event),
                    ..self.reclaim(handler.scope, key, &letter.event)
                },
                letter: Some(id),
                scope: handler.scope,
                unknown,
                timeout: handler.policy.timeout,
                states: &self.states,
            };
            let mut opened = opening.open(&self.store, None).await?;
            while let Opened::Ask(other) = &opened {
                let event = Encoded::new(&letter.event, &schemas);
                let asked = opening.begun(other);
                let probed = match work.probe(event, 0, asked, handler.policy.timeout).await {
                    Ok(probed) => probed,
                    Err(failure) => {
                        let error = error_text(&failure.error);
                        return Ok(Some(Replayed::Failed(format!("{UNKNOWN}: {error}"))));
                    }
                };
                opened = opening.probed(&self.store, other, probed).await?;
            }
            let other = |attempt| Begun::other(handler.scope, key, attempt, letter.state);
            match opened {
                Opened::Run => begun.push(other(own)),
                Opened::Mark(attempt) => {
                    begun.push(Begun { has_happened: true, ..other(attempt) });
                }
                Opened::Later(rest) => {
                    let why = format!("{UNKNOWN}: replay it again in {rest:.0?}");
                    return Ok(Some(Replayed::Failed(why)));
                }
                Opened::GiveUp(attempt, why) => {
                    begun.push(other(attempt));
                    return Ok(Some(Replayed::Failed(why)));
                }
                Opened::Known | Opened::Ask(_) => {}
            }
        }
        Ok(None)
    }

    /// The markers of these attempts say again what they said before. Not of those that have happened.
    pub(super) async fn put_back(&self, begun: &[Begun]) {
        for Begun { scope, key, attempt, before, .. } in begun.iter().filter(|it| !it.has_happened)
        {
            if let Err(error) = put_back(&self.store, (scope, key), *attempt, *before).await {
                tracing::warn!(
                    scope, key = %key, error = %error.report(),
                    "the attempt of a replay could not be put back: its end is not known now"
                );
            }
        }
    }
}
