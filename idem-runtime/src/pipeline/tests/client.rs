//! One process's connection to the broker in memory: the pipeline's source.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};
use crate::lane::{LogIdentity, Position};
use crate::pipeline::source::{Seat, Source, Survey};
use crate::pipeline::tests::broker::{Broker, Call, State, ours};

/// One process's connection to the broker.
#[derive(Clone)]
pub(super) struct Client {
    broker: Broker,
    cut_off: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    answers: watch::Sender<bool>,
}

impl Client {
    pub(super) fn new(broker: &Broker) -> Self {
        Self {
            broker: broker.clone(),
            cut_off: Arc::default(),
            hangs: Arc::default(),
            answers: watch::Sender::new(true),
        }
    }

    /// A seek that gets no answer.
    pub(super) fn hang_at_start(&self) {
        self.hangs.store(true, SeqCst);
    }

    /// Whether surveys are answered, or wait until they are.
    pub(super) fn answers(&self, answers: bool) {
        self.answers.send_replace(answers);
    }

    pub(super) fn cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, SeqCst);
    }

    fn enter(&self, call: Call) -> Result<MutexGuard<'_, State>> {
        let mut state = self.broker.state();
        if state.failures.contains(&Call::Panic) {
            drop(state);
            std::panic::resume_unwind(Box::new("the test made it panic"));
        }
        let failure = state.failures.iter().position(|it| *it == call);
        if let Some(index) = failure {
            state.failures.remove(index);
        }
        if failure.is_some() || self.cut_off.load(SeqCst) {
            return Err(Error::new(ErrorKind::Kafka, format!("the test made {call:?} fail")));
        }
        Ok(state)
    }
}

#[async_trait]
impl Source for Client {
    async fn survey(&self, _topic: &str, partition: Option<i32>) -> Result<Vec<Survey>> {
        let _ = self.answers.subscribe().wait_for(|answers| *answers).await;
        let state = self.enter(Call::Survey)?;
        let surveys = (0..).zip(&state.logs).map(|(partition, log)| Survey {
            partition,
            commit: log.commit.clone(),
            low: log.low,
            high: log.high,
            identity: state.identity.clone(),
        });
        Ok(surveys.filter(|it| partition.is_none_or(|wanted| it.partition == wanted)).collect())
    }

    async fn partitions(&self, _topic: &str) -> Result<i32> {
        let partitions = self.enter(Call::Survey)?.logs.len();
        Ok(i32::try_from(partitions).unwrap())
    }

    async fn identity(&self, _topic: &str) -> Result<LogIdentity> {
        Ok(self.enter(Call::Survey)?.identity.clone())
    }

    async fn start(&self, seat: &Arc<Seat>, at: Position) -> Result<()> {
        if self.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        let mut state = self.enter(Call::Start)?;
        if seat.is_vacated() {
            return Err(Error::new(ErrorKind::Fenced, "revoked"));
        }
        seat.queue.arm(at);
        state.flow(seat, true);
        state.deliver();
        Ok(())
    }

    async fn halt(&self, seat: &Arc<Seat>) {
        seat.queue.disarm();
        self.broker.state().flow(seat, false);
    }

    async fn mark(&self, seat: &Arc<Seat>, at: Position) -> Result<()> {
        let mut state = self.enter(Call::Mark)?;
        state.log(seat.id.partition).commit = Some(ours(at.offset));
        state.marks.push((seat.id.partition, at.offset));
        Ok(())
    }
}
