//! Own time: the runtime's clock without the time in which it could not look.
//!
//! A deadline says how long the *worker* was silent. If the runtime was stopped for five seconds, or its thread got no
//! turn, nobody listened, and nobody may be blamed for it. So everything that has a deadline is measured in own time,
//! which does not move while the runtime does not.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::format_duration;

type Time = Duration;

/// A silence this long is a halt: what overlaps it is void.
const HALT: Duration = Duration::from_secs(1);
/// A turn that comes later than this was late; less is the noise of every timer.
const NOISE: Duration = Duration::from_millis(20);
/// After a halt everything catches up at once; what fails in that moment proves nothing.
const GRACE: Duration = Duration::from_secs(1);
/// No observation lasts longer than a few of these; older halts cannot overlap one.
const REMEMBERED: usize = 16;

/// A time in which the runtime did not look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halt {
    /// The last sign before it, monotonic.
    pub from: Time,
    /// The first after it, monotonic.
    pub to: Time,
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = Duration::from_millis(
            u64::try_from(self.to.saturating_sub(self.from).as_millis()).unwrap_or(u64::MAX),
        );
        write!(f, "nothing was looked at for {}", format_duration(length))
    }
}

/// The clock.
///
/// ```
/// use std::time::Duration;
/// let second = Duration::from_secs(1);
/// let mut clock = regrow::health::OwnClock::new(Duration::ZERO, second / 4);
/// for quarter in 1..=8 {
///     assert!(clock.advance(quarter * second / 4).is_none());
/// }
/// // Stopped for five seconds: own time stands still.
/// assert!(clock.advance(7 * second).is_some());
/// assert_eq!(clock.own(7 * second), 2 * second);
/// ```
#[derive(Debug, Clone)]
pub struct OwnClock {
    period: Duration,
    last: Time,
    lost: Duration,
    halts: VecDeque<Halt>,
}

impl OwnClock {
    /// A clock that is told the time at least once in each `period`.
    #[must_use]
    pub fn new(now: Time, period: Duration) -> Self {
        Self { period, last: now, lost: Duration::ZERO, halts: VecDeque::new() }
    }

    /// From now on it is told the time this often.
    pub fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// The runtime has its turn. The halt before it, if there was one.
    pub fn advance(&mut self, now: Time) -> Option<Halt> {
        let silence = now.saturating_sub(self.last);
        let from = self.last;
        self.last = from.max(now);
        if silence >= HALT.max(2 * self.period) {
            self.lost += silence;
            let halt = Halt { from, to: now };
            if self.halts.len() == REMEMBERED {
                self.halts.pop_front();
            }
            self.halts.push_back(halt);
            return Some(halt);
        }
        let late = silence.saturating_sub(self.period);
        if late > NOISE {
            self.lost += late;
        }
        None
    }

    /// Own time at this moment, as far as the clock was advanced.
    #[must_use]
    pub fn own(&self, now: Time) -> Time {
        now.saturating_sub(self.lost)
    }

    /// All that was lost.
    #[must_use]
    pub fn lost(&self) -> Duration {
        self.lost
    }

    /// Whether a look of this span proves nothing.
    #[must_use]
    pub fn voids(&self, began: Time, ended: Time) -> bool {
        self.halts.iter().any(|halt| began < halt.to + GRACE && ended > halt.from)
    }
}
