//! The consumer's callbacks: rebalances, commits, logs.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;

use crate::kafka::keeper::{Keeping, Partition};
use crate::kafka::lists::commit_list;

pub(crate) struct Callbacks {
    pub(crate) keeper: Arc<dyn Keeping>,
    /// The metadata of every commit.
    pub(crate) mark: Arc<str>,
    /// Held while a partition is paused, sought or resumed, so that a pause for memory and a lane's
    /// start cannot cross.
    pub(crate) control: Mutex<()>,
    /// When the broker last did not tell a topic's id.
    pub(crate) no_topic_ids: Mutex<Option<Instant>>,
    /// How often the reader has handed over all that it had polled.
    pub(crate) rounds: watch::Sender<u64>,
    /// Whether the user asked for the client's debug lines.
    pub(crate) debug: bool,
    /// A commit failed: what was sent is to be sent again.
    pub(crate) commit_failed: AtomicBool,
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "idem::kafka", facility, message),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "idem::kafka", facility, message);
            }
            RDKafkaLogLevel::Debug => {
                if let Some(topic) = made_anew(message) {
                    self.made_anew(topic);
                }
                if self.debug {
                    tracing::debug!(target: "idem::kafka", facility, message);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "idem::kafka", %error, reason, "the Kafka client reports an error");
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            other => {
                tracing::warn!(error = ?other, "the rebalance failed; leaving all lanes");
                self.keeper.revoke(None);
                warn_on(consumer.unassign(), "the assignment could not be given up");
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            // Offsets follow the database; a later commit covers this one.
            tracing::debug!(%error, "offsets were not committed, trying again");
            self.commit_failed.store(true, SeqCst);
        }
    }
}

impl Callbacks {
    /// The client has just learned that a topic has another id, and goes on reading at the same
    /// offset: what it delivers from now on is of another log. Called between two polled messages,
    /// and before the client asks the broker for anything under the new id.
    fn made_anew(&self, topic: &str) {
        for seat in self.keeper.seats().iter().filter(|seat| *seat.id.topic == *topic) {
            seat.shut();
        }
    }

    /// Takes the partitions paused: what is read, and from where, is for the lane to say.
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = partitions(list);
        tracing::info!(group = %self.keeper.group(), count = partitions.len(), "assigned");
        {
            let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
            let mut paused = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in &partitions {
                // Any offset that exists will do: nothing of it is accepted.
                let _ = paused.add_partition_offset(topic, *partition, Offset::Beginning);
            }
            let assigned = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_assign(&paused),
                _ => consumer.assign(&paused),
            };
            warn_on(assigned, "the assignment was not accepted");
            warn_on(consumer.pause(&paused), "new partitions could not be paused");
        }
        self.keeper.assign(&partitions);
    }

    /// Ends the lanes, commits what they did, and only then gives the partitions up.
    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = partitions(list);
        let lost = consumer.assignment_lost();
        tracing::info!(group = %self.keeper.group(), count = partitions.len(), lost, "revoked");
        let resolved = self.keeper.revoke(Some(&partitions));
        if !lost && !resolved.is_empty() {
            let list = commit_list(&resolved, &self.mark);
            // The database decides; a commit that is missing costs the next owner a look.
            if let Err(error) = consumer.commit(&list, CommitMode::Sync) {
                tracing::debug!(%error, "the last offsets were not committed");
            }
        }
        // Not between the two halves of a fetcher's restart.
        let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let given_up = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        warn_on(given_up, "the assignment could not be given up");
    }
}

/// The topic that has another id, if this line of the client's log says so. It says so nowhere else;
/// should a release say it in other words, the watch still finds out, later.
fn made_anew(line: &str) -> Option<&str> {
    /// The id zero: the client did not know one yet.
    const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    let (before, ids) = line.split_once(" changed id from ")?;
    let (_, topic) = before.rsplit_once("Topic ")?;
    (!ids.starts_with(NONE)).then_some(topic)
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|it| (Arc::from(it.topic()), it.partition())).collect()
}

fn warn_on(result: KafkaResult<()>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_says_when_a_topic_was_made_anew() {
        let line =
            "[thrd:main]: Topic a.b-c changed id from 7ezzlkTmT8CI1AFywNq8Qg to a3vb3rucQxOd";
        assert_eq!(made_anew(line), Some("a.b-c"));
        let first = "[thrd:main]: Topic t changed id from AAAAAAAAAAAAAAAAAAAAAA to a3vb3rucQxOd";
        assert_eq!(made_anew(first), None);
        assert_eq!(made_anew("[thrd:main]: Topic t [0] Leader 1 Epoch 0"), None);
    }
}
