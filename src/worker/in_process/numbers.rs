//! Which numbers of starts are written down, and when: each before it is used, and none by a call to the system where
//! an actor crashes thousands of times a second.
//!
//! Whoever has often been started within a tenth of a second is given numbers in advance, twice as many each time. A
//! later runtime goes on behind what was written: after such a storm it passes over some numbers, and gives none out a
//! second time.

use std::time::{Duration, Instant};

use crate::id::Incarnation;

/// Starts closer together than this are a storm.
const RAPID: Duration = Duration::from_millis(100);

/// So many of them in a row are written down one by one: a worker with usual limits is parked before.
const ONE_BY_ONE: u32 = 20;

/// Numbers that are given in advance at most: a write for each thousandth start is no cost any more.
const MOST: u64 = 1023;

/// How far the numbers of one instance are written down.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    written: Incarnation,
    last: Option<Instant>,
    rapid: u32,
}

impl Numbers {
    /// A start is to have this number. What has to be written down before; `None`: it is already.
    pub(super) fn due(&mut self, incarnation: Incarnation, now: Instant) -> Option<Incarnation> {
        let before = self.last.replace(now);
        let soon = before.is_some_and(|before| now.saturating_duration_since(before) < RAPID);
        self.rapid = if soon { self.rapid.saturating_add(1) } else { 0 };
        if incarnation <= self.written {
            return None;
        }
        let doublings = self.rapid.saturating_sub(ONE_BY_ONE).min(16);
        let ahead = ((1u64 << doublings) - 1).min(MOST);
        self.written = Incarnation(incarnation.0.saturating_add(ahead));
        Some(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written for starts that are so far apart, each with its number.
    fn written(count: u64, apart: Duration) -> Vec<(u64, u64)> {
        let (mut numbers, began) = (Numbers::default(), Instant::now());
        let due = |number: u64| {
            let now = began + apart * u32::try_from(number).unwrap();
            numbers.due(Incarnation(number), now).map(|until| (number, until.0))
        };
        (1..=count).filter_map(due).collect()
    }

    #[test]
    fn every_number_is_written_before_it_is_used_and_a_storm_costs_next_to_nothing() {
        let slow = written(1000, Duration::from_secs(1));
        assert_eq!(slow, (1..=1000).map(|number| (number, number)).collect::<Vec<_>>());
        let storm = written(100_000, Duration::from_micros(10));
        assert!(storm.len() < 150, "{} writes", storm.len());
        assert_eq!(storm[20], (21, 21), "the first ones one by one");
        let mut until = 0;
        for (at, written) in storm {
            assert_eq!(at, until + 1, "no number is used that is not written, and none is written twice");
            assert!(written >= at && written - at <= MOST);
            until = written;
        }
        assert!(until >= 100_000);
    }

    #[test]
    fn after_a_storm_they_are_exact_again() {
        let (mut numbers, began) = (Numbers::default(), Instant::now());
        let at = |micros: u64| began + Duration::from_micros(micros);
        let until =
            (1..=10_000).filter_map(|number| numbers.due(Incarnation(number), at(number))).last().unwrap();
        let next = Incarnation(until.0 + 1);
        assert_eq!(numbers.due(next, at(2_000_000)), Some(next));
        assert_eq!(numbers.due(next, at(4_000_000)), None, "once");
    }

    #[test]
    fn one_that_comes_too_late_is_not_written() {
        let (mut numbers, now) = (Numbers::default(), Instant::now());
        assert_eq!(numbers.due(Incarnation(4), now), Some(Incarnation(4)));
        assert_eq!(numbers.due(Incarnation(3), now), None);
    }
}
