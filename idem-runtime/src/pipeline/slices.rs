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
pub(super) struct Sliced {
    /// `None` while a batch is in flight.
    pub(super) holding: Option<Holding>,
    pub(super) queue: VecDeque<Event>,
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

    pub(super) fn in_flight(&self) -> usize {
        self.slices.iter().filter(|slice| slice.holding.is_none()).count()
    }
}

<<<<<<< HEAD
=======
/// The revisions of the slices, as they were after the last turn of each.
struct Known {
    now: Vec<i64>,
    /// As they were when the lane's row was moved the last time.
    moved: Vec<i64>,
}

impl Known {
    /// The slices that did something since the lane's row was moved, as the lane knows them.
    fn worked(&self, lane: &Held) -> Vec<Held> {
        let of = u16::try_from(self.now.len()).unwrap_or(u16::MAX);
        let slices = (0..of).zip(self.now.iter().zip(&self.moved));
        slices
            .filter(|(_, (now, moved))| now != moved)
            .map(|(index, (&revision, _))| {
                let slice = Some(Slice { index, of });
                Held { revision, slice, ..lane.clone() }
            })
            .collect()
    }
}

/// A move of the lane's row to the low-water mark.
struct Move {
    held: Held,
    to: Position,
    identity: LogIdentity,
    worked: Vec<Held>,
    revisions: Vec<i64>,
}

/// Where the lane's row is after a move.
struct Moved {
    revision: i64,
    position: Position,
    /// The revisions of the slices that this covers; `None` when it was not moved.
    revisions: Option<Vec<i64>>,
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
        let mut known = Known { now: revisions.clone(), moved: revisions.clone() };
        let mut slices = Slices::new(holding, revisions);
        let end = self.turns(holding, &mut slices, &mut known).await;
        if matches!(end, Tenure::Left)
            && let Some(next) = next_move(holding, &slices, &known)
            && let Ok(moved) = self.advance(next).await
        {
            // A courtesy to the next owner, which would find duplicates otherwise.
            moved.follow(holding, &mut known);
        }
        end
    }

    async fn turns(
        &self,
        holding: &mut Holding,
        slices: &mut Slices,
        known: &mut Known,
    ) -> Tenure {
        let mut stop = self.stop.clone();
        let LaneSettings { max_batch, release_interval, .. } = self.settings;
        let mut careful = Careful::new(holding, max_batch * (BATCHES_AHEAD + 1));
        let began = holding.row.position.offset;
        let mut next_round = Instant::now() + release_interval;
        let mut release = true;
        let mut running = FuturesUnordered::new();
        // At most one of each.
        let mut moving = FuturesUnordered::new();
        let mut looking = FuturesUnordered::new();
        loop {
            let stopping = self.stop.now() >= Stop::Finish;
            if stopping && running.is_empty() && moving.is_empty() {
                return Tenure::Left;
            }
            if !stopping {
                // What was done past the low-water mark is done again without progress.
                let calm = careful.calm() && holding.row.position.offset > began;
                for turn in self.next_turns(slices, careful, calm, release) {
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
                    known.now[index] = its.row.revision;
                    slice.holding = Some(its);
                    match end {
                        None => {
                            slice.flying = None;
                            if events > 0 {
                                careful.worked();
                            }
                        }
                        // What it had not done stays in flight for the low-water mark. The others
                        // find out for themselves.
                        Some(Tenure::Left) => {}
                        Some(end) => return end,
                    }
                    self.publish(holding, slices, known);
                }
                Some(moved) = moving.next() => {
                    let moved: Result<Moved, Tenure> = moved;
                    match moved {
                        Ok(moved) => moved.follow(holding, known),
                        Err(end) => return end,
                    }
                    self.publish(holding, slices, known);
                }
                Some(lost) = looking.next() => {
                    if let Some(end) = lost {
                        return end;
                    }
                }
                () = self.seat.asked_to_look(), if looking.is_empty() => {
                    looking.push(self.look_sliced(holding.clone(), known.worked(&holding.held())));
                }
                () = tokio::time::sleep_until(next_round) => {
                    if moving.is_empty() && let Some(next) = next_move(holding, slices, known) {
                        moving.push(self.advance(next));
                    }
                    release = true;
                    next_round = Instant::now() + release_interval;
                }
                () = self.seat.queue.ready(), if room => {
                    let most = if careful.is_on() { 1 } else { max_batch };
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
        careful: Careful,
        calm: bool,
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
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            debug_assert!(events.iter().all(|event| slice_of(event, of) == number));
            turns.push(self.turn(index, holding, events, (careful, calm), due));
        }
        turns
    }

    /// What waited behind released keys, then these events.
    async fn turn(
        &self,
        index: usize,
        mut holding: Holding,
        events: Vec<Event>,
        (careful, calm): (Careful, bool),
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
            end = self.slice_batch(&mut holding, events, (careful, calm)).instrument(span).await;
        }
        Turn { index, holding, events: count, bytes, end }
    }

    async fn slice_batch(
        &self,
        holding: &mut Holding,
        mut events: Vec<Event>,
        (careful, calm): (Careful, bool),
    ) -> Option<Tenure> {
        if careful.is_on() {
            return self.carefully(holding, events.pop()?, calm).await;
        }
        let batch = Batch::prepare(&self.group, events);
        self.batch(holding, batch, calm, None).await
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
    ///
    /// The row alone would not tell that the database lost what slices did since it was moved the
    /// last time, so that they are asked first.
    async fn advance(&self, next: Move) -> Result<Moved, Tenure> {
        let Move { held, to: position, identity, worked, revisions } = next;
        for slice in worked {
            self.still_there(slice).await?;
        }
        let to = Reposition { position, identity: &identity, new_log: false };
        let moved = match self.group.store.reposition(&held, &to).await {
            Ok(moved) => moved,
            Err(error) => {
                tracing::debug!(error = %error.report(), "the lane's row was not moved");
                // It may have been, if its answer was lost.
                false
            }
        };
        let revision = held.revision + 1;
        if moved {
            return Ok(Moved { revision, position, revisions: Some(revisions) });
        }
        let before = Moved { revision: held.revision, position: held.position, revisions: None };
        match self.standing_of(held).await? {
            (Standing::Held, _) => Ok(before),
            (Standing::Ahead, now)
                if now.revision == revision && now.position.offset == position.offset =>
            {
                Ok(Moved { revision, position, revisions: Some(revisions) })
            }
            (standing, _) => Err(Tenure::Lost(standing)),
        }
    }

    /// Whether the database still has what a slice, or the lane itself, is known to have done. A
    /// row that is ahead is one of a turn, or of a move, that is under way.
    async fn still_there(&self, held: Held) -> Result<(), Tenure> {
        match self.standing_of(held).await? {
            (Standing::Held | Standing::Ahead, _) => Ok(()),
            (standing, _) => Err(Tenure::Lost(standing)),
        }
    }

    /// Tells the watch and the source how far the lane is.
    fn publish(&self, holding: &Holding, slices: &Slices, known: &Known) {
        let mut held = holding.held();
        held.revision += known.now.iter().sum::<i64>();
        self.seat.hold(Some((held, holding.row.identity.clone())));
        self.seat.resolve(slices.low_water());
    }

    async fn look_sliced(&self, holding: Holding, worked: Vec<Held>) -> Option<Tenure> {
        for held in worked.into_iter().chain([holding.held()]) {
            if let Err(end) = self.still_there(held).await {
                return Some(end);
            }
        }
        self.look_at_log(&holding).await
    }
}

/// The move of the lane's row that is due, if one is.
fn next_move(holding: &Holding, slices: &Slices, known: &Known) -> Option<Move> {
    let to = slices.low_water();
    let held = holding.held();
    (to.offset > held.position.offset).then(|| Move {
        to,
        identity: holding.row.identity.clone(),
        worked: known.worked(&held),
        revisions: known.now.clone(),
        held,
    })
}

impl Moved {
    fn follow(self, holding: &mut Holding, known: &mut Known) {
        holding.row.revision = self.revision;
        holding.row.position = self.position;
        if let Some(revisions) = self.revisions {
            known.moved = revisions;
        }
    }
}

>>>>>>> wt-tests
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
