//! The client's lists of partitions, as idem fills them.

use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::ffi;
use crate::lane::{LaneId, Position};

/// The offsets to commit, each with the group's mark.
pub(crate) fn commit_list(resolved: &[(LaneId, Position)], mark: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(resolved.len());
    for (id, position) in resolved {
        let mut element = list.add_partition(&id.topic, id.partition);
        let _ = element.set_offset(Offset::Offset(position.offset));
        element.set_metadata(mark);
        if let Some(epoch) = position.leader_epoch {
            ffi::set_leader_epoch(&mut list, &id.topic, id.partition, epoch);
        }
    }
    list
}

pub(crate) fn one(id: &LaneId) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(&id.topic, id.partition);
    list
}
