//! The state behind the lock: what is committed, what is open, who waits for whom.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::data::{Data, Row};
use super::faults::Script;
use super::view::Counts;
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::lane::LaneRow;
use crate::marker::{Marker, Origin};
use crate::store::{Claim, Claimed, Seal, Sealed, Writer};

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) data: Data,
    pub(super) open: HashMap<u64, Open>,
    pub(super) counts: Counts,
    pub(super) script: Script,
    /// Whether the database can be reached.
    pub(super) down: bool,
    next_tx: u64,
    /// Changes of the state that somebody may be waiting for.
    pub(super) version: u64,
}

/// An open transaction.
pub(super) struct Open {
    began: SystemTime,
    pub(super) health: Health,
    pub(super) markers: BTreeMap<(String, Key), Marker>,
    pub(super) rows: Vec<Row>,
    /// The lane as it will be; it is locked while this is there.
    lane: Option<LaneRow>,
    sealed: bool,
    pub(super) waits_for: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Sound,
    /// A statement failed; nothing but a rollback is possible.
    Aborted,
    /// The handler ended it.
    Ended,
}

/// How far a claim got.
#[derive(Default)]
pub(super) struct Claiming {
    checked: bool,
    new: Vec<bool>,
}

impl Shared {
    pub(super) fn new(data: Data) -> Self {
        let state = Mutex::new(State { data, ..State::default() });
        Self { state, changed: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A test's condition may panic while it looks; the state is whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells those who wait for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.lock());
        self.changed.notify_waiters();
        answer
    }

    /// Tries `step` now and after each change until it answers.
    pub(super) async fn until<T>(&self, mut step: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let (answer, touched) = {
                let mut state = self.lock();
                let version = state.version;
                (step(&mut state), state.version != version)
            };
            if touched {
                self.changed.notify_waiters();
            }
            match answer {
                Some(answer) => return answer,
                None => changed.await,
            }
        }
    }
}

impl State {
    pub(super) fn begin(&mut self) -> u64 {
        self.version += 1;
        self.counts.begins += 1;
        self.next_tx += 1;
        let open = Open {
            began: SystemTime::now(),
            health: Health::Sound,
            markers: BTreeMap::new(),
            rows: Vec::new(),
            lane: None,
            sealed: false,
            waits_for: None,
        };
        self.open.insert(self.next_tx, open);
        self.next_tx
    }

    /// Every open transaction is undone, as when the server goes away.
    pub(super) fn lose_open(&mut self) {
        self.counts.rollbacks += self.open.len();
        self.open.clear();
    }

    pub(super) fn roll_back(&mut self, id: u64) {
        if self.open.remove(&id).is_some() {
            self.counts.rollbacks += 1;
        }
    }

    pub(super) fn tx(&mut self, id: u64) -> Result<&mut Open, Error> {
        self.open
            .get_mut(&id)
            .ok_or_else(|| Error::new(ErrorKind::Transient, "the connection was lost"))
    }

    fn sound(&mut self, id: u64) -> Result<&mut Open, Error> {
        let tx = self.tx(id)?;
        let broke = |message: &str| Err(Error::new(ErrorKind::HandlerBroke, message));
        match tx.health {
            Health::Sound => Ok(tx),
            Health::Aborted => broke("a statement failed and the handler went on: nothing is kept"),
            Health::Ended => broke("the handler ended the transaction: nothing is kept"),
        }
    }

    /// Waits for `holder`, unless that one waits for this transaction.
    fn wait(&mut self, id: u64, holder: u64) -> Result<(), Error> {
        let mut next = Some(holder);
        while let Some(other) = next {
            if other == id {
                self.tx(id)?.health = Health::Aborted;
                return Err(Error::new(
                    ErrorKind::Transient,
                    "deadlock: two transactions claim \
                    each other's keys",
                ));
            }
            next = self.open.get(&other).and_then(|tx| tx.waits_for);
        }
        let tx = self.tx(id)?;
        if tx.waits_for.replace(holder) != Some(holder) {
            self.version += 1;
        }
        Ok(())
    }

    /// One try at a claim; `None` when it has to wait.
    pub(super) fn claim(
        &mut self,
        id: u64,
        writer: &Writer<'_>,
        claims: &[Claim<'_>],
        claiming: &mut Claiming,
    ) -> Option<Result<Claimed, Error>> {
        match self.try_claim(id, writer, claims, claiming) {
            Ok(None) => None,
            Ok(Some(claimed)) => Some(Ok(claimed)),
            Err(error) => Some(Err(error)),
        }
    }

    fn try_claim(
        &mut self,
        id: u64,
        writer: &Writer<'_>,
        claims: &[Claim<'_>],
        claiming: &mut Claiming,
    ) -> Result<Option<Claimed>, Error> {
        self.sound(id)?;
        if !claiming.checked {
            claiming.checked = true;
            self.counts.claims += 1;
            self.version += 1;
            if let Writer::Lane(held) = writer {
                let row = self.data.lanes.get(&held.number);
                if row.is_none_or(|lane| lane.row.token != held.token) {
                    return Ok(Some(Claimed::Fenced));
                }
            }
        }
        for claim in &claims[claiming.new.len()..] {
            let key = (claim.scope.to_owned(), claim.key.clone());
            let holder = self.open.iter().find(|(_, tx)| tx.markers.contains_key(&key));
            let new = match holder {
                Some((holder, _)) if *holder != id => {
                    let holder = *holder;
                    self.wait(id, holder)?;
                    return Ok(None);
                }
                Some(_) => false,
                None => !self.data.markers.contains_key(&key),
            };
            if new {
                let tx = self.tx(id)?;
                let marker = marker(tx.began, writer, claim);
                tx.markers.insert(key, marker);
            }
            claiming.new.push(new);
        }
        self.version += 1;
        self.tx(id)?.waits_for = None;
        Ok(Some(Claimed::Keys(std::mem::take(&mut claiming.new))))
    }

    /// Who holds the lane's row: a transaction between its seal and its commit.
    pub(super) fn lane_holder(&self, number: i64) -> Option<u64> {
        let holds = |tx: &Open| tx.lane.as_ref().is_some_and(|lane| lane.number == number);
        self.open.iter().find(|(_, tx)| holds(tx)).map(|(id, _)| *id)
    }

    /// One try at a seal; `None` when it has to wait.
    pub(super) fn seal(
        &mut self,
        id: u64,
        writer: &Writer<'_>,
        seal: Option<&Seal<'_>>,
    ) -> Option<Result<Sealed, Error>> {
        if let Err(error) = self.sound(id) {
            return Some(Err(error));
        }
        let moved = match (writer, seal) {
            (Writer::Lane(held), Some(seal)) => {
                if let Some(holder) = self.lane_holder(held.number).filter(|holder| *holder != id) {
                    return self.wait(id, holder).err().map(Err);
                }
                let row = self.data.lanes.get(&held.number).map(|lane| &lane.row);
                let Some(mut row) = row
                    .filter(|row| row.token == held.token && row.revision == held.revision)
                    .cloned()
                else {
                    return Some(Ok(Sealed::No));
                };
                row.position = seal.position;
                row.revision += 1;
                for scope in seal.offset_scopes {
                    let mark = row.offset_marks.entry((*scope).to_owned()).or_insert(0);
                    *mark = seal.position.offset.max(*mark);
                }
                Some(row)
            }
            _ => None,
        };
        self.counts.seals += 1;
        self.version += 1;
        Some(self.tx(id).map(|tx| {
            tx.lane = moved;
            tx.sealed = true;
            tx.waits_for = None;
            Sealed::Yes
        }))
    }

    /// Makes what the transaction staged everybody's.
    pub(super) fn commit(&mut self, id: u64) -> Result<(), Error> {
        if let Err(error) = self.sound(id) {
            self.roll_back(id);
            return Err(error);
        }
        let Some(tx) = self.open.remove(&id) else { return Ok(()) };
        let rejected = if tx.sealed {
            self.script.rejection(&tx.rows)
        } else {
            Some(Error::new(ErrorKind::HandlerBroke, "the transaction was not sealed"))
        };
        if let Some(error) = rejected {
            self.counts.rollbacks += 1;
            return Err(error);
        }
        self.counts.commits += 1;
        self.data.markers.extend(tx.markers);
        self.data.rows.extend(tx.rows);
        if let Some(row) = tx.lane
            && let Some(lane) = self.data.lanes.get_mut(&row.number)
        {
            lane.row = row;
        }
        Ok(())
    }
}

fn marker(began: SystemTime, writer: &Writer<'_>, claim: &Claim<'_>) -> Marker {
    let mut marker = Marker::new(began);
    marker.metadata = claim.metadata.cloned();
    match writer {
        Writer::Lane(held) => {
            marker.origin = claim.offset.map(|offset| Origin {
                group: held.id.group.to_string(),
                topic: held.id.topic.to_string(),
                partition: held.id.partition,
                offset,
            });
        }
        Writer::Direct { attempt } => marker.attempt = Some(*attempt),
    }
    marker
}
