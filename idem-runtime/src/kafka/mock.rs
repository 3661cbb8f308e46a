//! librdkafka's own mock of a cluster, for what tests on a genuine one cannot bring about at will.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::fetched::Consumer;
use crate::kafka::keeper::{Keeping, Partition};
use crate::lane::{LaneId, Position};
use crate::pipeline::source::Seat;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps these seats, whatever is assigned.
pub(crate) struct Seats(Arc<str>, Vec<Arc<Seat>>);

impl Seats {
    pub(crate) fn new(seats: &[Arc<Seat>]) -> Arc<Self> {
        Arc::new(Self("g".into(), seats.to_vec()))
    }
}

impl Keeping for Seats {
    fn group(&self) -> &Arc<str> {
        &self.0
    }
    fn assign(&self, _: &[Partition]) {}
    fn revoke(&self, _: Option<&[Partition]>) -> Vec<(LaneId, Position)> {
        Vec::new()
    }
    fn close(&self) {}
    fn seats(&self) -> Vec<Arc<Seat>> {
        self.1.clone()
    }
    fn seat(&self, topic: &str, partition: i32) -> Option<Arc<Seat>> {
        let is = |seat: &&Arc<Seat>| &*seat.id.topic == topic && seat.id.partition == partition;
        self.1.iter().find(is).cloned()
    }
}

/// A cluster that has the topic `t` with two partitions.
pub(crate) fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    cluster
}

pub(crate) fn producer(cluster: &MockCluster<'_, DefaultProducerContext>) -> BaseProducer {
    let servers = cluster.bootstrap_servers();
    ClientConfig::new().set("bootstrap.servers", servers).create().unwrap()
}

pub(crate) fn send(
    producer: &BaseProducer,
    partition: i32,
    payloads: impl IntoIterator<Item = String>,
) {
    for payload in payloads {
        let record = BaseRecord::<(), _>::to("t").partition(partition).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

pub(crate) fn assign(consumer: &Consumer, partitions: &[(i32, Offset)]) {
    let mut list = TopicPartitionList::new();
    for (partition, at) in partitions {
        list.add_partition_offset("t", *partition, *at).unwrap();
    }
    consumer.assign(&list).unwrap();
}
