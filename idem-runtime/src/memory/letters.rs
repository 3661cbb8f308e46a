//! Dead letters: writing them, and what people do with them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::data::{Data, ParkedId};
use super::state::{Staged, State};
use crate::dead_letter::{
    DeadLetter, LetterAction, LetterFilter, LetterNote, LetterState, NewLetter, REOPENED_BY,
    REOPENED_NOTE,
};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Headers};
use crate::key::Key;
use crate::lane::Held;
use crate::store::{Edit, Settlement};

/// A dead letter's row, with what was done with it.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// With the event as it came.
    letter: DeadLetter,
    pub(super) lane: i64,
    topic_id: Option<String>,
    /// What somebody put in place of parts of the event.
    edit: Edited,
    pub(super) notes: Vec<LetterNote>,
    pub(super) forwarded: bool,
}

/// What was edited of an event.
#[derive(Debug, Clone, Default)]
struct Edited {
    payload: Option<Option<Bytes>>,
    headers: Option<Headers>,
    message_key: Option<Option<Bytes>>,
}

impl Edited {
    fn put(&mut self, edit: &Edit<'_>) {
        let bytes = |it: Option<&[u8]>| it.map(Bytes::copy_from_slice);
        self.payload = edit.payload.map(bytes).or_else(|| self.payload.take());
        self.headers = edit.headers.cloned().or_else(|| self.headers.take());
        self.message_key = edit.message_key.map(bytes).or_else(|| self.message_key.take());
    }
}

impl Letter {
    fn new(
        (id, now): (i64, SystemTime),
        new: &NewLetter<'_>,
        held: &Held,
        topic_id: Option<&str>,
    ) -> Self {
        let (scope, group) = (new.scope.to_owned(), held.id.group.to_string());
        let mut letter = DeadLetter::new(id, scope, new.state, group, new.event.clone());
        letter.key = new.key.cloned();
        letter.digest = new.digest;
        letter.written_at = now;
        let mut row = Self {
            letter,
            lane: held.number,
            topic_id: topic_id.map(str::to_owned),
            edit: Edited::default(),
            notes: Vec::new(),
            forwarded: false,
        };
        row.give_up(new);
        row
    }

    fn give_up(&mut self, new: &NewLetter<'_>) {
        let scope = self.letter.scope.as_str();
        let fingerprint = new.cause.map(|cause| cause.fingerprint(scope)).unwrap_or_default();
        self.letter.state = new.state;
        self.letter.cause = new.cause.cloned();
        self.letter.fingerprint = fingerprint;
    }

    /// It waited until now, and keeps its key: that is its event's, as it came.
    fn take_over(&mut self, new: &NewLetter<'_>, held: &Held) {
        self.give_up(new);
        self.lane = held.number;
        self.letter.group = held.id.group.to_string();
    }

    fn reopen(&mut self, new: &NewLetter<'_>, held: &Held) {
        self.take_over(new, held);
        self.letter.key = new.key.cloned();
        self.edit.message_key = None;
        self.forwarded = false;
        let (by, note) = (REOPENED_BY.to_owned(), Some(REOPENED_NOTE.to_owned()));
        self.notes.push(LetterNote::new(SystemTime::now(), LetterAction::Reopened, by, note));
    }

    /// Whether it is an open one of this key.
    pub(super) fn is_open_of(&self, scope: &str, key: &Key) -> bool {
        self.letter.scope == scope
            && self.letter.key.as_ref() == Some(key)
            && !self.letter.state.is_settled()
    }

    pub(super) fn group(&self) -> &str {
        &self.letter.group
    }

    pub(super) fn state(&self) -> LetterState {
        self.letter.state
    }

    pub(super) fn set_state(&mut self, state: LetterState) {
        self.letter.state = state;
    }

    pub(super) fn offset(&self) -> i64 {
        self.letter.event.offset
    }

    /// As it is shown: with what was edited.
    pub(super) fn shown(&self) -> DeadLetter {
        let mut letter = self.letter.clone();
        let Edited { payload, headers, message_key } = &self.edit;
        letter.edited = payload.is_some() || headers.is_some() || message_key.is_some();
        let event = &mut letter.event;
        event.payload = payload.clone().unwrap_or_else(|| event.payload.take());
        event.headers = headers.clone().unwrap_or_else(|| std::mem::take(&mut event.headers));
        event.message_key = message_key.clone().unwrap_or_else(|| event.message_key.take());
        letter
    }

    /// The message key behind which others wait for it, or it for another.
    pub(super) fn parked_id(&self) -> Option<ParkedId> {
        parked_id(self.lane, &self.letter.scope, &self.letter.event)
    }

    /// Whether it is the same event of the same log, for the same scope.
    fn is_of(&self, new: &NewLetter<'_>, topic_id: Option<&str>) -> bool {
        let event = &self.letter.event;
        self.letter.scope == new.scope
            && self.topic_id.as_deref().unwrap_or_default() == topic_id.unwrap_or_default()
            && (&event.topic, event.partition, event.offset)
                == (&new.event.topic, new.event.partition, new.event.offset)
            && self.letter.digest == new.digest
    }

    fn passes(&self, filter: &LetterFilter) -> bool {
        let it = &self.letter;
        let class = it.cause.as_ref().map(|cause| cause.class);
        filter.ids.as_ref().is_none_or(|ids| ids.contains(&it.id))
            && filter.scope.as_ref().is_none_or(|scope| *scope == it.scope)
            && filter
                .key
                .as_ref()
                .is_none_or(|wanted| it.key.as_ref().is_some_and(|key| key.as_str() == *wanted))
            && filter.topic.as_ref().is_none_or(|topic| **topic == *it.event.topic)
            && filter.state.is_none_or(|state| state == it.state)
            && filter.class.is_none_or(|wanted| Some(wanted) == class)
            && filter.fingerprint.as_ref().is_none_or(|wanted| *wanted == it.fingerprint)
            && filter.header.as_ref().is_none_or(|(name, value)| {
                let headers = self.edit.headers.as_ref().unwrap_or(&it.event.headers);
                headers.get(name).is_some_and(|is| is == value.as_slice())
            })
            && filter.since.is_none_or(|since| it.written_at >= since)
            && filter.until.is_none_or(|until| it.written_at < until)
            && filter.after.is_none_or(|after| it.id > after)
    }
}

fn parked_id(lane: i64, scope: &str, event: &Event) -> Option<ParkedId> {
    event.message_key.as_ref().map(|key| (lane, scope.to_owned(), key.to_vec()))
}

fn limited(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

impl Data {
    pub(super) fn listed(&self, filter: &LetterFilter) -> Vec<DeadLetter> {
        let letters = self.letters.values().filter(|letter| letter.passes(filter));
        letters.map(Letter::shown).take(limited(filter.limit)).collect()
    }

    pub(super) fn unforwarded(&self, lanes: &[i64], limit: u32) -> Vec<DeadLetter> {
        let wanted = |letter: &&Letter| {
            matches!(letter.state(), LetterState::Dead | LetterState::Parked)
                && !letter.forwarded
                && lanes.contains(&letter.lane)
        };
        let letters = self.letters.values().filter(wanted);
        letters.map(Letter::shown).take(limited(Some(limit))).collect()
    }

    /// The waiting events of a lane whose message keys are released.
    pub(super) fn released(&self, lane: i64, from: i64, limit: u32) -> Vec<DeadLetter> {
        let is_released = |letter: &&Letter| {
            let row = letter.parked_id().and_then(|id| self.parked.get(&id));
            letter.lane == lane
                && letter.offset() >= from
                && letter.state() == LetterState::Waiting
                && row.is_some_and(|row| row.released)
        };
        let mut letters: Vec<_> = self.letters.values().filter(is_released).collect();
        letters.sort_by_key(|letter| letter.offset());
        letters.into_iter().map(Letter::shown).take(limited(Some(limit))).collect()
    }
}

impl State {
    /// A letter as the transaction sees it.
    pub(super) fn letter(&mut self, tx: u64, id: i64) -> Result<Option<Letter>> {
        let own = self.staged(tx)?.letters.get(&id).cloned();
        Ok(own.or_else(|| self.data.letters.get(&id).cloned()))
    }

    /// One try at writing dead letters; `None` when it has to wait.
    pub(super) fn give_up(
        &mut self,
        tx: u64,
        held: &Held,
        letters: &[NewLetter<'_>],
    ) -> Result<Option<()>> {
        let Some(lane) = self.data.lanes.get(&held.number) else { return Ok(Some(())) };
        let topic_id = lane.row.identity.topic_id.clone();
        let topic_id = topic_id.as_deref();
        for new in letters {
            let parks = matches!(new.state, LetterState::Parked | LetterState::Waiting);
            let key = parked_id(held.number, new.scope, new.event).filter(|_| parks);
            if parks && key.is_none() {
                let message = "an event without a message key cannot be parked";
                return Err(Error::new(ErrorKind::Store, message));
            }
            let known = self.data.letters.values().find(|letter| letter.is_of(new, topic_id));
            let known = known.filter(|letter| letter.state() == LetterState::Waiting);
            let waits_behind = known.and_then(Letter::parked_id);
            let held_up = |staged: &Staged| {
                key.iter().chain(&waits_behind).any(|key| staged.parked.contains_key(key))
                    || staged.letters.values().any(|letter| letter.is_of(new, topic_id))
            };
            if self.waits(tx, held_up)? {
                return Ok(None);
            }
        }
        for new in letters {
            self.write_letter(tx, held, new, topic_id)?;
        }
        Ok(Some(()))
    }

    fn write_letter(
        &mut self,
        tx: u64,
        held: &Held,
        new: &NewLetter<'_>,
        topic_id: Option<&str>,
    ) -> Result<()> {
        let known = |letters: &BTreeMap<i64, Letter>| {
            letters.values().find(|letter| letter.is_of(new, topic_id)).cloned()
        };
        let known = known(&self.staged(tx)?.letters).or_else(|| known(&self.data.letters));
        let mut waited_behind = None;
        let letter = match known {
            None => {
                self.data.next_letter += 1;
                Letter::new((self.data.next_letter, self.clock.now()), new, held, topic_id)
            }
            Some(mut letter)
                if letter.state() == LetterState::Waiting && new.state != LetterState::Waiting =>
            {
                waited_behind = letter.parked_id();
                letter.take_over(new, held);
                letter
            }
            Some(mut letter) if letter.state().is_settled() && new.had_a_new_key() => {
                letter.reopen(new, held);
                letter
            }
            Some(_) => return Ok(()),
        };
        let key = letter.parked_id();
        self.staged(tx)?.letters.insert(letter.letter.id, letter);
        if let Some(key) = waited_behind {
            self.stop_waiting(tx, &key)?;
        }
        let Some(key) = key else { return Ok(()) };
        match new.state {
            LetterState::Parked => self.park(tx, key),
            LetterState::Waiting => self.wait_behind(tx, &key),
            _ => Ok(()),
        }
    }

    /// One try at locking a letter; `None` inside when it has to wait.
    pub(super) fn lock_letter(&mut self, tx: u64, id: i64) -> Result<Option<Option<DeadLetter>>> {
        let Some(letter) = self.letter(tx, id)? else { return Ok(Some(None)) };
        if matches!(letter.state(), LetterState::Parked | LetterState::Waiting)
            && let Some(key) = letter.parked_id()
            && self.lock_parked(tx, &key)?.is_none()
        {
            return Ok(None);
        }
        if self.waits(tx, |staged| staged.letters.contains_key(&id))? {
            return Ok(None);
        }
        let shown = letter.shown();
        self.staged(tx)?.letters.insert(id, letter);
        Ok(Some(Some(shown)))
    }

    pub(super) fn settle_letter(
        &mut self,
        tx: u64,
        id: i64,
        settlement: &Settlement<'_>,
    ) -> Result<Option<()>> {
        if self.waits(tx, |staged| staged.letters.contains_key(&id))? {
            return Ok(None);
        }
        let Some(mut letter) = self.letter(tx, id)? else { return Ok(Some(())) };
        let (by, note) = (settlement.by.to_owned(), settlement.note.map(str::to_owned));
        letter.notes.push(LetterNote::new(SystemTime::now(), settlement.action, by, note));
        let was = letter.state();
        let key = letter.parked_id();
        let settled = match settlement.action {
            LetterAction::Replayed | LetterAction::Superseded => Some(LetterState::Replayed),
            LetterAction::Dropped => Some(LetterState::Dropped),
            LetterAction::ReplayFailed | LetterAction::Reopened => None,
            LetterAction::Edited => {
                letter.edit.put(&settlement.edit.unwrap_or_default());
                None
            }
        };
        if let Some(state) = settled {
            letter.set_state(state);
        }
        self.staged(tx)?.letters.insert(id, letter);
        match (settled, was, key) {
            (Some(_), LetterState::Parked, Some(key)) => self.release_key(tx, &key)?,
            (Some(_), LetterState::Waiting, Some(key)) => self.stop_waiting(tx, &key)?,
            _ => {}
        }
        Ok(Some(()))
    }

    /// One try at noting that letters were forwarded; `None` when it has to wait.
    pub(super) fn forwarded(&mut self, letters: &[i64]) -> Option<()> {
        let locked = |staged: &Staged| letters.iter().any(|id| staged.letters.contains_key(id));
        if self.open.values().any(|tx| locked(&tx.staged)) {
            return None;
        }
        self.version += 1;
        for id in letters {
            if let Some(letter) = self.data.letters.get_mut(id) {
                letter.forwarded = true;
            }
        }
        Some(())
    }
}
