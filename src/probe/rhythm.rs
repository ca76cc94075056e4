//! When a probe looks again.

use std::time::Duration;

use crate::health::Grade;

/// When to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Before the first look.
    pub(crate) initial_delay: Duration,
    /// Between looks.
    pub(crate) period: Duration,
    /// The same after a failure, and until one has passed.
    pub(crate) retry_period: Duration,
    /// The deadline of a look.
    pub(crate) timeout: Duration,
}

/// The rhythm of one probe of one instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    times: Times,
    spread: f64,
    passed: bool,
}

impl Rhythm {
    /// Before the first look. `spread`, 0..1, spreads the looks of many probes over the period.
    pub(crate) fn new(times: Times, spread: f64) -> Self {
        Self { times, spread: spread.clamp(0.0, 1.0), passed: false }
    }

    /// When to look.
    pub(crate) fn times(&self) -> &Times {
        &self.times
    }

    /// Until the next look. The first pause of the regular rhythm is cut short by the spread.
    pub(crate) fn pause(&mut self, grade: Grade) -> Duration {
        let Times { period, retry_period, .. } = self.times;
        match grade {
            Grade::Pass | Grade::Warn if !std::mem::replace(&mut self.passed, true) => {
                period.mul_f64(1.0 - 0.5 * self.spread)
            }
            Grade::Pass | Grade::Warn => period,
            Grade::Fail | Grade::Error => retry_period.min(period),
        }
    }
}
