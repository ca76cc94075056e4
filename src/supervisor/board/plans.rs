//! What comes next for an instance, and what stands in its way.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use crate::id::Incarnation;
use crate::policy::{Phase, Plan};

use super::InstanceState;

/// How far the wall clock may move on its own before it counts as set.
const WAS_SET: SignedDuration = SignedDuration::from_secs(1);

/// A moment of before or of what is planned. The wall clock may be set meanwhile: what happens then happens neither
/// earlier nor later for it, and what people see is what the clock says now.
///
/// ```
/// use regrow::supervisor::Moment;
///
/// let planned = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
/// assert!(Moment::ahead(planned).wall() > jiff::Timestamp::now());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// By the clock of then.
    wall: Timestamp,
    /// How far ahead it was then; negative: how long ago.
    ahead: SignedDuration,
    /// Then, by a clock that nobody sets.
    noted: Duration,
    clock: ClockId,
}

impl Moment {
    /// What comes when the wall clock of now says this. A machine that sleeps meanwhile does not come nearer to it, as
    /// with every timer here.
    #[must_use]
    pub fn ahead(wall: Timestamp) -> Self {
        Self::by(ClockId::Monotonic, wall)
    }

    /// What was when the wall clock of now said this. The sleep of the machine counts.
    #[must_use]
    pub fn past(wall: Timestamp) -> Self {
        Self::by(ClockId::Boottime, wall)
    }

    /// When it is, by the wall clock of now.
    #[must_use]
    pub fn wall(self) -> Timestamp {
        self.seen(Timestamp::now(), read(self.clock))
    }

    fn by(clock: ClockId, wall: Timestamp) -> Self {
        Self { wall, ahead: wall.duration_since(Timestamp::now()), noted: read(clock), clock }
    }

    fn seen(self, clock: Timestamp, steady: Duration) -> Timestamp {
        let passed =
            SignedDuration::try_from(steady.saturating_sub(self.noted)).unwrap_or(SignedDuration::MAX);
        let then = clock.saturating_add(self.ahead.saturating_sub(passed)).unwrap_or(self.wall);
        // Who asks twice is told the same, as long as nobody has set the clock.
        if then.duration_since(self.wall).abs() < WAS_SET { self.wall } else { then }
    }
}

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// What is planned.
#[derive(Debug, Clone, PartialEq)]
pub struct NextAction {
    /// The plan.
    pub what: Plan,
    /// When; `None`: once what it waits for has come.
    pub at: Option<Moment>,
}

/// What an earlier runtime left: it stands in the place of an instance until it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandIn {
    /// Its main process, if that still lives.
    pub pid: Option<u32>,
    /// Which start of the earlier runtime it is, where that was written down.
    pub incarnation: Option<Incarnation>,
    /// The phase that comes back once it is gone.
    pub then: Phase,
}

impl InstanceState {
    /// The start that `pid` is of: the newest, or that of an earlier runtime as long as what it left stands in its place.
    #[must_use]
    pub fn shown_incarnation(&self) -> Incarnation {
        self.survivor.and_then(|survivor| survivor.incarnation).unwrap_or(self.incarnation)
    }

    /// What comes next, with a survivor that is being stopped before it; of one that cannot be killed nobody knows.
    #[must_use]
    pub fn planned(&self) -> Option<NextAction> {
        let next = self.next_action.clone()?;
        let for_survivor = next.what == Plan::WaitDependency && self.waits_for.is_empty();
        match (self.survivor, self.phase) {
            (None, _) => Some(next),
            (Some(_), Phase::Stuck) => None,
            (Some(_), _) if for_survivor => Some(NextAction { what: Plan::Start, at: None }),
            (Some(_), _) => Some(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(moment: Moment, set: SignedDuration, passed: u64) -> SignedDuration {
        let then = moment.wall - moment.ahead;
        let passed = Duration::from_secs(passed);
        let clock = then + set + SignedDuration::try_from(passed).unwrap();
        moment.seen(clock, moment.noted + passed).duration_since(clock)
    }

    #[test]
    fn c15_a_clock_that_is_set_brings_nothing_nearer_and_makes_nothing_older() {
        let (minute, hour) = (SignedDuration::from_secs(60), SignedDuration::from_hours(1));
        for set in [SignedDuration::ZERO, hour, -hour, hour * 87_600] {
            let now = Timestamp::now();
            let mut planned = Moment::ahead(now + minute);
            planned.ahead = minute;
            assert_eq!(seen(planned, set, 0), minute, "{set}");
            assert_eq!(seen(planned, set, 45), SignedDuration::from_secs(15), "{set}");
            assert_eq!(seen(planned, set, 70), SignedDuration::from_secs(-10), "{set}");
            let mut begun = Moment::past(now - minute);
            begun.ahead = -minute;
            assert_eq!(seen(begun, set, 120), SignedDuration::from_secs(-180), "{set}");
        }
    }

    #[test]
    fn who_asks_twice_is_told_the_same() {
        let mut moment = Moment::ahead(Timestamp::now());
        moment.ahead = SignedDuration::ZERO;
        let drift = SignedDuration::from_millis(900);
        assert_eq!(
            [drift, -drift].map(|drift| moment.seen(moment.wall + drift, moment.noted)),
            [moment.wall; 2]
        );
    }

    #[test]
    fn a_moment_beyond_all_clocks_stays_there() {
        let moment = Moment::ahead(Timestamp::MAX);
        assert_eq!(moment.seen(moment.wall, moment.noted), Timestamp::MAX);
    }
}
