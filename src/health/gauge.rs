//! A figure with marks: above one for long enough, and not for a moment.

use std::time::Duration;

use super::grade::Grade;

type Time = Duration;

/// The marks of a figure. At a mark is above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Degraded from here on.
    pub warn: Option<f64>,
    /// Unhealthy from here on.
    pub crit: Option<f64>,
    /// Only if it lasts this long.
    pub lasting: Duration,
}

/// One figure of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauge {
    mark: Mark,
    value: Option<f64>,
    /// Since when it is above, in own time.
    warned: Option<Time>,
    critical: Option<Time>,
}

impl Gauge {
    /// One that nobody has read yet.
    #[must_use]
    pub fn new(mark: Mark) -> Self {
        Self { mark, value: None, warned: None, critical: None }
    }

    /// A new reading.
    pub fn read(&mut self, own: Time, value: f64) {
        let above = |mark: Option<f64>, since: Option<Time>| {
            mark.filter(|mark| value >= *mark).map(|_| since.unwrap_or(own))
        };
        self.warned = above(self.mark.warn, self.warned);
        self.critical = above(self.mark.crit, self.critical);
        self.value = Some(value);
    }

    /// The last reading.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.value
    }

    /// How it is; `None`: nobody has read it.
    #[must_use]
    pub fn grade(&self, own: Time) -> Option<Grade> {
        self.value?;
        let lasts =
            |since: Option<Time>| since.is_some_and(|since| own.saturating_sub(since) >= self.mark.lasting);
        Some(if lasts(self.critical) {
            Grade::Fail
        } else if lasts(self.warned) || lasts(self.critical) {
            Grade::Warn
        } else {
            Grade::Pass
        })
    }

    /// How long it has been above the mark that it stands for.
    #[must_use]
    pub fn lasted(&self, own: Time) -> Duration {
        let since = match self.grade(own) {
            Some(Grade::Fail) => self.critical,
            Some(Grade::Pass | Grade::Warn | Grade::Error) | None => self.warned,
        };
        since.map_or(Duration::ZERO, |since| own.saturating_sub(since))
    }

    /// The mark that it is above.
    #[must_use]
    pub fn mark(&self, own: Time) -> Option<f64> {
        match self.grade(own) {
            Some(Grade::Fail) => self.mark.crit,
            Some(Grade::Warn) => self.mark.warn,
            Some(Grade::Pass | Grade::Error) | None => None,
        }
    }
}
