//! The life of a lane: take it, work batches, leave it; and take it again when it was lost.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::failure::Failure;
use crate::group::Group;
use crate::lane::{LaneId, Owner, Standing};
use crate::packed::Budget;
use crate::pipeline::batch::Batch;
use crate::pipeline::care::{Care, Careful};
use crate::pipeline::holding::Holding;
use crate::pipeline::outside::Number;
use crate::pipeline::policy::{DatabaseLost, LaneSettings};
use crate::pipeline::source::{Seat, Source};
use crate::pipeline::stats::Stats;
use crate::pipeline::stop::{Stop, StopSignal};
use crate::pipeline::take::Taking;
use crate::pipeline::tend::{Tender, Tending};
use crate::pipeline::windows::Windows;
use crate::store::Store;

/// How long a clean leave may take in the database.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// After holding its lane this long, an owner that is fenced is not one that fights for it.
const PEACE: Duration = Duration::from_secs(60);

/// A lane at work.
pub(crate) struct Lane<S: Store> {
    pub(crate) group: Arc<Group<S>>,
    pub(crate) owner: Owner,
    pub(crate) seat: Arc<Seat>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) settings: LaneSettings,
    pub(crate) stats: Arc<Stats>,
    /// What is in flight in this process.
    pub(crate) care: Arc<Care>,
    /// The memory that all windows of this process share.
    pub(crate) budget: Arc<Budget>,
    /// The numbers of attempts with effects outside of the database, by offset.
    pub(crate) outside: Mutex<HashMap<i64, Number>>,
    pub(crate) stop: StopSignal,
}

/// How a lane's life ended.
#[derive(Debug)]
pub(crate) enum LaneEnd {
    /// It was asked to leave.
    Left,
    /// It stands at an event, or at a position, that needs a person.
    Stopped(Error),
}

/// How one holding of the lane ended.
pub(super) enum Tenure {
    Left,
    Lost(Standing),
    Failed(Error),
}

/// What a lane stops with when its row was deleted under it.
fn gone(id: &LaneId) -> Error {
    Error::new(
        ErrorKind::DatabaseLost,
        format!(
            "{id}: the lane's row is gone from the database, which was recreated, or put back to a \
             time before the lane. Connect to the right database; if it is lost, say where to start \
             with `.database_lost(DatabaseLost::StartAt(..))`"
        ),
    )
}

impl<S: Store> Lane<S> {
    /// Works until asked to leave, or until it stops at something.
    pub(crate) async fn run(mut self) -> LaneEnd {
        let mut stop = self.stop.clone();
        let seat = Arc::clone(&self.seat);
        let source = Arc::clone(&self.source);
        let end = tokio::select! {
            biased;
            // The work is dropped where it stands, and its connection with it.
            () = stop.asked(Stop::Abandon) => Ok(LaneEnd::Left),
            end = AssertUnwindSafe(self.live()).catch_unwind() => end,
        };
        seat.hold(None);
        match end {
            Ok(end) => end,
            Err(panic) => {
                source.halt(&seat).await;
                let panic = Failure::panic(panic).error;
                let error = Error::new(
                    ErrorKind::Handler,
                    format!("{}: the lane stopped at a panic outside of a handler", seat.id),
                )
                .with_source(panic);
                tracing::error!(error = %error.report(), "the lane stopped");
                LaneEnd::Stopped(error)
            }
        }
    }

    async fn live(&mut self) -> LaneEnd {
        let mut passing = Backoff::for_store();
        // A former owner that woke up late must not fight for the lane: by the time it tries
        // again, its client knows that the partition is another's.
        let mut fenced = Backoff::new(Duration::from_secs(2), Duration::from_secs(10));
        let mut again = false;
        loop {
            let began = Instant::now();
            let mut end = self.tenure(&mut passing, again).await;
            again = true;
            if began.elapsed() > PEACE {
                fenced.reset();
            }
            if let Tenure::Lost(Standing::Gone) = end
                && self.settings.policies.database_lost == DatabaseLost::Refuse
            {
                end = Tenure::Failed(gone(&self.seat.id));
            }
            let pause = match end {
                Tenure::Left => return LaneEnd::Left,
                Tenure::Lost(standing) => {
                    self.say_lost(standing);
                    match standing {
                        Standing::Fenced => fenced.next(),
                        _ => passing.next(),
                    }
                }
                Tenure::Failed(error) if error.kind() == ErrorKind::Fenced => fenced.next(),
                Tenure::Failed(error) if error.is_retryable() => {
                    let pause = passing.next();
                    self.warn(&error, "the lane cannot be taken now, trying again", pause);
                    pause
                }
                Tenure::Failed(error) => {
                    self.source.halt(&self.seat).await;
                    tracing::error!(
                        group = %self.seat.id.group,
                        topic = %self.seat.id.topic,
                        partition = self.seat.id.partition,
                        error = %error.report(),
                        "the lane stopped; nothing was skipped, other lanes go on"
                    );
                    return LaneEnd::Stopped(error);
                }
            };
            self.seat.hold(None);
            self.source.halt(&self.seat).await;
            if self.pause(pause).await {
                return LaneEnd::Left;
            }
        }
    }

    /// Takes the lane and works it until it is lost or left.
    async fn tenure(&mut self, passing: &mut Backoff, again: bool) -> Tenure {
        let taking = Taking {
            group: &self.group,
            owner: &self.owner,
            seat: &self.seat,
            source: &*self.source,
            policies: &self.settings.policies,
            stats: &self.stats,
            again,
        };
        let start = async {
            let row = taking.take().await?;
            self.seat.hold(Some((row.held(), row.identity.clone())));
            if self.seat.resolved().is_some() {
                // It may have gone back since.
                self.seat.resolve(row.position);
            }
            self.source.start(&self.seat, row.position).await?;
            Ok(row)
        };
        let mut stop = self.stop.clone();
        let started = tokio::select! {
            biased;
            () = stop.asked(Stop::Finish) => return Tenure::Left,
            started = start => started,
        };
        let mut holding = match started {
            Ok(row) => Holding::new(row),
            Err(error) => return Tenure::Failed(error),
        };
        passing.reset();
        let row = &holding.row;
        tracing::info!(
            group = %row.id.group,
            topic = %row.id.topic,
            partition = row.id.partition,
            position = row.position.offset,
            "lane taken"
        );
        let end = match self.group.slices() {
            0 | 1 => match self.cut(&holding, 0).await {
                Ok(_) => match self.load_windows(&mut holding, &mut None).await {
                    Ok(()) => self.work(&mut holding).await,
                    Err(end) => end,
                },
                Err(end) => end,
            },
            slices => self.work_sliced(&mut holding, slices).await,
        };
        // A lane that stopped is left to nobody, and did not die.
        if matches!(end, Tenure::Left | Tenure::Failed(_)) {
            let held = holding.held();
            let release = self.group.store.release(&held);
            // Only a courtesy to the next owner.
            if let Ok(Err(error)) = tokio::time::timeout(RELEASE_TIMEOUT, release).await {
                tracing::debug!(error = %error.report(), "the lane's release was not recorded");
            }
        }
        end
    }

    /// Works batches.
    async fn work(&self, holding: &mut Holding) -> Tenure {
        let mut stop = self.stop.clone();
        let LaneSettings { release_interval, .. } = self.settings;
        let max_batch = self.max_batch();
        let mut careful = Careful::new(holding, max_batch);
        if careful.is_on() {
            self.say_careful(holding);
        }
        let _tender = self.tend(holding, vec![holding.windows.clone()]);
        let mut next_release = Instant::now();
        loop {
            if !holding.parked.is_empty() && next_release <= Instant::now() {
                if let Some(end) = self.release(holding, careful).await {
                    return end;
                }
                next_release = Instant::now() + release_interval;
            }
            tokio::select! {
                biased;
                () = stop.asked(Stop::Finish) => return Tenure::Left,
                () = self.seat.asked_to_look() => {
                    if let Some(lost) = self.look(holding).await {
                        return lost;
                    }
                    continue;
                }
                () = self.seat.queue.ready() => {}
                () = tokio::time::sleep_until(next_release), if !holding.parked.is_empty() => {
                    continue;
                }
            }
            let mut events = match careful.is_on() {
                true => self.seat.queue.take(1),
                false => self.gather(&mut stop).await,
            };
            let Some(first) = events.first() else { continue };
            let row = &holding.row;
            let span = tracing::info_span!(
                "batch",
                group = %row.id.group,
                topic = %row.id.topic,
                partition = row.id.partition,
                first = first.offset,
                events = events.len(),
            );
            let end = match events.pop() {
                Some(event) if careful.is_on() => {
                    self.carefully(holding, event, careful.calm()).instrument(span).await
                }
                Some(event) => {
                    events.push(event);
                    self.whole(holding, events, careful.calm()).instrument(span).await
                }
                None => None,
            };
            if let Some(end) = end {
                return end;
            }
            careful.worked();
        }
    }

    /// Tends to the windows until it is dropped.
    pub(super) fn tend(&self, holding: &Holding, windows: Vec<Windows>) -> Option<Tender> {
        // Whatever a former owner missed was not taken by this one.
        self.seat.take_went_back();
        let tending = Tending {
            group: Arc::clone(&self.group),
            source: Arc::clone(&self.source),
            held: holding.held(),
            windows,
            early: self.settings.policies.stale.is_some(),
            seat: Arc::clone(&self.seat),
            budget: Arc::clone(&self.budget),
            interval: self.settings.tend_interval,
            portions: self.settings.portions,
        };
        tending.begin()
    }

    /// Works these events as one batch.
    pub(super) async fn whole(
        &self,
        holding: &mut Holding,
        events: Vec<Event>,
        calm: bool,
    ) -> Option<Tenure> {
        match self.schemas(holding, None, events.iter()).await {
            Ok(schemas) => {
                let batch = Batch::prepare(&self.group, events, schemas);
                self.batch(holding, batch, calm, None).await
            }
            Err(end) => Some(end),
        }
    }

    /// Takes what is waiting; a batch that is not full waits for more, as long as configured.
    async fn gather(&self, stop: &mut StopSignal) -> Vec<Event> {
        let LaneSettings { linger, .. } = self.settings;
        let max_batch = self.max_batch();
        let mut events = self.seat.queue.take(max_batch);
        if linger.is_zero() || events.len() >= max_batch {
            return events;
        }
        let deadline = tokio::time::sleep(linger);
        tokio::pin!(deadline);
        while events.len() < max_batch {
            tokio::select! {
                biased;
                () = stop.asked(Stop::Finish) => break,
                () = &mut deadline => break,
                () = self.seat.queue.ready() => {}
            }
            events.extend(self.seat.queue.take(max_batch - events.len()));
        }
        events
    }

    /// Waits; answers whether the lane was asked to leave meanwhile.
    pub(super) async fn pause(&self, pause: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.asked(Stop::Finish) => true,
            () = tokio::time::sleep(pause) => false,
        }
    }

    /// The most events of a batch.
    pub(super) fn max_batch(&self) -> usize {
        if self.group.is_outside() { 1 } else { self.settings.max_batch }
    }

    pub(super) fn say_careful(&self, holding: &Holding) {
        let row = &holding.row;
        tracing::warn!(
            group = %row.id.group,
            topic = %row.id.topic,
            partition = row.id.partition,
            deaths = row.deaths,
            "processes died holding this lane, one after the other: its next events are worked one \
             at a time, to find the one that kills"
        );
    }

    fn say_lost(&self, standing: Standing) {
        let id = &self.seat.id;
        let what = match standing {
            Standing::Fenced => {
                Stats::add(&self.stats.fenced, 1);
                "another owner took the lane; what this one had not committed is not kept"
            }
            Standing::WentBack => {
                Stats::add(&self.stats.went_back, 1);
                "the database went back to an earlier state; reading the lost events again"
            }
            Standing::Gone => "the lane's row is gone from the database",
            Standing::Ahead | Standing::Held => "the lane's row was moved; taking it again",
        };
        tracing::warn!(
            group = %id.group,
            topic = %id.topic,
            partition = id.partition,
            "{what}"
        );
    }

    pub(super) fn warn(&self, error: &Error, what: &str, pause: Duration) {
        let id = &self.seat.id;
        tracing::warn!(
            group = %id.group,
            topic = %id.topic,
            partition = id.partition,
            error = %error.report(),
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "{what}"
        );
    }
}
