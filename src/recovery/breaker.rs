//! A worker whose steps keep failing is left alone for a while.
//!
//! Failed ladder steps are counted in a sliding window. A full window opens the breaker: no step is taken, plain
//! restarts after an exit go on. After a rest one trial is allowed; what becomes of it closes the breaker or opens
//! it again.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[ladder.NAME] breaker`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLimits {
    /// This many failed steps open it.
    pub open_after: u32,
    /// Within this time.
    pub within: Duration,
    /// How long it stays open.
    pub half_open_after: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { open_after: 8, within: Duration::from_secs(600), half_open_after: Duration::from_secs(300) }
    }
}

/// The contract's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Steps are taken.
    #[default]
    Closed,
    /// None are.
    Open,
    /// One is, to see.
    HalfOpen,
}

impl BreakerState {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The breaker of one worker's ladder.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    failures: VecDeque<Duration>,
    opened: Option<Duration>,
    trial: bool,
}

impl Breaker {
    /// Its state now.
    #[must_use]
    pub fn state(&self, limits: &BreakerLimits, now: Duration) -> BreakerState {
        match self.opened {
            None => BreakerState::Closed,
            Some(at) if self.trial || now >= at.saturating_add(limits.half_open_after) => {
                BreakerState::HalfOpen
            }
            Some(_) => BreakerState::Open,
        }
    }

    /// Whether a step may be taken now. A half-open one says so once, until it hears of that step's end.
    pub fn allows(&mut self, limits: &BreakerLimits, now: Duration) -> bool {
        match self.state(limits, now) {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => !std::mem::replace(&mut self.trial, true),
        }
    }

    /// When a trial will be allowed; `None`: it is not open.
    #[must_use]
    pub fn half_open_at(&self, limits: &BreakerLimits) -> Option<Duration> {
        self.opened.map(|at| at.saturating_add(limits.half_open_after))
    }

    /// A step failed.
    pub fn failed(&mut self, limits: &BreakerLimits, now: Duration) {
        if std::mem::take(&mut self.trial) {
            self.opened = Some(now);
            return;
        }
        let oldest = now.saturating_sub(limits.within);
        self.failures.retain(|at| *at >= oldest);
        self.failures.push_back(now);
        if self.failures.len() as u64 >= u64::from(limits.open_after.max(1)) {
            self.failures.clear();
            self.opened = Some(now);
        }
    }

    /// A step held.
    pub fn held(&mut self) {
        *self = Self::default();
    }

    /// A trial came to no end of its own: another one may be made.
    pub fn interrupted(&mut self) {
        self.trial = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn eight_failures_within_ten_minutes_open_it_and_five_minutes_later_one_trial_is_made() {
        let (limits, mut breaker) = (BreakerLimits::default(), Breaker::default());
        for n in 0..8 {
            assert!(breaker.allows(&limits, at(n)));
            breaker.failed(&limits, at(n));
        }
        assert_eq!(breaker.state(&limits, at(7)), BreakerState::Open);
        assert!(!breaker.allows(&limits, at(306)));
        assert!(breaker.allows(&limits, at(307)) && !breaker.allows(&limits, at(308)));
        breaker.failed(&limits, at(310));
        assert_eq!(breaker.state(&limits, at(311)), BreakerState::Open);
        assert!(breaker.allows(&limits, at(610)));
        breaker.held();
        assert_eq!(breaker.state(&limits, at(611)), BreakerState::Closed);
    }

    #[test]
    fn failures_that_are_far_apart_never_open_it() {
        let (limits, mut breaker) = (BreakerLimits::default(), Breaker::default());
        for n in 0..100 {
            breaker.failed(&limits, at(n * 90));
            assert_eq!(breaker.state(&limits, at(n * 90)), BreakerState::Closed);
        }
    }

    proptest! {
        /// H3: open allows nothing, half-open exactly one until its end is known.
        #[test]
        fn open_allows_nothing_and_half_open_one(steps in prop::collection::vec((0u64..400, 0u8..3), 1..200)) {
            let limits = BreakerLimits { open_after: 3, within: at(300), half_open_after: at(60) };
            let (mut breaker, mut now, mut under_way) = (Breaker::default(), 0, 0u32);
            for (wait, what) in steps {
                now += wait;
                let state = breaker.state(&limits, at(now));
                let allowed = breaker.allows(&limits, at(now));
                match state {
                    BreakerState::Closed => { prop_assert!(allowed); under_way = 1; }
                    BreakerState::Open => prop_assert!(!allowed),
                    BreakerState::HalfOpen => { under_way += u32::from(allowed); prop_assert!(under_way <= 1); }
                }
                if under_way > 0 && what > 0 {
                    under_way = 0;
                    if what == 1 { breaker.failed(&limits, at(now)) } else { breaker.held() }
                } else if state == BreakerState::Closed {
                    under_way = 0;
                }
            }
        }
    }
}
