use std::thread;

use rdkafka::Offset;

use super::*;
use crate::kafka::mock::{PATIENCE, Seats, assign, cluster, producer, send};

/// A seat that takes what comes from the first offset on.
fn armed(partition: i32) -> Arc<Seat> {
    let seat = Seat::new(LaneId { group: "g".into(), topic: "t".into(), partition }, 1 << 20);
    seat.queue.arm(Position::at(0));
    Arc::new(seat)
}

fn reader(servers: String, seats: &[Arc<Seat>]) -> Reader {
    let kafka = Kafka::new(servers);
    Reader::new(&kafka, Seats::new(seats), "".into(), Duration::from_secs(3600)).unwrap()
}

/// Stops the reader when the test ends, also when it fails.
struct StopsAtLast<'a>(&'a AtomicBool);

impl Drop for StopsAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Waits until the seat has these offsets.
fn expect(seat: &Seat, offsets: std::ops::Range<i64>) {
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while found.len() < offsets.clone().count() {
        assert!(Instant::now() < deadline, "{}: only {found:?} of {offsets:?}", seat.id);
        found.extend(seat.queue.take(1000).iter().map(|event| event.offset));
        thread::yield_now();
    }
    assert_eq!(found, offsets.collect::<Vec<_>>(), "{}", seat.id);
}

/// When the fetcher of one partition has to be started again, an assignment that is eager is given up
/// and made anew as a whole; the lane of the other partition does not notice.
#[test]
fn a_partition_that_was_assigned_again_without_its_lane_is_read_on() {
    let cluster = cluster();
    let producer = producer(&cluster);
    let seats = [armed(0), armed(1)];
    let reader = reader(cluster.bootstrap_servers(), &seats);
    let consumer = Arc::clone(&reader.consumer);
    assign(&consumer, &[(0, Offset::Beginning), (1, Offset::Beginning)]);
    for partition in 0..2 {
        send(&producer, partition, (0..50).map(|n| n.to_string()));
        consumer.gather("t", partition);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let running = scope.spawn(|| reader.run(&stop));
        let stopping = StopsAtLast(&stop);
        seats.iter().for_each(|seat| expect(seat, 0..50));
        consumer.unassign().unwrap();
        assign(&consumer, &[(0, Offset::Offset(50)), (1, Offset::Offset(50))]);
        for partition in 0..2 {
            send(&producer, partition, (50..100).map(|n| n.to_string()));
        }
        seats.iter().for_each(|seat| expect(seat, 50..100));
        drop(consumer);
        drop(stopping);
        running.join().unwrap().unwrap();
    });
    assert!(seats.iter().all(|seat| !seat.take_doubt()), "nothing came beside the others");
}

#[test]
fn a_lane_to_which_a_message_comes_beside_the_others_accepts_none_and_starts_again() {
    let cluster = cluster();
    let producer = producer(&cluster);
    for partition in 0..2 {
        send(&producer, partition, (0..50).map(|n| n.to_string()));
    }
    let seats = [armed(0), armed(1)];
    let mut reader = reader(cluster.bootstrap_servers(), &seats);
    // Nobody has led the first one to where messages are taken from.
    assign(&reader.consumer, &[(0, Offset::Beginning), (1, Offset::Beginning)]);
    reader.consumer.gather("t", 1);
    let deadline = Instant::now() + PATIENCE;
    let mut chunk = Vec::new();
    while seats[0].queue.next().is_some() {
        assert!(Instant::now() < deadline, "nobody noticed");
        reader.fill(&mut chunk, CHUNK).unwrap();
        reader.deliver(&mut chunk);
    }
    assert!(seats[0].take_doubt(), "its lane starts again");
    // What comes in the right way from here on is of no use without what came before.
    reader.consumer.gather("t", 0);
    send(&producer, 0, ["50".to_owned()]);
    send(&producer, 1, ["50".to_owned()]);
    let mut others = Vec::new();
    while others.len() < 51 {
        assert!(Instant::now() < deadline, "{others:?}");
        reader.fill(&mut chunk, CHUNK).unwrap();
        reader.deliver(&mut chunk);
        others.extend(seats[1].queue.take(1000).iter().map(|event| event.offset));
    }
    assert_eq!(others, (0..51).collect::<Vec<_>>());
    assert!(seats[0].queue.take(1000).is_empty());
    assert!(!seats[1].take_doubt());
}
