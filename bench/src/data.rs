//! The events: about 200 bytes of JSON each, one message in ten a repeat of an earlier one.
//!
//! Everything about a message follows from its number, so that every contender reads the same data
//! in every run, and what must come out of it is known without looking.

use serde::Deserialize;
use uuid::Uuid;

/// How many partitions the topics have.
pub(crate) const PARTITIONS: i32 = 4;
/// One message in this many is a repeat.
const REPEATS: u64 = 10;
/// How far back, in orders of all partitions, a repeat reaches at most: far enough that most are not
/// in the batch of their original.
const REACH: u64 = 8_000;
const CUSTOMERS: u64 = 10_000;

/// What the handlers read of an event.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Order {
    /// What makes two deliveries the same event.
    pub(crate) event_id: Uuid,
    /// The order's number.
    pub(crate) order_id: i64,
    /// What it costs.
    pub(crate) cents: i64,
}

/// One message as it is produced.
#[derive(Debug)]
pub(crate) struct Message {
    /// The order's number, which its repeats share.
    pub(crate) order: u64,
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) payload: String,
}

/// The first `messages` messages.
pub(crate) fn messages(messages: u64) -> impl Iterator<Item = Message> {
    (0..messages).map(|message| write(order_of(message)))
}

/// The first `messages` messages as handlers see them, with their partitions.
pub(crate) fn orders(messages: u64) -> impl Iterator<Item = (i32, Order)> {
    (0..messages).map(|message| {
        let order = order_of(message);
        (partition(order), read(order))
    })
}

/// How many different events there are among the first `messages` messages.
pub(crate) fn distinct(messages: u64) -> u64 {
    messages - messages / REPEATS
}

/// Whether the order is one of those that some handlers refuse: one in a hundred.
pub(crate) fn is_refused(order_id: i64) -> bool {
    order_id % 100 == 17
}

/// How many different events there are among the first `messages` messages that are not refused.
pub(crate) fn distinct_good(messages: u64) -> u64 {
    let refused = (distinct(messages) + 82) / 100;
    distinct(messages) - refused
}

/// The number of the order that a message is about.
fn order_of(message: u64) -> u64 {
    let (block, place) = (message / REPEATS, message % REPEATS);
    let first = block * (REPEATS - 1);
    if place < REPEATS - 1 {
        return first + place;
    }
    let last = first + REPEATS - 2;
    // Never the message just before.
    let back = 1 + mix(block ^ 0x5eed) % REACH.min(last);
    last - back
}

fn read(order: u64) -> Order {
    let (high, low) = (mix(order), mix(order ^ 0xa5a5_a5a5_0000_0000));
    let random = u128::from(high) << 64 | u128::from(low);
    Order {
        event_id: uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid(),
        order_id: i64::try_from(order).unwrap_or(i64::MAX),
        cents: i64::try_from(100 + high % 100_000).unwrap_or(i64::MAX),
    }
}

fn customer(order: u64) -> u64 {
    mix(order ^ 0xc0ffee) % CUSTOMERS
}

fn partition(order: u64) -> i32 {
    // Far below the type's limit.
    i32::try_from(customer(order) % u64::from(PARTITIONS.unsigned_abs())).unwrap_or(0)
}

fn write(order: u64) -> Message {
    let Order { event_id, order_id, cents } = read(order);
    let key = format!("customer-{:05}", customer(order));
    let payload = format!(
        r#"{{"event_id":"{event_id}","order_id":{order_id},"customer":"{key}","cents":{cents},"currency":"EUR","placed_at":"2026-03-14T09:26:53Z","note":"leave it with the neighbours"}}"#
    );
    Message { order, partition: partition(order), key, payload }
}

/// SplitMix64: different numbers become different numbers without any pattern.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn one_message_in_ten_repeats_an_earlier_one_that_is_not_its_neighbour() {
        let mut seen = HashSet::new();
        let mut before = u64::MAX;
        for message in messages(20_000) {
            assert_ne!(message.order, before);
            before = message.order;
            seen.insert(message.order);
        }
        assert_eq!(seen.len() as u64, distinct(20_000));
        assert_eq!(seen.len(), 18_000);
        for few in 0..50 {
            let seen: HashSet<_> = orders(few).map(|(_, order)| order.event_id).collect();
            assert_eq!(seen.len() as u64, distinct(few), "{few} messages");
        }
    }

    #[test]
    fn an_event_has_about_200_bytes_and_reads_as_it_was_written() {
        for (message, (partition, order)) in messages(1_000).zip(orders(1_000)) {
            assert!((190..=210).contains(&message.payload.len()), "{}", message.payload);
            let read: Order = serde_json::from_str(&message.payload).unwrap();
            assert_eq!((read.event_id, read.cents), (order.event_id, order.cents));
            assert_eq!(message.partition, partition);
        }
    }

    #[test]
    fn partitions_are_about_even() {
        let mut counts = [0_u32; PARTITIONS as usize];
        orders(40_000).for_each(|(partition, _)| counts[partition as usize] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
