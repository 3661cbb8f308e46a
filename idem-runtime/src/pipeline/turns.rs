//! Working a lane in slices: whose turn it is, and what came of it.

use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::event::Event;
use crate::lane::Position;
use crate::pipeline::care::Careful;
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::low_water::{Mark, Moved};
use crate::pipeline::policy::LaneSettings;
use crate::pipeline::slices::{BATCHES_AHEAD, Slices, slice_of};
use crate::pipeline::stop::Stop;
use crate::store::Store;

/// What one turn of a slice ended with.
struct Turn {
    index: usize,
    holding: Holding,
    events: usize,
    /// Those of them that no former owner is known to have passed.
    beyond: usize,
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
        let passed = match self.passed(holding, &revisions).await {
            Ok(passed) => passed,
            Err(end) => return end,
        };
        let mut slices = Slices::new(holding, &revisions);
        let (mut windows, mut partitions) = (Vec::new(), None);
        for slice in &mut slices.slices {
            let Some(its) = &mut slice.holding else { continue };
            if let Err(end) = self.load_windows(its, &mut partitions).await {
                return end;
            }
            windows.push(its.windows.clone());
        }
        let _tender = self.tend(holding, windows);
        let mut mark = Mark::new(revisions, passed, self.ahead());
        let end = self.turns(holding, &mut slices, &mut mark).await;
        if matches!(end, Tenure::Left)
            && let Some(next) = mark.next(holding, &slices, &self.seat.queue)
            && let Ok(moved) = self.advance(next).await
        {
            // A courtesy to the next owner, which would find duplicates otherwise.
            moved.follow(holding);
        }
        end
    }

    async fn turns(&self, holding: &mut Holding, slices: &mut Slices, mark: &mut Mark) -> Tenure {
        let mut stop = self.stop.clone();
        let LaneSettings { release_interval, .. } = self.settings;
        let max_batch = self.max_batch();
        let mut careful = Careful::new(holding, self.ahead());
        if careful.is_on() {
            self.say_careful(holding);
        }
        let mut next_round = Instant::now() + release_interval;
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
                for turn in self.next_turns(slices, careful, mark) {
                    running.push(turn);
                }
            }
            let room = !stopping && self.has_room(slices, careful);
            tokio::select! {
                biased;
                () = stop.asked(Stop::Finish), if !stopping => {}
                Some(turn) = running.next() => {
                    let Turn { index, holding: its, events, beyond, bytes, end } = turn;
                    slices.events -= events;
                    slices.bytes -= bytes;
                    let slice = &mut slices.slices[index];
                    mark.revisions[index] = its.row.revision;
                    slice.holding = Some(its);
                    match end {
                        None => {
                            slice.flying = None;
                            // What is read again because the low-water mark lagged says nothing.
                            if beyond > 0 {
                                careful.worked();
                            }
                            mark.worked(beyond, slices.end);
                        }
                        // What it had not done stays in flight for the low-water mark. The others
                        // find out for themselves.
                        Some(Tenure::Left) => {}
                        Some(end) => return end,
                    }
                    self.publish(holding, slices, mark);
                }
                Some(moved) = moving.next() => {
                    let moved: Result<Moved, Tenure> = moved;
                    match moved {
                        Ok(moved) => moved.follow(holding),
                        Err(end) => return end,
                    }
                    self.publish(holding, slices, mark);
                }
                Some(lost) = looking.next() => {
                    if let Some(end) = lost {
                        return end;
                    }
                }
                () = self.seat.asked_to_look(), if looking.is_empty() => {
                    looking.push(self.look_sliced(holding.clone(), mark.slices(&holding.held())));
                }
                () = tokio::time::sleep_until(next_round) => {
                    if moving.is_empty()
                        && let Some(next) = mark.next(holding, slices, &self.seat.queue)
                    {
                        moving.push(self.advance(next));
                    }
                    slices.release();
                    next_round = Instant::now() + release_interval;
                }
                () = self.seat.queue.ready(), if room => {
                    let most = if careful.is_on() { 1 } else { max_batch };
                    slices.divide(self.seat.queue.take(most));
                }
            }
        }
    }

    /// As many events as slices can have in flight.
    fn ahead(&self) -> usize {
        self.settings.max_batch * (BATCHES_AHEAD + 1)
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
        mark: &Mark,
    ) -> Vec<impl Future<Output = Turn> + Send + use<'a, S>> {
        let mut turns = Vec::new();
        let of = slices.of;
        let mut alone = careful.is_on() && slices.in_flight() > 0;
        for (index, slice) in slices.slices.iter_mut().enumerate() {
            let idle = slice.holding.as_ref();
            let due = slice.release && idle.is_some_and(|it| !it.parked.is_empty());
            if idle.is_none() || alone || (slice.queue.is_empty() && !due) {
                continue;
            }
            let Some(holding) = slice.holding.take() else { continue };
            slice.release = false;
            alone = careful.is_on();
            let most = if alone { 1 } else { self.max_batch() };
            let count = slice.queue.len().min(most);
            let events: Vec<Event> = slice.queue.drain(..count).collect();
            slice.flying = events
                .first()
                .map(|it| Position { offset: it.offset, leader_epoch: it.leader_epoch });
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            debug_assert!(events.iter().all(|event| slice_of(event, of) == number));
            let beyond = events.iter().filter(|event| mark.is_beyond(event.offset)).count();
            let turn = self.turn(index, holding, events, careful, due);
            turns.push(async move { Turn { beyond, ..turn.await } });
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
        Turn { index, holding, events: count, beyond: 0, bytes, end }
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
        // What one slice has done says nothing of the event that kills in another.
        self.whole(holding, events, false).await
    }
}
