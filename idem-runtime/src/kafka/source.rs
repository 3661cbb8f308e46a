//! Kafka as the pipeline's source.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{Error, ErrorKind, Result};
use crate::kafka::context::Callbacks;
use crate::kafka::fetched::Consumer;
use crate::kafka::ffi;
use crate::kafka::flow::{self, Sought};
use crate::kafka::lists::commit_list;
use crate::kafka::settings::kafka_error;
use crate::lane::{LogIdentity, Position};
use crate::pipeline::source::{Commit, Seat, Source, Survey};
use crate::routing::Topic;

/// How long a question to the broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the broker may take to tell a topic's id.
const ID_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a broker that told none is left in peace.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long a fetcher may take to start before it is started again.
const FETCHER_STARTS: Duration = Duration::from_secs(1);
/// How long a lane may take to seek before it is taken again.
const SEEK_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) type Client = BaseConsumer<Callbacks>;

pub(crate) struct KafkaSource {
    pub(crate) consumer: Arc<Consumer>,
}

impl KafkaSource {
    /// Runs a call of the client that blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Consumer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let consumer = Arc::clone(&self.consumer);
        match tokio::task::spawn_blocking(move || call(&consumer)).await {
            Ok(result) => result,
            Err(error) => {
                Err(Error::new(ErrorKind::Kafka, "a call of the Kafka client did not end")
                    .with_source(error))
            }
        }
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn survey(&self, topic: &str, partition: Option<i32>) -> Result<Vec<Survey>> {
        let topic = topic.to_owned();
        self.blocking(move |consumer| survey(consumer, &topic, partition)).await
    }

    async fn partitions(&self, topic: &str) -> Result<i32> {
        let topic = topic.to_owned();
        let partitions = self.blocking(move |consumer| partitions_of(consumer, &topic)).await?;
        Ok(i32::try_from(partitions.len()).unwrap_or(i32::MAX))
    }

    async fn identity(&self, topic: &str) -> Result<LogIdentity> {
        let topic = topic.to_owned();
        self.blocking(move |consumer| Ok(identity(consumer, &topic))).await
    }

    async fn start(&self, seat: &Arc<Seat>, at: Position) -> Result<()> {
        let deadline = Instant::now() + SEEK_DEADLINE;
        let mut restart = Instant::now() + FETCHER_STARTS;
        loop {
            let lane = Arc::clone(seat);
            match self.blocking(move |consumer| flow::seek(consumer, &lane, at)).await? {
                Sought::Yes => break,
                Sought::NotRunning(error) if Instant::now() >= deadline => return Err(error),
                Sought::NotRunning(_) if Instant::now() >= restart => {
                    let lane = Arc::clone(seat);
                    self.blocking(move |consumer| flow::restart(consumer, &lane)).await?;
                    restart = Instant::now() + FETCHER_STARTS;
                }
                // The fetcher of a new assignment has not started yet.
                Sought::NotRunning(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        // What the reader polled before the seek and has not handed over yet would be taken for
        // what comes after it; the partition is paused, so that nothing follows.
        let _ = self.consumer.context().rounds.subscribe().changed().await;
        // Accept before it flows, and only what comes after the seek.
        seat.queue.arm(at);
        let lane = Arc::clone(seat);
        self.blocking(move |consumer| flow::resume(consumer, &lane)).await
    }

    async fn halt(&self, seat: &Arc<Seat>) {
        seat.queue.disarm();
        let lane = Arc::clone(seat);
        if let Err(error) = self.blocking(move |consumer| flow::pause(consumer, &lane)).await {
            tracing::debug!(error = %error.report(), "the partition could not be paused");
        }
    }

    async fn mark(&self, seat: &Arc<Seat>, at: Position) -> Result<()> {
        let id = seat.id.clone();
        self.blocking(move |consumer| {
            let list = commit_list(&[(id.clone(), at)], &consumer.context().mark);
            consumer
                .commit(&list, CommitMode::Sync)
                .map_err(|error| kafka_error(format!("{id}: the commit cannot be marked"), error))
        })
        .await
    }
}

fn survey(consumer: &Client, topic: &str, partition: Option<i32>) -> Result<Vec<Survey>> {
    let partitions = match partition {
        Some(partition) => vec![partition],
        None => partitions_of(consumer, topic)?,
    };
    let failed = |what: &str| {
        let message = format!("topic {topic}: {what}");
        move |error| kafka_error(message, error)
    };
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in &partitions {
        list.add_partition(topic, *partition);
    }
    let committed = consumer
        .committed_offsets(list, TIMEOUT)
        .map_err(failed("the group's commits cannot be read"))?;
    let identity = identity(consumer, topic);
    let mut surveys = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, TIMEOUT)
            .map_err(failed("the log's bounds cannot be read"))?;
        let element = committed.find_partition(topic, partition);
        if let Some(element) = &element {
            element.error().map_err(failed("the group's commit cannot be read"))?;
        }
        let commit = element.and_then(|element| match element.offset() {
            Offset::Offset(offset) => {
                Some(Commit { offset, metadata: element.metadata().to_owned() })
            }
            _ => None,
        });
        surveys.push(Survey { partition, commit, low, high, identity: identity.clone() });
    }
    Ok(surveys)
}

fn identity(consumer: &Client, topic: &str) -> LogIdentity {
    LogIdentity {
        cluster_id: consumer.client().fetch_cluster_id(TIMEOUT),
        topic_id: topic_id(consumer, topic),
    }
}

/// The topic's id. A broker that has none (the mock cluster, very old ones) does not answer at all,
/// so that it is not asked again at once; a lane whose row has an id waits for one.
fn topic_id(consumer: &Client, topic: &str) -> Option<String> {
    let context = consumer.context();
    let silent = || context.no_topic_ids.lock().unwrap_or_else(PoisonError::into_inner);
    if silent().is_some_and(|since| since.elapsed() < ASK_AGAIN) {
        return None;
    }
    let id = ffi::topic_id(consumer.client(), topic, ID_TIMEOUT);
    *silent() = id.is_none().then(Instant::now);
    id
}

/// The topics that there are now and that one of these names.
pub(crate) fn named_by(consumer: &Client, topics: &[Topic]) -> Result<BTreeSet<String>> {
    let metadata = consumer
        .fetch_metadata(None, TIMEOUT)
        .map_err(|error| kafka_error("the broker cannot be asked for its topics", error))?;
    let names = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
    let named = names.filter(|name| topics.iter().any(|topic| topic.names(name)));
    Ok(named.map(str::to_owned).collect())
}

/// The partitions of a topic.
pub(crate) fn partitions_of(consumer: &Client, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(|error| {
        kafka_error(format!("topic {topic}: the broker cannot be asked"), error)
    })?;
    let found = metadata.topics().iter().find(|it| it.name() == topic);
    let error = found.and_then(|it| it.error()).map(RDKafkaErrorCode::from);
    match (found, error) {
        (Some(found), None) if !found.partitions().is_empty() => {
            Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
        }
        (_, Some(error)) if error != RDKafkaErrorCode::UnknownTopicOrPartition => Err(kafka_error(
            format!("topic {topic}: the broker refuses to describe it"),
            KafkaError::MetadataFetch(error),
        )),
        _ => Err(Error::new(
            ErrorKind::Config,
            format!("topic {topic} does not exist: create it, or correct its name in the handler"),
        )),
    }
}
