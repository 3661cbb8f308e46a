//! Slices: a lane whose events are worked side by side, in order for each message key.
//!
//! The lane divides its events by a hash of the message key and works each slice's batches in a
//! transaction of their own, on a row of their own. What the lane's row says is the low-water mark:
//! everything below is done. It is moved now and then, and lags; what is read again after a crash
//! are duplicates, which the markers find.
//!
//! All slices are worked by the lane's one task: they wait for the database side by side.

use std::collections::VecDeque;
use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::dead_letter::Fnv;
use crate::event::Event;
use crate::lane::{Position, Slice, Standing};
use crate::pipeline::batch::Batch;
use crate::pipeline::care::Careful;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::stop::Stop;
use crate::store::{Reposition, Store};

/// How many batches' worth of events may wait in a slice or be in flight, over all slices.
const BATCHES_AHEAD: usize = 8;

/// The slice of an event. One without a message key has no order to keep: it goes by its offset.
pub(crate) fn slice_of(event: &Event, slices: u16) -> u16 {
    let hash = match &event.message_key {
        Some(key) => {
            let mut hash = Fnv::default();
            hash.bytes(key);
            // The low bits of FNV alone are poor.
            hash.0 ^ (hash.0 >> 32)
        }
        None => event.offset.unsigned_abs(),
    };
    // A remainder of a division by a `u16` is one.
    u16::try_from(hash % u64::from(slices.max(1))).unwrap_or(0)
}

/// One slice between two batches, or while one is in flight.
struct Sliced {
    /// `None` while a batch is in flight.
    holding: Option<Holding>,
    queue: VecDeque<Event>,
    /// The first offset in flight.
    flying: Option<Position>,
}

/// All slices of a lane.
struct Slices {
    slices: Vec<Sliced>,
    of: u16,
    events: usize,
    bytes: usize,
    /// Behind the last event that was divided.
    end: Position,
}

impl Slices {
    fn new(holding: &Holding, revisions: Vec<i64>) -> Self {
        let of = u16::try_from(revisions.len()).unwrap_or(u16::MAX);
        let slices = (0..of).zip(revisions).map(|(index, revision)| Sliced {
            holding: Some(holding.slice(Slice { index, of }, revision)),
            queue: VecDeque::new(),
            flying: None,
        });
        let (slices, end) = (slices.collect(), holding.row.position);
        Self { slices, of, events: 0, bytes: 0, end }
    }

    fn divide(&mut self, events: Vec<Event>) {
        for event in events {
            self.events += 1;
            self.bytes += event.weight();
            self.end = Position { offset: event.offset + 1, leader_epoch: event.leader_epoch };
            let slice = slice_of(&event, self.of);
            self.slices[usize::from(slice)].queue.push_back(event);
        }
    }

    /// Everything below it is done.
    fn low_water(&self) -> Position {
        let at =
            |event: &Event| Position { offset: event.offset, leader_epoch: event.leader_epoch };
        let firsts = self
            .slices
            .iter()
            .filter_map(|slice| slice.flying.or_else(|| slice.queue.front().map(at)));
        firsts.min_by_key(|position| position.offset).unwrap_or(self.end)
    }

    fn in_flight(&self) -> usize {
        self.slices.iter().filter(|slice| slice.holding.is_none()).count()
    }

    /// The sum of the revisions of those that are not in flight, and of the rest as they were.
    fn revisions(&self, flying: &[i64]) -> i64 {
        let known = self.slices.iter().zip(flying);
        known.map(|(slice, last)| slice.holding.as_ref().map_or(*last, |it| it.row.revision)).sum()
    }
}

/// What one turn of a slice ended with.
struct Turn {
    index: usize,
    holding: Holding,
    events: usize,
    bytes: usize,
    end: Option<Tenure>,
}

impl<S: Store> Lane<S> {
    /// Works the lane in slices.
    pub(super) async fn work_sliced(&self, holding: &mut Holding, slices: u16) -> Tenure {
        let revisions = match self.cut(holding, slices).await {
            Ok(revisions) => revisions,
            Err(end) => return end,
        };
        let mut last = revisions.clone();
        let mut slices = Slices::new(holding, revisions);
        let end = self.turns(holding, &mut slices, &mut last).await;
        if matches!(end, Tenure::Left) {
            // A courtesy to the next owner, which would find duplicates otherwise.
            let _ = self.advance(holding, &slices).await;
        }
        end
    }

    async fn turns(&self, holding: &mut Holding, slices: &mut Slices, last: &mut [i64]) -> Tenure {
        let mut stop = self.stop.clone();
        let interval = self.settings.release_interval;
        let mut careful = Careful::new(holding, self.settings.max_batch);
        let mut next_round = Instant::now() + interval;
        let mut release = true;
        let mut running = FuturesUnordered::new();
        loop {
            let stopping = self.stop.now() >= Stop::Finish;
            if stopping && running.is_empty() {
                return Tenure::Left;
            }
            if !stopping {
                for turn in self.next_turns(slices, last, careful, release) {
                    running.push(turn);
                }
                release = false;
            }
            let room = !stopping && self.has_room(slices, careful);
            tokio::select! {
                biased;
                () = stop.asked(Stop::Finish), if !stopping => {}
                Some(turn) = running.next() => {
                    let Turn { index, holding: its, events, bytes, end } = turn;
                    slices.events -= events;
                    slices.bytes -= bytes;
                    let slice = &mut slices.slices[index];
                    slice.flying = None;
                    last[index] = its.row.revision;
                    slice.holding = Some(its);
                    match end {
                        None => careful.worked(),
                        // The others find out for themselves.
                        Some(Tenure::Left) => {}
                        Some(end) => return end,
                    }
                    self.publish(holding, slices, last);
                }
                () = self.seat.asked_to_look() => {
                    if let Some(end) = self.look_sliced(holding, slices).await {
                        return end;
                    }
                }
                () = tokio::time::sleep_until(next_round) => {
                    if let Err(end) = self.advance(holding, slices).await {
                        return end;
                    }
                    self.publish(holding, slices, last);
                    release = true;
                    next_round = Instant::now() + interval;
                }
                () = self.seat.queue.ready(), if room => {
                    let most = if careful.is_on() { 1 } else { self.settings.max_batch };
                    slices.divide(self.seat.queue.take(most));
                }
            }
        }
    }

    fn has_room(&self, slices: &Slices, careful: Careful) -> bool {
        if careful.is_on() {
            return slices.events == 0;
        }
        slices.events < self.settings.max_batch * BATCHES_AHEAD
            && slices.bytes < self.seat.queue.high()
    }

    /// A turn for each slice that has something to do and is not at it.
    fn next_turns<'a>(
        &'a self,
        slices: &mut Slices,
        last: &mut [i64],
        careful: Careful,
        release: bool,
    ) -> Vec<impl Future<Output = Turn> + Send + use<'a, S>> {
        let mut turns = Vec::new();
        let of = slices.of;
        let mut alone = careful.is_on() && slices.in_flight() > 0;
        for (index, slice) in slices.slices.iter_mut().enumerate() {
            let idle = slice.holding.as_ref();
            let due = idle.is_some_and(|it| release && !it.parked.is_empty());
            if idle.is_none() || alone || (slice.queue.is_empty() && !due) {
                continue;
            }
            let Some(holding) = slice.holding.take() else { continue };
            alone = careful.is_on();
            let most = if alone { 1 } else { self.settings.max_batch };
            let count = slice.queue.len().min(most);
            let events: Vec<Event> = slice.queue.drain(..count).collect();
            slice.flying = events
                .first()
                .map(|it| Position { offset: it.offset, leader_epoch: it.leader_epoch });
            last[index] = holding.row.revision;
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            debug_assert!(events.iter().all(|event| slice_of(event, of) == number));
            turns.push(self.turn(index, holding, events, careful, due));
        }
        turns
    }

    /// What waited behind released keys, then these events.
    async fn turn(
        &self,
        index: usize,
        mut holding: Holding,
        events: Vec<Event>,
        careful: Careful,
        release: bool,
    ) -> Turn {
        let (count, bytes) = (events.len(), events.iter().map(Event::weight).sum());
        let mut end = None;
        if release {
            end = self.release(&mut holding, careful).await;
        }
        if end.is_none() && !events.is_empty() {
            let span = tracing::info_span!(
                "batch",
                group = %holding.row.id.group,
                topic = %holding.row.id.topic,
                partition = holding.row.id.partition,
                slice = index,
                first = events.first().map(|event| event.offset),
                events = count,
            );
            end = self.slice_batch(&mut holding, events, careful).instrument(span).await;
        }
        Turn { index, holding, events: count, bytes, end }
    }

    async fn slice_batch(
        &self,
        holding: &mut Holding,
        mut events: Vec<Event>,
        careful: Careful,
    ) -> Option<Tenure> {
        if careful.is_on() {
            return self.carefully(holding, events.pop()?, careful.calm()).await;
        }
        let batch = Batch::prepare(&self.group, events);
        self.batch(holding, batch, careful.calm(), None).await
    }

    /// Divides the lane; as long as it takes.
    pub(super) async fn cut(&self, holding: &Holding, slices: u16) -> Result<Vec<i64>, Tenure> {
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            match self.group.store.cut(&holding.held(), slices).await {
                Ok(Some(revisions)) => return Ok(revisions),
                Ok(None) => return Err(Tenure::Lost(Standing::Fenced)),
                Err(error) => {
                    let pause = backoff.next();
                    self.warn(&error, "the lane cannot be divided, trying again", pause);
                    if self.pause(pause).await {
                        return Err(Tenure::Left);
                    }
                }
            }
        }
    }

    /// Moves the lane's row to the low-water mark.
    async fn advance(&self, holding: &mut Holding, slices: &Slices) -> Result<(), Tenure> {
        let position = slices.low_water();
        if position.offset <= holding.row.position.offset {
            return Ok(());
        }
        let identity = holding.row.identity.clone();
        let to = Reposition { position, identity: &identity, new_log: false };
        let moved = match self.group.store.reposition(&holding.held(), &to).await {
            Ok(moved) => moved,
            Err(error) => {
                tracing::debug!(error = %error.report(), "the lane's row was not moved");
                // It may have been, if its answer was lost.
                false
            }
        };
        if moved {
            holding.row.revision += 1;
            holding.row.position = position;
            return Ok(());
        }
        match self.standing(holding).await? {
            (Standing::Held, _) => Ok(()),
            (Standing::Ahead, now)
                if now.revision == holding.row.revision + 1
                    && now.position.offset == position.offset =>
            {
                holding.row.revision = now.revision;
                holding.row.position = position;
                Ok(())
            }
            (standing, _) => Err(Tenure::Lost(standing)),
        }
    }

    /// Tells the watch and the source how far the lane is.
    fn publish(&self, holding: &Holding, slices: &Slices, last: &[i64]) {
        let mut held = holding.held();
        held.revision += slices.revisions(last);
        self.seat.hold(Some((held, holding.row.identity.clone())));
        self.seat.resolve(slices.low_water());
    }

    async fn look_sliced(&self, holding: &Holding, slices: &Slices) -> Option<Tenure> {
        for idle in slices.slices.iter().filter_map(|slice| slice.holding.as_ref()) {
            match self.standing(idle).await {
                Ok((Standing::Held, _)) => {}
                Ok((standing, _)) => return Some(Tenure::Lost(standing)),
                Err(end) => return Some(end),
            }
        }
        self.look(holding).await
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
