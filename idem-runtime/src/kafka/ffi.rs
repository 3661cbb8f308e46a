//! Calls of librdkafka that rdkafka does not wrap: leader epochs of positions, and topic ids. Those for
//! messages are in `fetched`.

#![expect(unsafe_code, reason = "calls of C functions; each block says why it is sound")]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};

/// Sets the leader epoch of a partition in a list; librdkafka validates it when it seeks there.
pub(crate) fn set_leader_epoch(
    list: &mut TopicPartitionList,
    topic: &str,
    partition: i32,
    epoch: i32,
) {
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the list is borrowed exclusively, so that its elements neither move nor go away; a
    // pointer that was found is one of its elements.
    unsafe {
        let element = c::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !element.is_null() {
            c::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
        }
    }
}

/// The id of a topic, as the broker tells it; `None` when it does not: brokers before 3.1, and the
/// mock cluster, have none.
pub(crate) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Option<String> {
    let topic = CString::new(topic).ok()?;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` is valid for as long as the client is borrowed. Every object made here is
    // destroyed here, once, after its last use; strings are copied before the event that owns them
    // is destroyed.
    unsafe {
        let mut names = [topic.as_ptr()];
        let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let options = c::rd_kafka_AdminOptions_new(
            rk,
            c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        c::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        let queue = c::rd_kafka_queue_new(rk);
        c::rd_kafka_DescribeTopics(rk, topics, options, queue);
        let event = c::rd_kafka_queue_poll(queue, millis.saturating_add(500));
        let id = if event.is_null() { None } else { id_in(event) };
        if !event.is_null() {
            c::rd_kafka_event_destroy(event);
        }
        c::rd_kafka_queue_destroy(queue);
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// The id of the one topic in the result of a description.
///
/// # Safety
/// `event` must be a valid event.
unsafe fn id_in(event: *mut c::rd_kafka_event_t) -> Option<String> {
    // SAFETY: the caller's event is valid, and everything read here belongs to it.
    unsafe {
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 || topics.is_null() {
            return None;
        }
        let error = c::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null()
            && c::rd_kafka_error_code(error) != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return None;
        }
        let id = c::rd_kafka_Uuid_base64str(c::rd_kafka_TopicDescription_topic_id(*topics));
        let id = if id.is_null() { "" } else { CStr::from_ptr(id).to_str().ok()? };
        // A broker without topic ids answers with the id zero.
        (!id.is_empty() && id != "AAAAAAAAAAAAAAAAAAAAAA").then(|| id.to_owned())
    }
}
