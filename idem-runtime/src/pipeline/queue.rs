//! A lane's queue: events that were read and not yet worked, in offset order, in bounded memory.
//!
//! The reader pushes chunks, the lane takes batches. The queue accepts nothing until it is armed
//! with the position at which the lane starts, and then only offsets that go forward: whatever a
//! former assignment left behind is dropped here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::event::Event;
use crate::lane::Position;

#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
    /// At this many bytes the reader stops reading.
    high: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    bytes: usize,
    /// What to accept next; `None` until the queue is armed.
    next: Option<Position>,
}

/// Whether the reader should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// There is room.
    Low,
    /// Neither: leave it as it is.
    Between,
    /// Full: pause.
    High,
}

impl Queue {
    pub(crate) fn new(high: usize) -> Self {
        Self { inner: Mutex::default(), ready: Notify::new(), high: AtomicUsize::new(high.max(1)) }
    }

    /// How many bytes are enough.
    pub(crate) fn high(&self) -> usize {
        self.high.load(Relaxed)
    }

    /// Changes how many bytes are enough.
    pub(crate) fn set_high(&self, bytes: usize) {
        self.high.store(bytes.max(1), Relaxed);
    }

    /// Empties the queue and accepts events from this position on.
    pub(crate) fn arm(&self, next: Position) {
        *self.lock() = Inner { next: Some(next), ..Inner::default() };
    }

    /// Empties the queue and accepts nothing.
    pub(crate) fn disarm(&self) {
        *self.lock() = Inner::default();
    }

    /// Appends a chunk in offset order.
    pub(crate) fn push(&self, chunk: impl IntoIterator<Item = Event>) -> Pressure {
        let mut inner = self.lock();
        let mut pushed = false;
        for event in chunk {
            let Some(next) = inner.next else { continue };
            if event.offset >= next.offset {
                inner.next = Some(Position {
                    offset: event.offset + 1,
                    leader_epoch: event.leader_epoch.or(next.leader_epoch),
                });
                inner.bytes += event.weight();
                inner.events.push_back(event);
                pushed = true;
            }
        }
        let pressure = self.pressure_of(&inner);
        drop(inner);
        if pushed {
            self.ready.notify_one();
        }
        pressure
    }

    /// Takes at most `max` events.
    pub(crate) fn take(&self, max: usize) -> Vec<Event> {
        let mut inner = self.lock();
        let count = inner.events.len().min(max);
        let events: Vec<_> = inner.events.drain(..count).collect();
        inner.bytes -= events.iter().map(Event::weight).sum::<usize>();
        events
    }

    /// Waits until there is an event.
    pub(crate) async fn ready(&self) {
        while self.lock().events.is_empty() {
            // A permit of `notify_one` is kept, so that a push between the two is not missed.
            self.ready.notified().await;
        }
    }

    /// Where the queue goes on; `None` while it is not armed.
    pub(crate) fn next(&self) -> Option<Position> {
        self.lock().next
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.pressure_of(&self.lock())
    }

    fn pressure_of(&self, inner: &Inner) -> Pressure {
        let high = self.high.load(Relaxed);
        if inner.bytes >= high {
            Pressure::High
        } else if inner.bytes <= high / 2 {
            Pressure::Low
        } else {
            Pressure::Between
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(offsets: impl IntoIterator<Item = i64>) -> Vec<Event> {
        offsets.into_iter().map(|offset| Event::new("t".into(), 0, offset, "x")).collect()
    }

    fn offsets(queue: &Queue) -> Vec<i64> {
        queue.take(usize::MAX).iter().map(|event| event.offset).collect()
    }

    #[test]
    fn nothing_is_accepted_before_the_queue_is_armed() {
        let queue = Queue::new(1 << 20);
        queue.push(events([1, 2]));
        assert!(offsets(&queue).is_empty());
        queue.arm(Position::at(5));
        queue.push(events([3, 4, 5, 7]));
        assert_eq!(offsets(&queue), [5, 7]);
        queue.disarm();
        queue.push(events([8]));
        assert!(offsets(&queue).is_empty());
    }

    #[test]
    fn what_is_delivered_twice_is_dropped_and_holes_are_not() {
        let queue = Queue::new(1 << 20);
        queue.arm(Position::at(0));
        queue.push(events([0, 1]));
        queue.push(events([1, 2, 9]));
        assert_eq!(offsets(&queue), [0, 1, 2, 9]);
        assert_eq!(queue.next(), Some(Position::at(10)));
    }

    #[test]
    fn pressure_rises_with_bytes_and_falls_when_half_is_taken() {
        let weight = events([0])[0].weight();
        let queue = Queue::new(weight * 4);
        queue.arm(Position::at(0));
        assert_eq!(queue.push(events([0, 1])), Pressure::Low);
        assert_eq!(queue.push(events([2])), Pressure::Between);
        assert_eq!(queue.push(events([3])), Pressure::High);
        queue.take(2);
        assert_eq!(queue.pressure(), Pressure::Low);
    }

    #[tokio::test]
    async fn a_push_wakes_the_lane() {
        let queue = std::sync::Arc::new(Queue::new(1 << 20));
        queue.arm(Position::at(0));
        let waiting = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.ready().await }
        });
        tokio::task::yield_now().await;
        queue.push(events([0]));
        waiting.await.unwrap();
    }
}
