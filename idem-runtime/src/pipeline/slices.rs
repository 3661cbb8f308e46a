//! Slices: a lane whose events are worked side by side, in order for each message key.
//!
//! The lane divides its events by a hash of the message key and works each slice's batches in a
//! transaction of their own, on a row of their own. What the lane's row says is the low-water mark:
//! everything below is done. It is moved now and then, and lags; what is read again after a crash
//! are duplicates, which the markers find.
//!
//! All slices are worked by the lane's one task: they wait for the database side by side. So does
//! whatever else the lane asks: a turn between its seal and its commit locks the lane's row, and is
//! not to wait for somebody who waits for it.

use std::collections::VecDeque;

use crate::dead_letter::Fnv;
use crate::event::Event;
use crate::lane::{Position, Slice};
use crate::pipeline::holding::Holding;

/// How many batches' worth of events may wait in a slice or be in flight, over all slices.
pub(super) const BATCHES_AHEAD: usize = 8;

/// The slice of an event. One without a message key has no order to keep: it goes by its offset.
pub(crate) fn slice_of(event: &Event, slices: u16) -> u16 {
    match &event.message_key {
        Some(key) => slice_of_key(key, slices),
        None => remainder(event.offset.unsigned_abs(), slices),
    }
}

/// The slice of a message key.
pub(crate) fn slice_of_key(key: &[u8], slices: u16) -> u16 {
    let mut hash = Fnv::default();
    hash.bytes(key);
    // The low bits of FNV alone are poor.
    remainder(hash.0 ^ (hash.0 >> 32), slices)
}

fn remainder(hash: u64, slices: u16) -> u16 {
    // A remainder of a division by a `u16` is one.
    u16::try_from(hash % u64::from(slices.max(1))).unwrap_or(0)
}

/// One slice between two batches, or while one is in flight.
pub(super) struct Sliced {
    /// `None` while a batch is in flight.
    pub(super) holding: Option<Holding>,
    pub(super) queue: VecDeque<Event>,
    /// Whether it is to look what was released, with its next turn.
    pub(super) release: bool,
    /// The first offset in flight.
    pub(super) flying: Option<Position>,
}

/// All slices of a lane.
pub(super) struct Slices {
    pub(super) slices: Vec<Sliced>,
    pub(super) of: u16,
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// Behind the last event that was divided.
    pub(super) end: Position,
}

impl Slices {
    pub(super) fn new(holding: &Holding, revisions: &[i64]) -> Self {
        let of = u16::try_from(revisions.len()).unwrap_or(u16::MAX);
        let slices = (0..of).zip(revisions).map(|(index, &revision)| Sliced {
            holding: Some(holding.slice(Slice { index, of }, revision)),
            queue: VecDeque::new(),
            release: true,
            flying: None,
        });
        let (slices, end) = (slices.collect(), holding.row.position);
        Self { slices, of, events: 0, bytes: 0, end }
    }

    pub(super) fn divide(&mut self, events: Vec<Event>) {
        for event in events {
            self.events += 1;
            self.bytes += event.weight();
            self.end = Position { offset: event.offset + 1, leader_epoch: event.leader_epoch };
            let slice = slice_of(&event, self.of);
            self.slices[usize::from(slice)].queue.push_back(event);
        }
    }

    /// Everything below it is done.
    pub(super) fn low_water(&self) -> Position {
        let at =
            |event: &Event| Position { offset: event.offset, leader_epoch: event.leader_epoch };
        let firsts = self
            .slices
            .iter()
            .filter_map(|slice| slice.flying.or_else(|| slice.queue.front().map(at)));
        firsts.min_by_key(|position| position.offset).unwrap_or(self.end)
    }

    /// Each slice is to look what was released.
    pub(super) fn release(&mut self) {
        for slice in &mut self.slices {
            slice.release = true;
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slices.iter().filter(|slice| slice.holding.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: &str, offset: i64) -> Event {
        let mut event = Event::new("t".into(), 0, offset, "x");
        event.message_key = Some(key.to_owned().into());
        event
    }

    #[test]
    fn a_message_key_has_one_slice_and_keys_spread() {
        let mut counts = [0; 4];
        for n in 0..1000 {
            let key = format!("customer-{n}");
            let slice = slice_of(&keyed(&key, n), 4);
            assert_eq!(slice, slice_of(&keyed(&key, n + 7), 4));
            counts[usize::from(slice)] += 1;
        }
        assert!(counts.iter().all(|count| (150..350).contains(count)), "{counts:?}");
    }

    #[test]
    fn events_without_a_key_spread_by_their_offsets() {
        let slices: Vec<_> =
            (0..4).map(|n| slice_of(&Event::new("t".into(), 0, n, "x"), 4)).collect();
        assert_eq!(slices, [0, 1, 2, 3]);
    }
}
