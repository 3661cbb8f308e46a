//! Claims: markers that a transaction inserts or takes over, and a look at those that say that
//! their events were given up on.

use std::time::SystemTime;

use super::state::State;
use serde_json::Value;

use crate::error::Error;
use crate::key::Key;
use crate::lane::LaneId;
use crate::marker::{Marker, MarkerState, Origin};
use crate::packed::refused;
use crate::store::{Claim, Claimed, GivenUp, Writer};

/// How far a claim got.
#[derive(Default)]
pub(super) struct Claiming {
    checked: bool,
    new: Vec<bool>,
}

impl State {
    /// One try at a claim; `None` when it has to wait.
    pub(super) fn claim(
        &mut self,
        id: u64,
        writer: &Writer<'_>,
        claims: &[Claim<'_>],
        claiming: &mut Claiming,
    ) -> Result<Option<Claimed>, Error> {
        if !claiming.checked {
            claiming.checked = true;
            self.counts.claims += 1;
            self.version += 1;
            if let Writer::Direct { .. } = writer {
                let plain = claims.iter().filter(|it| !it.reclaim && it.over.is_none());
                let mut scopes = plain.map(|claim| claim.scope);
                if let Some(packed) = scopes.find(|scope| self.data.has_packed(scope)) {
                    return Err(refused(packed));
                }
            }
            if let Writer::Lane(held) = writer {
                let row = self.data.lanes.get(&held.number);
                if row.is_none_or(|lane| lane.row.token != held.token) {
                    return Ok(Some(Claimed::Fenced));
                }
            }
        }
        for claim in &claims[claiming.new.len()..] {
            let key = (claim.scope.to_owned(), claim.key.clone());
            if self.waits(id, |staged| staged.markers.contains_key(&key))? {
                return Ok(None);
            }
            let began = self.tx(id)?.began;
            let marker = match self.marker(id, &key)? {
                None if claim.over.is_none() => Some(inserted(began, writer, claim)),
                Some(known) if is_taken_over(&known, claim) => {
                    Some(taken_over(known, began, writer, claim))
                }
                _ => None,
            };
            claiming.new.push(marker.is_some());
            if let Some(marker) = marker {
                self.staged(id)?.markers.insert(key, marker);
            }
        }
        Ok(Some(Claimed::Keys(std::mem::take(&mut claiming.new))))
    }

    /// For each key, whether it was given up on.
    pub(super) fn given_up(
        &mut self,
        id: u64,
        keys: &[(&str, &Key)],
    ) -> Result<Vec<Option<GivenUp>>, Error> {
        keys.iter()
            .map(|&(scope, key)| {
                let marker = self.marker(id, &(scope.to_owned(), key.clone()))?;
                Ok(marker.filter(|it| it.state != MarkerState::Processed).map(|it| self.look(&it)))
            })
            .collect()
    }

    /// For each key, its marker.
    pub(super) fn known(
        &mut self,
        id: u64,
        keys: &[(&str, &Key)],
    ) -> Result<Vec<Option<Marker>>, Error> {
        let now = self.clock.now();
        keys.iter()
            .map(|&(scope, key)| {
                let marker = self.marker(id, &(scope.to_owned(), key.clone()))?;
                Ok(marker.map(|it| read_at(now, it)))
            })
            .collect()
    }

    /// The committed marker of a key.
    pub(super) fn read_marker(&self, scope: &str, key: &Key) -> Option<Marker> {
        let marker = self.data.markers.get(&(scope.to_owned(), key.clone()))?;
        Some(read_at(self.clock.now(), marker.clone()))
    }

    /// Keeps what handlers returned beside the markers of this transaction.
    pub(super) fn keep_results(
        &mut self,
        id: u64,
        results: &[(&str, &Key, &Value)],
    ) -> Result<(), Error> {
        for &(scope, key, result) in results {
            if let Some(marker) = self.staged(id)?.markers.get_mut(&(scope.to_owned(), key.clone()))
            {
                marker.result = Some(result.clone());
            }
        }
        Ok(())
    }

    /// Removes the marker of an attempt that was begun and has failed.
    pub(super) fn take_back(&mut self, key: &(String, Key), attempt: uuid::Uuid) {
        let begun = |it: &Marker| it.state == MarkerState::Begun && it.attempt == Some(attempt);
        if self.data.markers.get(key).is_some_and(begun) {
            self.data.markers.remove(key);
        }
    }

    /// The marker as the transaction sees it.
    fn marker(&mut self, id: u64, key: &(String, Key)) -> Result<Option<Marker>, Error> {
        let own = self.staged(id)?.markers.get(key).cloned();
        Ok(own.or_else(|| self.data.markers.get(key).cloned()))
    }

    fn look(&self, marker: &Marker) -> GivenUp {
        let lane = marker.origin.as_ref().and_then(|origin| {
            let Origin { group, topic, partition, .. } = origin;
            let (group, topic) = (group.as_str().into(), topic.as_str().into());
            self.data.lane(&LaneId { group, topic, partition: *partition })
        });
        GivenUp {
            state: marker.state,
            lane: lane.map(|lane| lane.row.number),
            offset: marker.origin.as_ref().map(|origin| origin.offset),
        }
    }
}

fn inserted(began: SystemTime, writer: &Writer<'_>, claim: &Claim<'_>) -> Marker {
    let mut marker = Marker::new(began);
    marker.state = claim.state;
    marker.metadata = claim.metadata.cloned();
    marker.fingerprint = claim.fingerprint;
    marker.correlation_id = claim.correlation.map(str::to_owned);
    marker.causation_id = claim.causation.map(str::to_owned);
    marker.attempt = attempt(writer, claim);
    if let Writer::Lane(held) = writer {
        marker.origin = claim.offset.map(|offset| Origin {
            group: held.id.group.to_string(),
            topic: held.id.topic.to_string(),
            partition: held.id.partition,
            offset,
        });
    }
    marker
}

/// With its age.
fn read_at(now: SystemTime, marker: Marker) -> Marker {
    let age = now.duration_since(marker.processed_at).unwrap_or_default();
    Marker { age, ..marker }
}

fn is_taken_over(known: &Marker, claim: &Claim<'_>) -> bool {
    match (known.state, claim.over) {
        (MarkerState::Begun, Some(over)) => known.attempt == Some(over),
        (MarkerState::Dead | MarkerState::Parked, None) => claim.reclaim,
        _ => false,
    }
}

fn taken_over(known: Marker, began: SystemTime, writer: &Writer<'_>, claim: &Claim<'_>) -> Marker {
    let fingerprint = claim.fingerprint.or(claim.over.and(known.fingerprint));
    let state = claim.state;
    let attempt = attempt(writer, claim);
    let given = claim.over.and(claim.metadata).cloned();
    let metadata = given.or_else(|| known.metadata.clone());
    Marker { state, fingerprint, processed_at: began, attempt, metadata, ..known }
}

fn attempt(writer: &Writer<'_>, claim: &Claim<'_>) -> Option<uuid::Uuid> {
    claim.attempt.or(match writer {
        Writer::Lane(_) => None,
        Writer::Direct { attempt } => Some(*attempt),
    })
}
