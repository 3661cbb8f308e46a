//! The client with a queue of its own for messages, out of which many are taken at once.
//!
//! The client's own queue gives one message a call, for which it looks at the clock, allocates an event
//! and counts the call: together as much as all else that reading costs. So the queue of each partition
//! is led into one of ours before it flows. The client's own keeps what is no message: rebalances,
//! answers to commits, errors.
//!
//! **Invariant:** a partition is led here while it is paused and its lane accepts nothing, and a message
//! that comes in any other way is not handed over: of two queues, what is behind could come first.

#![expect(unsafe_code, reason = "calls of C functions; each block says why it is sound")]

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings as c;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;

use crate::event::{Headers, TimestampKind};
use crate::kafka::source::Client;

/// The client, and the queue that the messages of all partitions are in.
pub(crate) struct Consumer {
    queue: NonNull<c::rd_kafka_queue_t>,
    client: Client,
}

// SAFETY: librdkafka's queues may be used from any thread, and from several at once.
unsafe impl Send for Consumer {}
// SAFETY: as above.
unsafe impl Sync for Consumer {}

impl Deref for Consumer {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed here alone, and before the client, as it must be: messages
        // that are still in it would keep the client from ending. No `Fetch` borrows it any more.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

impl Consumer {
    /// The client with a queue; `None` when there is no memory for one.
    pub(crate) fn new(client: Client) -> Option<Self> {
        // SAFETY: the client is alive, and lives longer than the queue.
        let queue = unsafe { c::rd_kafka_queue_new(client.client().native_ptr()) };
        Some(Self { queue: NonNull::new(queue)?, client })
    }

    /// Leads what a partition has into the queue, from now until its fetcher is stopped. To be called
    /// when it runs: one that is being stopped undoes this. What it has by then comes along, and does so
    /// before what comes after it.
    pub(crate) fn gather(&self, topic: &str, partition: i32) {
        let Ok(topic) = CString::new(topic) else { return };
        let rk = self.client.client().native_ptr();
        // SAFETY: client and queue are alive; the partition's queue is a reference of our own, which is
        // given back after its last use.
        unsafe {
            let own = c::rd_kafka_queue_get_partition(rk, topic.as_ptr(), partition);
            if !own.is_null() {
                c::rd_kafka_queue_forward(own, self.queue.as_ptr());
                c::rd_kafka_queue_destroy(own);
            }
        }
    }

    /// How much waits in the client's own queue.
    pub(crate) fn waiting(&self) -> usize {
        let rk = self.client.client().native_ptr();
        // SAFETY: the client is alive; the queue is a reference of our own, which is given back after
        // its last use.
        unsafe {
            let own = c::rd_kafka_queue_get_consumer(rk);
            if own.is_null() {
                return 0;
            }
            let length = c::rd_kafka_queue_length(own);
            c::rd_kafka_queue_destroy(own);
            length
        }
    }

    /// Takes at most so many messages out of the queue; if there is none, waits for one.
    pub(crate) fn fetch(&self, most: usize, wait: Duration) -> Vec<Fetch<'_>> {
        let mut fetched = Vec::with_capacity(most);
        self.take(&mut fetched, most);
        if fetched.is_empty() && most > 0 {
            let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
            // SAFETY: the queue is alive; a message that comes out of it is ours.
            let first = unsafe { c::rd_kafka_consume_queue(self.queue.as_ptr(), millis) };
            if let Some(first) = NonNull::new(first) {
                fetched.push(Fetch { message: first, of: PhantomData });
                self.take(&mut fetched, most - 1);
            }
        }
        fetched
    }

    /// Takes what is there: a batch that is asked for with a time to wait waits until it is full.
    fn take<'a>(&'a self, fetched: &mut Vec<Fetch<'a>>, most: usize) {
        fetched.reserve(most);
        let spare = fetched.spare_capacity_mut();
        let room = most.min(spare.len());
        let messages = spare.as_mut_ptr().cast::<*mut c::rd_kafka_message_t>();
        // SAFETY: the queue is alive. A `Fetch` is a pointer to a message and nothing else
        // (`repr(transparent)`), and there is room for so many; as many as the answer says are written,
        // none of them null, and each is ours from then on.
        unsafe {
            let taken = c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, messages, room);
            let taken = usize::try_from(taken).unwrap_or(0);
            fetched.set_len(fetched.len() + taken);
        }
    }
}

/// A message in the client's memory, or an error in the place of one.
#[repr(transparent)]
pub(crate) struct Fetch<'a> {
    message: NonNull<c::rd_kafka_message_t>,
    of: PhantomData<&'a Consumer>,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        // SAFETY: the message is ours, and destroyed here alone.
        unsafe { c::rd_kafka_message_destroy(self.message.as_ptr()) };
    }
}

impl Fetch<'_> {
    fn get(&self) -> &c::rd_kafka_message_t {
        // SAFETY: the message is ours and alive; nobody changes it.
        unsafe { self.message.as_ref() }
    }

    /// What went wrong, if it is no message.
    pub(crate) fn error(&self) -> Option<KafkaError> {
        match self.get().err {
            c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Some(KafkaError::PartitionEOF(self.get().partition))
            }
            error => Some(KafkaError::MessageConsumption(error.into())),
        }
    }

    /// Whether both are of one topic; quick, and not always found out.
    pub(crate) fn shares_topic(&self, other: &Self) -> bool {
        ptr::eq(self.get().rkt, other.get().rkt)
    }

    /// The name of the topic; empty where there is none.
    pub(crate) fn topic(&self) -> &str {
        let topic = self.get().rkt;
        if topic.is_null() {
            return "";
        }
        // SAFETY: a message keeps its topic, and a topic has its name, for as long as it lives.
        let name = unsafe { CStr::from_ptr(c::rd_kafka_topic_name(topic)) };
        // Kafka's names are ASCII.
        name.to_str().unwrap_or_default()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.get().partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.get().offset
    }

    pub(crate) fn payload(&self) -> Option<&[u8]> {
        // SAFETY: of a message without an error these are its payload, which it keeps.
        unsafe { bytes(self.get().payload, self.get().len) }
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        // SAFETY: as above, the key.
        unsafe { bytes(self.get().key, self.get().key_len) }
    }

    /// The epoch of the leader that wrote it, if the broker told.
    pub(crate) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is alive, and the function only reads.
        let epoch = unsafe { c::rd_kafka_message_leader_epoch(self.message.as_ptr()) };
        (epoch >= 0).then_some(epoch)
    }

    /// Its time in milliseconds since 1970, and whose it is.
    pub(crate) fn timestamp(&self) -> Option<(i64, TimestampKind)> {
        use c::rd_kafka_timestamp_type_t as Kind;
        let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and the function only reads it.
        let time = unsafe { c::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        match kind {
            _ if time == -1 => None,
            Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => None,
            Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => Some((time, TimestampKind::Created)),
            Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Some((time, TimestampKind::Appended)),
        }
    }

    pub(crate) fn headers(&self) -> Headers {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive and keeps its headers, and each header its name and its value,
        // for as long as it lives; they are copied.
        unsafe {
            let found = c::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers);
            if found != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
                return Headers::default();
            }
            let header = |index| {
                let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
                let found = c::rd_kafka_header_get_all(
                    headers,
                    index,
                    &raw mut name,
                    &raw mut value,
                    &raw mut len,
                );
                (found == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
                    let name = CStr::from_ptr(name).to_string_lossy().into_owned();
                    (name, bytes(value, len).map(Bytes::copy_from_slice))
                })
            };
            (0..).map_while(header).collect()
        }
    }
}

/// These bytes; `None` where there are none.
///
/// # Safety
/// If the pointer is not null, there are so many bytes, and nobody changes them for as long.
unsafe fn bytes<'a>(data: *const std::ffi::c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!data.is_null()).then(|| unsafe { slice::from_raw_parts(data.cast(), len) })
}

#[cfg(test)]
mod tests;
