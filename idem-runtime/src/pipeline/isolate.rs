//! What is tried next when an attempt failed: three transactions, not one per event.
//!
//! When the handler failed at event k, the good prefix is tried again as one, k alone, and the rest
//! as one. A failure that names no event is found by halving. Order is kept throughout: nothing
//! after an event is tried before the event is done.

use std::collections::VecDeque;
use std::ops::Range;

/// The events of a batch that are not done yet, as the ranges in which they are tried.
#[derive(Debug)]
pub(crate) struct Isolation(VecDeque<Range<usize>>);

impl Isolation {
    /// All events of a batch at once.
    pub(crate) fn whole(events: usize) -> Self {
        Self(std::iter::once(0..events).filter(|range| !range.is_empty()).collect())
    }

    /// What to try now.
    pub(crate) fn next(&self) -> Option<Range<usize>> {
        self.0.front().cloned()
    }

    /// What was tried is committed.
    pub(crate) fn done(&mut self) {
        self.0.pop_front();
    }

    /// One event of what was tried is not to be tried as before: what comes before it is tried as
    /// one, and it together with the rest.
    pub(crate) fn split(&mut self, at: usize) {
        if let Some(range) = self.0.front().cloned()
            && range.start < at
            && at < range.end
        {
            self.0[0] = at..range.end;
            self.0.push_front(range.start..at);
        }
    }

    /// Nothing from this event on is tried.
    pub(crate) fn end(&mut self, at: usize) {
        self.0.retain_mut(|range| {
            range.end = range.end.min(at);
            range.start < range.end
        });
    }

    /// What was tried failed at this event, or at one that nobody named. Answers the event when it
    /// was tried alone, which makes it the culprit; otherwise smaller ranges come next.
    pub(crate) fn failed(&mut self, at: Option<usize>) -> Option<usize> {
        let range = self.0.front()?.clone();
        if range.len() == 1 {
            return Some(range.start);
        }
        self.0.pop_front();
        let parts = match at {
            Some(at) if range.contains(&at) => {
                vec![range.start..at, at..at + 1, at + 1..range.end]
            }
            _ => {
                let middle = range.start + range.len() / 2;
                vec![range.start..middle, middle..range.end]
            }
        };
        for part in parts.into_iter().rev().filter(|part| !part.is_empty()) {
            self.0.push_front(part);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries a batch of `events` in which `bad` fail (each once it is alone, it counts as done).
    fn tries(events: usize, bad: &[usize], named: bool) -> Vec<Range<usize>> {
        let mut isolation = Isolation::whole(events);
        let mut tries = Vec::new();
        while let Some(range) = isolation.next() {
            tries.push(range.clone());
            match bad.iter().find(|it| range.contains(it)) {
                Some(&at) if isolation.failed(named.then_some(at)) == Some(at) => isolation.done(),
                Some(_) => {}
                None => isolation.done(),
            }
        }
        tries
    }

    #[test]
    fn one_failure_costs_three_more_transactions() {
        assert_eq!(tries(10, &[4], true), [0..10, 0..4, 4..5, 5..10]);
        assert_eq!(tries(10, &[0], true), [0..10, 0..1, 1..10]);
        assert_eq!(tries(10, &[9], true), [0..10, 0..9, 9..10]);
        assert_eq!(tries(1, &[0], true).len(), 1);
        assert!(tries(0, &[], true).is_empty());
    }

    #[test]
    fn an_event_that_is_given_up_on_at_once_costs_two_more_transactions() {
        let mut isolation = Isolation::whole(10);
        isolation.split(4);
        assert_eq!(isolation.next(), Some(0..4));
        isolation.done();
        assert_eq!(isolation.next(), Some(4..10));
        isolation.split(4);
        assert_eq!(isolation.next(), Some(4..10));
    }

    #[test]
    fn nothing_is_tried_from_where_the_lane_stops() {
        let mut isolation = Isolation::whole(10);
        isolation.end(4);
        assert_eq!(isolation.next(), Some(0..4));
        isolation.end(0);
        assert_eq!(isolation.next(), None);
    }

    #[test]
    fn a_failure_that_names_nobody_is_found_by_halving() {
        let tries = tries(8, &[5], false);
        assert_eq!(tries, [0..8, 0..4, 4..8, 4..6, 4..5, 5..6, 6..8]);
    }

    #[test]
    fn everything_is_done_once_and_in_order_whatever_fails() {
        for named in [true, false] {
            for bad in [vec![], vec![0], vec![3, 4], vec![0, 2, 7], (0..8).collect()] {
                let mut done = Vec::new();
                let mut isolation = Isolation::whole(8);
                while let Some(range) = isolation.next() {
                    match bad.iter().find(|it| range.contains(it)) {
                        Some(&at) if isolation.failed(named.then_some(at)).is_none() => {}
                        _ => {
                            done.extend(range);
                            isolation.done();
                        }
                    }
                }
                assert_eq!(done, (0..8).collect::<Vec<_>>(), "bad {bad:?}, named {named}");
            }
        }
    }
}
