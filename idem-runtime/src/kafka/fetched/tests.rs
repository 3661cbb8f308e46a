//! On librdkafka's own mock of a cluster: what the end-to-end tests see on a genuine one is not repeated.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _};
use tokio::sync::watch;

use super::*;
use crate::kafka::context::Callbacks;
use crate::kafka::mock::{PATIENCE, Seats, assign, cluster, producer, send};

const WAIT: Duration = Duration::from_millis(20);

fn consumer(cluster: &MockCluster<'_, DefaultProducerContext>) -> Consumer {
    let callbacks = Callbacks {
        keeper: Seats::new(&[]),
        mark: "".into(),
        control: Mutex::new(()),
        no_topic_ids: Mutex::default(),
        rounds: watch::Sender::new(0),
        debug: false,
        commit_failed: AtomicBool::new(false),
    };
    let client = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "g")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.wait.max.ms", "10")
        .create_with_context(callbacks)
        .unwrap();
    Consumer::new(client).unwrap()
}

/// Takes messages until there are so many, in portions; also serves the client's own queue, out of which
/// nothing may come.
fn read(consumer: &Consumer, count: usize, portion: usize) -> Vec<(i32, i64, Option<String>)> {
    let deadline = Instant::now() + PATIENCE;
    let mut read = Vec::new();
    while read.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} came", read.len());
        assert!(consumer.poll(Duration::ZERO).is_none(), "a message came beside the others");
        let fetched = consumer.fetch(portion.min(count - read.len()), WAIT);
        assert!(fetched.len() <= portion);
        for fetch in &fetched {
            assert!(fetch.error().is_none(), "{:?}", fetch.error());
            assert_eq!(fetch.topic(), "t");
            let text = fetch.payload().map(|it| String::from_utf8(it.to_vec()).unwrap());
            read.push((fetch.partition(), fetch.offset(), text));
        }
    }
    read
}

#[test]
fn messages_of_all_partitions_come_in_their_order_and_in_portions() {
    let cluster = cluster();
    let producer = producer(&cluster);
    for partition in 0..2 {
        send(&producer, partition, (0..300).map(|n| format!("{partition}-{n}")));
    }
    let consumer = consumer(&cluster);
    assign(&consumer, &[(0, Offset::Beginning), (1, Offset::Beginning)]);
    consumer.gather("t", 0);
    consumer.gather("t", 1);
    let read = read(&consumer, 600, 7);
    for partition in 0..2 {
        let its: Vec<_> = read.iter().filter(|it| it.0 == partition).collect();
        assert_eq!(its.len(), 300);
        for (n, (_, offset, text)) in (0..).zip(its) {
            assert_eq!((*offset, text.as_deref()), (n, Some(&*format!("{partition}-{n}"))));
        }
    }
    assert!(consumer.fetch(10, Duration::ZERO).is_empty());
    assert!(consumer.fetch(0, PATIENCE).is_empty(), "who wants nothing waits for nothing");
}

#[test]
fn a_message_is_read_whole() {
    let cluster = cluster();
    let producer = producer(&cluster);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("1") })
        .insert(Header { key: "none", value: None::<&str> })
        .insert(Header { key: "a", value: Some("") });
    let whole = BaseRecord::to("t").partition(0).key("k").payload("p").headers(headers);
    producer.send(whole.timestamp(1_234)).map_err(|(error, _)| error).unwrap();
    let tombstone = BaseRecord::<_, ()>::to("t").partition(0).key("k");
    producer.send(tombstone).map_err(|(error, _)| error).unwrap();
    let empty = BaseRecord::<(), _>::to("t").partition(0).payload("");
    producer.send(empty).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();

    let consumer = consumer(&cluster);
    assign(&consumer, &[(0, Offset::Beginning)]);
    consumer.gather("t", 0);
    let deadline = Instant::now() + PATIENCE;
    let mut fetched = Vec::new();
    while fetched.len() < 3 {
        assert!(Instant::now() < deadline);
        fetched.extend(consumer.fetch(3, WAIT));
    }
    let [whole, tombstone, empty] = &fetched[..] else { panic!("{}", fetched.len()) };
    assert_eq!((whole.key(), whole.payload()), (Some(&b"k"[..]), Some(&b"p"[..])));
    assert_eq!(whole.timestamp(), Some((1_234, TimestampKind::Created)));
    let headers = whole.headers();
    let headers: Vec<_> = headers.iter().collect();
    let (one, none) = (Some(&b"1"[..]), None);
    assert_eq!(headers, [("a", one), ("none", none), ("a", Some(&b""[..]))]);
    assert_eq!((tombstone.key(), tombstone.payload()), (Some(&b"k"[..]), None));
    assert!(tombstone.headers().is_empty());
    assert_eq!((empty.key(), empty.payload()), (None, Some(&b""[..])));
    assert!(whole.shares_topic(empty));
}

/// As when the fetcher of another partition had to be started again.
#[test]
fn a_partition_that_was_assigned_again_is_read_on_once_it_is_led_here_again() {
    let cluster = cluster();
    let producer = producer(&cluster);
    send(&producer, 0, (0..50).map(|n| n.to_string()));
    let consumer = consumer(&cluster);
    assign(&consumer, &[(0, Offset::Beginning)]);
    consumer.gather("t", 0);
    assert_eq!(read(&consumer, 50, 100).len(), 50);

    send(&producer, 0, (50..100).map(|n| n.to_string()));
    consumer.unassign().unwrap();
    assign(&consumer, &[(0, Offset::Offset(30))]);
    let deadline = Instant::now() + PATIENCE;
    let mut offsets = Vec::new();
    while offsets.len() < 70 {
        assert!(Instant::now() < deadline, "{offsets:?}");
        // Again and again, as the reader does: the first time the fetcher may not have stopped yet.
        consumer.gather("t", 0);
        assert!(consumer.poll(Duration::ZERO).is_none(), "a message came beside the others");
        let fetched = consumer.fetch(100, WAIT);
        offsets.extend(fetched.iter().filter(|it| it.error().is_none()).map(Fetch::offset));
    }
    assert_eq!(offsets, (30..100).collect::<Vec<_>>());
}

#[test]
fn a_consumer_that_has_messages_left_can_be_dropped() {
    let cluster = cluster();
    let producer = producer(&cluster);
    send(&producer, 0, (0..500).map(|n| n.to_string()));
    let consumer = consumer(&cluster);
    assign(&consumer, &[(0, Offset::Beginning)]);
    consumer.gather("t", 0);
    assert_eq!(read(&consumer, 1, 1).len(), 1);
    let (done, dropped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(consumer);
        done.send(()).unwrap();
    });
    dropped.recv_timeout(PATIENCE).expect("the consumer ends");
}
