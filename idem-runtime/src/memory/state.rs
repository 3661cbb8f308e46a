//! The state behind the lock: what is committed, what is open, who waits for whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::data::{Data, ParkedId, ParkedRow, Row};
use super::faults::Script;
use super::letters::Letter;
use super::seal::Moved;
use super::view::Counts;
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::marker::Marker;
use crate::packed::PackRow;
use crate::store::Terms;

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) data: Data,
    pub(super) open: HashMap<u64, Open>,
    pub(super) counts: Counts,
    /// Of all transactions that were begun.
    pub(super) terms: Vec<Terms>,
    pub(super) script: Script,
    /// Whether the database can be reached.
    pub(super) down: bool,
    next_tx: u64,
    /// Changes of the state that somebody may be waiting for.
    pub(super) version: u64,
}

/// An open transaction.
pub(super) struct Open {
    pub(super) began: SystemTime,
    pub(super) health: Health,
    pub(super) staged: Staged,
    pub(super) sealed: bool,
    pub(super) waits_for: Option<u64>,
}

/// What a transaction will change when it commits. What is in here is locked.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) rows: Vec<Row>,
    pub(super) markers: BTreeMap<(String, Key), Marker>,
    /// Rows of packed markers, each with its scope.
    pub(super) packs: Vec<(String, PackRow)>,
    /// Lanes whose owners are to take them again.
    pub(super) unsettled: BTreeSet<i64>,
    pub(super) letters: BTreeMap<i64, Letter>,
    /// `None` is one that is deleted.
    pub(super) parked: BTreeMap<ParkedId, Option<ParkedRow>>,
    /// Attempts that are forgotten: lane, offset and scope.
    pub(super) forgotten: BTreeSet<(i64, i64, String)>,
    /// Lanes whose owners are no longer counted as dying.
    pub(super) calm: BTreeSet<i64>,
    pub(super) moved: Option<Moved>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Sound,
    /// A statement failed; nothing but a rollback is possible.
    Aborted,
    /// The handler ended it.
    Ended,
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

    /// A statement of a transaction: tried as [`until`](Self::until) does, as long as it answers
    /// `None` because it waits for another transaction.
    pub(super) async fn statement<T>(
        &self,
        id: u64,
        mut step: impl FnMut(&mut State) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let step = |state: &mut State| {
            let answer = state.sound(id).map(|_| ()).and_then(|()| step(state)).transpose()?;
            state.version += 1;
            if let Some(tx) = state.open.get_mut(&id) {
                tx.waits_for = None;
            }
            Some(answer)
        };
        self.until(step).await
    }
}

/// The time, to the microsecond as databases have it.
fn moment() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(micros)
}

impl State {
    pub(super) fn begin(&mut self, terms: &Terms) -> u64 {
        self.version += 1;
        self.counts.begins += 1;
        self.terms.push(*terms);
        self.next_tx += 1;
        let open = Open {
            began: moment(),
            health: Health::Sound,
            staged: Staged::default(),
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

    /// Answers whether there was something to undo.
    pub(super) fn roll_back(&mut self, id: u64) -> bool {
        let was_open = self.open.remove(&id).is_some();
        self.counts.rollbacks += usize::from(was_open);
        was_open
    }

    pub(super) fn tx(&mut self, id: u64) -> Result<&mut Open, Error> {
        self.open
            .get_mut(&id)
            .ok_or_else(|| Error::new(ErrorKind::Transient, "the connection was lost"))
    }

    pub(super) fn sound(&mut self, id: u64) -> Result<&mut Open, Error> {
        let tx = self.tx(id)?;
        let broke = |message: &str| Err(Error::new(ErrorKind::HandlerBroke, message));
        match tx.health {
            Health::Sound => Ok(tx),
            Health::Aborted => broke("a statement failed and the handler went on: nothing is kept"),
            Health::Ended => broke("the handler ended the transaction: nothing is kept"),
        }
    }

    pub(super) fn staged(&mut self, id: u64) -> Result<&mut Staged, Error> {
        Ok(&mut self.tx(id)?.staged)
    }

    /// The transaction beside `id` that has locked what `holds` looks for.
    pub(super) fn holder(&self, id: u64, holds: impl Fn(&Staged) -> bool) -> Option<u64> {
        let mut others = self.open.iter().filter(|(other, _)| **other != id);
        others.find(|(_, tx)| holds(&tx.staged)).map(|(other, _)| *other)
    }

    /// Waits for the transaction that has locked what `holds` looks for, unless that one waits for
    /// this one; answers whether there is one.
    pub(super) fn waits(
        &mut self,
        id: u64,
        holds: impl Fn(&Staged) -> bool,
    ) -> Result<bool, Error> {
        let Some(holder) = self.holder(id, holds) else { return Ok(false) };
        let mut next = Some(holder);
        while let Some(other) = next {
            if other == id {
                let tx = self.tx(id)?;
                tx.health = Health::Aborted;
                tx.waits_for = None;
                let message = "deadlock: two transactions wait for each other";
                return Err(Error::new(ErrorKind::Transient, message));
            }
            next = self.open.get(&other).and_then(|tx| tx.waits_for);
        }
        let tx = self.tx(id)?;
        if tx.waits_for.replace(holder) != Some(holder) {
            self.version += 1;
        }
        Ok(true)
    }
}
