//! Parked keys: message keys behind which events wait.

use super::data::{ParkedId, ParkedRow};
use super::state::State;
use crate::dead_letter::LetterState;
use crate::error::Result;
use crate::lane::Held;

impl State {
    /// The row as the transaction sees it.
    fn parked_row(&mut self, tx: u64, key: &ParkedId) -> Result<Option<ParkedRow>> {
        let own = self.staged(tx)?.parked.get(key).copied();
        Ok(own.unwrap_or_else(|| self.data.parked.get(key).copied()))
    }

    fn set_parked(&mut self, tx: u64, key: ParkedId, row: Option<ParkedRow>) -> Result<()> {
        self.staged(tx)?.parked.insert(key, row);
        Ok(())
    }

    /// One try at locking a parked key; `None` when it has to wait. What is not there cannot be
    /// locked.
    pub(super) fn lock_parked(
        &mut self,
        tx: u64,
        key: &ParkedId,
    ) -> Result<Option<Option<ParkedRow>>> {
        // What another transaction inserts and has not committed is not seen, and not waited for.
        if self.data.parked.contains_key(key)
            && self.waits(tx, |staged| staged.parked.contains_key(key))?
        {
            return Ok(None);
        }
        let row = self.parked_row(tx, key)?;
        if row.is_some() {
            self.set_parked(tx, key.clone(), row)?;
        }
        Ok(Some(row))
    }

    /// One try at locking parked keys; `None` when it has to wait.
    pub(super) fn parked(
        &mut self,
        tx: u64,
        held: &Held,
        keys: &[(&str, &[u8])],
    ) -> Result<Option<Vec<Option<u32>>>> {
        let mut waiting = Vec::with_capacity(keys.len());
        for &(scope, key) in keys {
            let key = (held.number, scope.to_owned(), key.to_vec());
            let Some(row) = self.lock_parked(tx, &key)? else { return Ok(None) };
            let row = row.filter(|row| !row.released || row.waiting > 0);
            waiting.push(row.map(|row| row.waiting));
        }
        Ok(Some(waiting))
    }

    /// One try at noting that waiting events are worked; `None` when it has to wait.
    pub(super) fn unpark(&mut self, tx: u64, held: &Held, letters: &[i64]) -> Result<Option<()>> {
        let mut worked = Vec::new();
        for &id in letters {
            if self.waits(tx, |staged| staged.letters.contains_key(&id))? {
                return Ok(None);
            }
            let Some(letter) = self.letter(tx, id)? else { continue };
            let Some(key) = letter.parked_id() else { continue };
            if letter.lane != held.number || letter.state() != LetterState::Waiting {
                continue;
            }
            if self.lock_parked(tx, &key)?.is_none() {
                return Ok(None);
            }
            worked.push((id, letter, key));
        }
        for (id, mut letter, key) in worked {
            letter.set_state(LetterState::Replayed);
            self.staged(tx)?.letters.insert(id, letter);
            self.stop_waiting(tx, &key)?;
        }
        Ok(Some(()))
    }

    /// Others wait behind this key from now on.
    pub(super) fn park(&mut self, tx: u64, key: ParkedId) -> Result<()> {
        let row = self.parked_row(tx, &key)?.unwrap_or_default();
        self.set_parked(tx, key, Some(ParkedRow { released: false, ..row }))
    }

    /// One more waits behind this key.
    pub(super) fn wait_behind(&mut self, tx: u64, key: &ParkedId) -> Result<()> {
        let Some(row) = self.parked_row(tx, key)? else { return Ok(()) };
        self.set_parked(tx, key.clone(), Some(ParkedRow { waiting: row.waiting + 1, ..row }))
    }

    /// One less waits behind this key, which is forgotten when it was the last one of a key that is
    /// released.
    pub(super) fn stop_waiting(&mut self, tx: u64, key: &ParkedId) -> Result<()> {
        let Some(mut row) = self.parked_row(tx, key)? else { return Ok(()) };
        row.waiting = row.waiting.saturating_sub(1);
        let row = Some(row).filter(|row| !row.released || row.waiting > 0);
        self.set_parked(tx, key.clone(), row)
    }

    /// What waits behind this key may be worked.
    pub(super) fn release_key(&mut self, tx: u64, key: &ParkedId) -> Result<()> {
        let Some(mut row) = self.parked_row(tx, key)? else { return Ok(()) };
        row.released = true;
        self.set_parked(tx, key.clone(), Some(row).filter(|row| row.waiting > 0))
    }
}
