//! A clock for what becomes old: one that is set makes nothing old.

use std::time::Instant;

use jiff::Timestamp;

/// The wall clock as it was at the start, and how long ago that is: a clock that is set meanwhile makes nothing old.
pub(super) struct Steady {
    wall: Timestamp,
    since: Instant,
}

impl Steady {
    pub(super) fn begin() -> Self {
        Self { wall: Timestamp::now(), since: Instant::now() }
    }

    /// Now, or what the clock says if that is earlier.
    pub(super) fn now(&self) -> Timestamp {
        self.not_after(Timestamp::now())
    }

    fn not_after(&self, clock: Timestamp) -> Timestamp {
        self.wall.checked_add(self.since.elapsed()).unwrap_or(Timestamp::MAX).min(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c15_a_clock_that_jumps_makes_nothing_old() {
        let clock = Steady::begin();
        let hour = jiff::SignedDuration::from_hours(1);
        let (later, earlier) = (clock.wall + hour * 24 * 3650, clock.wall - hour);
        assert!(clock.not_after(later) < clock.wall + hour, "ten years ahead");
        assert_eq!(clock.not_after(earlier), earlier, "an hour back");
    }
}
