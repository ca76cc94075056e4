//! How many restarts a window may hold (R12).
//!
//! Only events inside the window are kept, and one more than the allowed number at most, so the memory of a
//! crash loop is bounded by the setting, not by its length. Under `escalate` one window counts all children
//! of the supervisor (R13); under `quarantine` each child has its own.

use std::collections::VecDeque;

use super::spec::{Intensity, Time};

/// Room made by the first event: a usual budget never allocates again while a child is being restarted, and a child
/// that never fails has none.
const ROOM: usize = 32;

/// The events of one sliding window, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Window {
    events: VecDeque<Time>,
    room: usize,
}

impl Window {
    pub(super) fn new(limit: Intensity) -> Self {
        let room = usize::try_from(limit.max_restarts).unwrap_or(ROOM).saturating_add(1).min(ROOM);
        Self { events: VecDeque::new(), room }
    }

    /// Counts an event now; false: the budget is spent. An event exactly as old as the window still counts.
    pub(super) fn allows(&mut self, limit: Intensity, now: Time) -> bool {
        let kept = self.inside(limit, now);
        self.events.drain(..self.events.len() - kept);
        if kept as u64 > u64::from(limit.max_restarts) {
            self.events.pop_front();
        }
        if self.events.capacity() == 0 {
            self.events.reserve_exact(self.room);
        }
        self.events.push_back(now);
        self.events.len() as u64 <= u64::from(limit.max_restarts)
    }

    /// Restarts the budget still holds.
    pub(super) fn left(&self, limit: Intensity, now: Time) -> u32 {
        let used = u32::try_from(self.inside(limit, now)).unwrap_or(u32::MAX);
        limit.max_restarts.saturating_sub(used)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.events.clear();
    }

    /// Those that are not too old. They stand in the order in which they came, so a search by halves finds the first.
    fn inside(&self, limit: Intensity, now: Time) -> usize {
        let oldest = now.saturating_sub(limit.within);
        // A budget that has never been used, and one whose events are all young: the two usual answers.
        if self.events.front().is_none_or(|at| *at >= oldest) {
            return self.events.len();
        }
        self.events.len() - self.events.partition_point(|at| *at < oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: Intensity = Intensity { max_restarts: 2, within: Duration::from_secs(5) };

    fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_event_exactly_as_old_as_the_window_still_counts() {
        let mut window = Window::new(LIMIT);
        assert!(window.allows(LIMIT, at(0)) && window.allows(LIMIT, at(1)));
        assert!(!window.allows(LIMIT, at(5)));
    }

    #[test]
    fn older_events_make_room() {
        let mut window = Window::new(LIMIT);
        assert!(window.allows(LIMIT, at(0)) && window.allows(LIMIT, at(1)));
        assert!(window.allows(LIMIT, at(6)));
        assert_eq!(window.left(LIMIT, at(6)), 0);
        assert_eq!(window.left(LIMIT, at(7)), 1);
    }

    #[test]
    fn a_million_events_take_the_room_of_the_budget() {
        let mut window = Window::new(LIMIT);
        for _ in 0..1_000_000 {
            let _ = window.allows(LIMIT, at(0));
        }
        assert!(window.events.len() <= 3 && window.events.capacity() <= ROOM);
    }

    #[test]
    fn a_budget_of_zero_is_spent_by_the_first_event() {
        let none = Intensity { max_restarts: 0, ..LIMIT };
        assert!(!Window::new(none).allows(none, at(0)));
    }
}
