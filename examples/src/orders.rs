//! Orders, and a producer that repeats itself.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The event of the examples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderPlaced {
    /// What makes two deliveries the same event.
    pub event_id: Uuid,
    /// The order's number.
    pub order_id: i64,
    /// What it costs.
    pub cents: i64,
}

/// Produces this many different orders, and each tenth a second time, as a producer that retries
/// does. Answers how many messages that made.
///
/// # Errors
/// When the broker does not take them.
pub fn produce_orders(bootstrap: &str, topic: &str, orders: i64) -> KafkaResult<u64> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("message.timeout.ms", "15000")
        .create()?;
    let mut messages = 0;
    for order_id in 0..orders {
        let order = OrderPlaced { event_id: Uuid::new_v4(), order_id, cents: order_id % 5000 };
        let payload = serde_json::to_vec(&order).map_err(|_| KafkaError::Canceled)?;
        let times = if order_id % 10 == 0 { 2 } else { 1 };
        for _ in 0..times {
            send(&producer, topic, &order.event_id.to_string(), &payload)?;
            messages += 1;
        }
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(messages)
}

fn send(producer: &BaseProducer, topic: &str, key: &str, payload: &[u8]) -> KafkaResult<()> {
    let mut record = BaseRecord::to(topic).key(key).payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(20));
                record = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}
