//! librdkafka's mock cluster: a broker in the process, for demos.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, Producer};

/// A broker in the process. It lives as long as this value.
pub struct MockBroker {
    producer: BaseProducer,
}

impl MockBroker {
    /// Starts a broker with one topic.
    ///
    /// # Errors
    /// When the mock cluster refuses.
    pub fn start(topic: &str, partitions: i32) -> KafkaResult<Self> {
        let producer: BaseProducer =
            ClientConfig::new().set("test.mock.num.brokers", "1").create()?;
        let broker = Self { producer };
        broker.join_at_once();
        if let Some(cluster) = broker.producer.client().mock_cluster() {
            cluster.create_topic(topic, partitions, 1)?;
        }
        Ok(broker)
    }

    /// Its address, `host:port`.
    pub fn bootstrap(&self) -> String {
        let cluster = self.producer.client().mock_cluster();
        cluster.map(|cluster| cluster.bootstrap_servers()).unwrap_or_default()
    }

    /// A new group waits three seconds for more members, as a real broker's does; here nobody comes.
    #[expect(unsafe_code, reason = "rdkafka does not wrap this call")]
    fn join_at_once(&self) {
        use rdkafka::bindings::{
            rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms,
        };
        // SAFETY: the client's pointer is valid for as long as the client, which owns the cluster.
        unsafe {
            let cluster = rd_kafka_handle_mock_cluster(self.producer.client().native_ptr());
            if !cluster.is_null() {
                rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
            }
        }
    }
}
