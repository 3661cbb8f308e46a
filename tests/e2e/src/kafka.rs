//! Topics, producers and offsets, as a test needs them.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::handlers::Order;
use crate::world::{PATIENCE, until};

/// A broker may be away for a while.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A broker.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// Its address.
    pub bootstrap: String,
}

/// A message to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewMessage<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its message key.
    pub key: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Its payload.
    pub payload: &'a str,
}

impl Kafka {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }

    /// Creates a topic with settings.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let admin = self.admin();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE / 4));
        let mut is_asked_again = false;
        until("the topic is created", async || {
            let result = match admin.create_topics([&topic], &options).await {
                Ok(mut results) => results.remove(0),
                // A broker that stood still, with the machine, may have lost the question, or the answer.
                Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut)) => {
                    is_asked_again = true;
                    return false;
                }
                Err(error) => panic!("{error}"),
            };
            match result {
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if is_asked_again => true,
                Err((_, error)) => panic!("{error}"),
                Ok(_) => true,
            }
        })
        .await;
    }

    /// Has a topic grow to so many partitions.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn add_partitions(&self, topic: &str, partitions: usize) {
        let grown = NewPartitions::new(topic, partitions);
        let results = self.admin().create_partitions([&grown], &AdminOptions::new());
        for result in results.await.expect("an answer") {
            result.expect("the topic grows");
        }
    }

    /// Deletes a topic.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn delete_topic(&self, name: &str) {
        let results =
            self.admin().delete_topics(&[name], &AdminOptions::new()).await.expect("an answer");
        for result in results {
            result.expect("the topic is deleted");
        }
    }

    /// Deletes a topic and creates another one with its name.
    ///
    /// # Panics
    /// When the broker refuses, or the old one does not go.
    pub async fn recreate_topic(&self, name: &str, partitions: i32) {
        self.delete_topic(name).await;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let admin = self.admin();
        until("the topic is created again", async || {
            let results = admin.create_topics([&topic], &AdminOptions::new()).await;
            match &results.expect("an answer")[0] {
                Ok(_) => true,
                // The old one is being deleted.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => false,
                Err((_, error)) => panic!("{error}"),
            }
        })
        .await;
    }

    /// Deletes the records below an offset, as retention does.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn delete_records(&self, topic: &str, partition: i32, below: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(below)).expect("an offset");
        let deleted = self.admin().delete_records(&list, &AdminOptions::new()).await;
        for element in deleted.expect("an answer").elements() {
            element.error().expect("the records are deleted");
        }
    }

    /// An idempotent producer.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn producer(&self) -> BaseProducer {
        self.config()
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .expect("a producer")
    }

    /// A transactional producer.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn transactional_producer(&self, id: &str) -> BaseProducer {
        let producer: BaseProducer =
            self.config().set("transactional.id", id).create().expect("a producer");
        producer.init_transactions(TIMEOUT).expect("transactions");
        producer
    }

    /// Writes orders: to the partition given, or to the one of the customer or of the event's key.
    /// The event's key is also in the header `idempotency-key`.
    ///
    /// # Panics
    /// When not all are acknowledged.
    pub fn produce<'a>(
        &self,
        topic: &str,
        orders: impl IntoIterator<Item = (Option<i32>, &'a Order)>,
    ) {
        let producer = self.producer();
        for (partition, order) in orders {
            let payload = serde_json::to_vec(order).expect("an order is JSON");
            let key = order.customer.as_deref().unwrap_or(&order.event_id);
            send_as(&producer, (topic, partition), key, &order.event_id, &payload);
        }
        producer.flush(TIMEOUT).expect("all are acknowledged");
    }

    /// Writes orders, each with its type in the header `event-type`.
    ///
    /// # Panics
    /// When not all are acknowledged.
    pub fn produce_typed<'a>(
        &self,
        topic: &str,
        orders: impl IntoIterator<Item = (&'a str, &'a Order)>,
    ) {
        let producer = self.producer();
        for (event_type, order) in orders {
            let payload = serde_json::to_vec(order).expect("an order is JSON");
            let header = Header { key: "event-type", value: Some(event_type) };
            let id = Header { key: "idempotency-key", value: Some(&order.event_id) };
            let headers = OwnedHeaders::new().insert(header).insert(id);
            let record =
                BaseRecord::to(topic).key(order.event_id.as_str()).payload(payload.as_slice());
            queue(&producer, record.headers(headers));
        }
        producer.flush(TIMEOUT).expect("all are acknowledged");
    }

    /// Writes a payload as it is.
    ///
    /// # Panics
    /// When it is not acknowledged.
    pub fn produce_raw(&self, topic: &str, partition: i32, key: &str, payload: &[u8]) {
        self.produce_all(topic, [(partition, key.to_owned(), payload.to_vec())]);
    }

    /// Writes payloads as they are, each to a partition with a key.
    ///
    /// # Panics
    /// When not all are acknowledged.
    pub fn produce_all(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = (i32, String, Vec<u8>)>,
    ) {
        let producer = self.producer();
        for (partition, key, payload) in messages {
            send(&producer, topic, Some(partition), &key, &payload);
        }
        producer.flush(TIMEOUT).expect("all are acknowledged");
    }

    /// Writes a message with a message key and an idempotency key; without a payload it is a
    /// tombstone.
    ///
    /// # Panics
    /// When it is not acknowledged.
    pub fn produce_as(
        &self,
        topic: &str,
        key: &str,
        idempotency_key: &str,
        payload: Option<&[u8]>,
    ) {
        let producer = self.producer();
        let header = Header { key: "idempotency-key", value: Some(idempotency_key) };
        let headers = OwnedHeaders::new().insert(header);
        let record = BaseRecord::<str, [u8]>::to(topic).key(key).headers(headers);
        let record = match payload {
            Some(payload) => record.payload(payload),
            None => record,
        };
        producer.send(record).map_err(|(error, _)| error).expect("it is queued");
        producer.flush(TIMEOUT).expect("it is acknowledged");
    }

    /// Writes messages as they are.
    ///
    /// # Panics
    /// When not all are acknowledged.
    pub fn produce_messages<'a>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = NewMessage<'a>>,
    ) {
        let producer = self.producer();
        for message in messages {
            let header = |(key, value): &(&'a str, &'a [u8])| Header { key, value: Some(*value) };
            let headers = message.headers.iter().map(header);
            let headers = headers.fold(OwnedHeaders::new(), |all, header| all.insert(header));
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
                .partition(message.partition)
                .payload(message.payload.as_bytes())
                .headers(headers);
            record.key = message.key;
            producer.send(record).map_err(|(error, _)| error).expect("there is room for it");
        }
        producer.flush(TIMEOUT).expect("all are acknowledged");
    }

    /// The group's committed offsets with their metadata, by partition.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> Vec<(i64, String)> {
        let consumer: BaseConsumer =
            self.config().set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let committed = consumer.committed_offsets(list, TIMEOUT).expect("an answer");
        committed
            .elements()
            .iter()
            .map(|it| match it.offset() {
                Offset::Offset(offset) => (offset, it.metadata().to_owned()),
                _ => (-1, String::new()),
            })
            .collect()
    }

    /// Commits an offset without any metadata, as a consumer that is not idem's does.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let consumer: BaseConsumer =
            self.config().set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        consumer.commit(&list, CommitMode::Sync).expect("it is committed");
    }

    /// The orders in a partition of a topic with their offsets, as a consumer sees them that reads
    /// committed transactions only.
    ///
    /// # Panics
    /// When the broker does not answer, or something in it is no order.
    pub fn orders(&self, topic: &str, partition: i32) -> Vec<(i64, Order)> {
        let mut orders = Vec::new();
        self.read(topic, partition, |message| {
            let payload = message.payload().unwrap_or_default();
            orders.push((message.offset(), serde_json::from_slice(payload).expect("an order")));
        });
        orders
    }

    /// Shows every message of a partition, in order.
    fn read(&self, topic: &str, partition: i32, mut show: impl FnMut(&BorrowedMessage<'_>)) {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "nobody")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("it is assigned");
        loop {
            match consumer.poll(TIMEOUT).expect("an answer") {
                Ok(message) => show(&message),
                Err(KafkaError::PartitionEOF(_)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The values of a header in a partition of a topic, as text.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn header(&self, topic: &str, partition: i32, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        self.read(topic, partition, |message| {
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            let named = headers.filter(|header| header.key == name);
            let texts = named.filter_map(|header| header.value);
            values.extend(texts.map(|text| String::from_utf8_lossy(text).into_owned()));
        });
        values
    }

    /// The oldest and the next offset of a partition.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        let consumer: BaseConsumer = self.config().create().expect("a consumer");
        consumer.fetch_watermarks(topic, partition, TIMEOUT).expect("an answer")
    }
}

/// Queues one message, waiting while the queue is full.
///
/// # Panics
/// When the producer refuses it.
pub fn send(
    producer: &BaseProducer,
    topic: &str,
    partition: Option<i32>,
    key: &str,
    payload: &[u8],
) {
    send_as(producer, (topic, partition), key, key, payload);
}

/// The same with a message key and an idempotency key.
fn send_as(
    producer: &BaseProducer,
    (topic, partition): (&str, Option<i32>),
    key: &str,
    idempotency_key: &str,
    payload: &[u8],
) {
    let header = Header { key: "idempotency-key", value: Some(idempotency_key) };
    let headers = OwnedHeaders::new().insert(header);
    let mut record = BaseRecord::to(topic).key(key).payload(payload).headers(headers);
    if let Some(partition) = partition {
        record = record.partition(partition);
    }
    queue(producer, record);
}

fn queue(producer: &BaseProducer, record: BaseRecord<'_, str, [u8]>) {
    let mut record = record;
    while let Err((error, back)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
        producer.poll(Duration::from_millis(50));
        record = back;
    }
    producer.poll(Duration::ZERO);
}
