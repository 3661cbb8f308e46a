//! Topics: made, filled, and a group put back to their beginning.

use std::time::{Duration, Instant};

use idem::BoxError;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::data::{self, Message, PARTITIONS};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Of all messages of a topic: a machine that others use takes its time.
const TO_LOAD: Duration = Duration::from_secs(300);

/// A broker.
#[derive(Debug, Clone)]
pub(crate) struct Kafka {
    pub(crate) bootstrap: String,
}

impl Kafka {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Makes an empty topic with so many partitions.
    ///
    /// # Errors
    /// When the broker refuses.
    pub(crate) async fn create(&self, topic: &str, partitions: i32) -> Result<(), BoxError> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for created in admin.create_topics([&new], &AdminOptions::new()).await? {
            created.map_err(|(topic, code)| format!("topic {topic} cannot be made: {code}"))?;
        }
        Ok(())
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub(crate) async fn delete(&self, topics: &[&str]) -> Result<(), BoxError> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        admin.delete_topics(topics, &AdminOptions::new()).await?;
        Ok(())
    }

    /// Makes a topic with the first `messages` messages in it.
    ///
    /// # Errors
    /// When they are not all there in the end.
    pub(crate) async fn load(&self, topic: &str, messages: u64) -> Result<(), BoxError> {
        self.create(topic, PARTITIONS).await?;
        let producer = self.producer(20)?;
        for message in data::messages(messages) {
            send(&producer, topic, &message)?;
        }
        producer.flush(TO_LOAD)?;
        let consumer: BaseConsumer = self.config().create()?;
        let mut there = 0;
        for partition in 0..PARTITIONS {
            there += consumer.fetch_watermarks(topic, partition, TIMEOUT)?.1;
        }
        if u64::try_from(there)? == messages {
            return Ok(());
        }
        Err(format!("topic {topic} has {there} messages, and {messages} were sent").into())
    }

    /// A producer that waits this long for company of a message.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn producer(&self, linger_ms: u32) -> Result<BaseProducer, KafkaError> {
        self.config()
            .set("enable.idempotence", "true")
            .set("linger.ms", linger_ms.to_string())
            .set("queue.buffering.max.messages", "500000")
            .create()
    }

    /// Puts a group that nobody is in back to the beginning, as an operator does.
    ///
    /// # Errors
    /// When the broker refuses for long: somebody is in the group.
    pub(crate) async fn rewind(&self, group: &str, topic: &str) -> Result<(), BoxError> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Offset(0))?;
        }
        let deadline = Instant::now() + TIMEOUT;
        // A member that has just ended may still be counted.
        while let Err(error) = consumer.commit(&list, CommitMode::Sync) {
            if Instant::now() >= deadline {
                return Err(error.into());
            }
            // The broker tells nobody when a member is gone; bounded by `deadline`.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

/// Queues a message, waiting while the queue is full.
///
/// # Errors
/// When the producer refuses it.
pub(crate) fn send(
    producer: &BaseProducer,
    topic: &str,
    message: &Message,
) -> Result<(), KafkaError> {
    let Message { partition, key, payload, .. } = message;
    let mut record = BaseRecord::to(topic).partition(*partition).key(key).payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => break,
            Err((error, back)) => {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                producer.poll(Duration::from_millis(20));
                record = back;
            }
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
}
