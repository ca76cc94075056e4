//! What is known of one strategy against one class of failure, fading.

use serde::{Deserialize, Serialize};

/// What an older observation still weighs beside a new one: about twenty are remembered at a time, so that a
/// strategy that has stopped working is known for it within a few incidents.
const KEEP: f64 = 0.95;

/// What an observation still weighs after an hour in which nothing was seen: half after a month, so that what was
/// given up is tried again some day.
const FADE: f64 = 0.999;

/// Outcomes of one strategy against one class. Weights, not counts: old ones count less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    successes: f64,
    failures: f64,
    /// Seconds of all of them, with the same weights.
    seconds: f64,
    /// When it was last seen, in seconds of the wall clock.
    seen: f64,
    /// How often it was ever tried, and how often it held.
    tried: u64,
    held: u64,
}

impl Outcomes {
    /// One more. `at` is the wall clock in seconds; a clock that went back fades nothing.
    pub fn observe(&mut self, held: bool, seconds: f64, at: f64) {
        let (successes, failures, spent) = self.faded(at);
        self.successes = successes * KEEP + f64::from(u8::from(held));
        self.failures = failures * KEEP + f64::from(u8::from(!held));
        self.seconds = spent * KEEP + seconds.max(0.0);
        self.seen = at.max(self.seen);
        // What was imported may have any count.
        self.tried = self.tried.saturating_add(1);
        self.held = self.held.saturating_add(u64::from(held)).min(self.tried);
    }

    /// Weights of successes and failures at this time.
    #[must_use]
    pub fn weights(&self, at: f64) -> (f64, f64) {
        let (successes, failures, _) = self.faded(at);
        (successes, failures)
    }

    /// The mean of what one try takes, in seconds; `None`: never tried.
    #[must_use]
    pub fn mean_seconds(&self) -> Option<f64> {
        let weight = self.successes + self.failures;
        (weight > 1e-9).then(|| self.seconds / weight)
    }

    /// How often it was ever tried.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.tried
    }

    /// How often it ever held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether every figure of it is one that observations make: what comes from a file may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let figures = [self.successes, self.failures, self.seconds, self.seen];
        figures.iter().all(|figure| figure.is_finite() && *figure >= 0.0)
            && self.held <= self.tried
            && self.successes + self.failures <= 1.0 / (1.0 - KEEP) + 1e-6
    }

    /// What two hosts know, together: neither side's weight grows beyond what one may have.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let sum = Self {
            successes: self.successes + other.successes,
            failures: self.failures + other.failures,
            seconds: self.seconds + other.seconds,
            seen: self.seen.max(other.seen),
            tried: self.tried.saturating_add(other.tried),
            held: self.held.saturating_add(other.held),
        };
        let most = 1.0 / (1.0 - KEEP);
        let shrink = (most / (sum.successes + sum.failures).max(most)).min(1.0);
        Self {
            successes: sum.successes * shrink,
            failures: sum.failures * shrink,
            seconds: sum.seconds * shrink,
            ..sum
        }
    }

    /// Of two counts of the same cases, the one that knows more of them.
    #[must_use]
    pub fn longer(&self, other: &Self) -> Self {
        if other.tried > self.tried { *other } else { *self }
    }

    fn faded(&self, at: f64) -> (f64, f64, f64) {
        let hours = ((at - self.seen) / 3600.0).max(0.0);
        let left = FADE.powf(hours);
        (self.successes * left, self.failures * left, self.seconds * left)
    }
}

/// Bounds between which the true rate lies with 95 %, after so many successes of so many tries (Wilson).
///
/// ```
/// let (low, high) = regrow::recovery::learning::wilson(9, 10);
/// assert!(low > 0.59 && low < 0.61 && high > 0.98 && high < 0.99);
/// ```
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nothing is tried 2^52 times")]
pub fn wilson(successes: u64, tries: u64) -> (f64, f64) {
    const Z: f64 = 1.96;
    if tries == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (tries as f64, successes as f64 / tries as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_strategy_that_stops_working_is_known_for_it_within_a_few_incidents() {
        let mut outcomes = Outcomes::default();
        for n in 0..100 {
            outcomes.observe(true, 5.0, f64::from(n));
        }
        let rate = |outcomes: &Outcomes| {
            let (s, f) = outcomes.weights(200.0);
            s / (s + f)
        };
        assert!(rate(&outcomes) > 0.99);
        for n in 0..15 {
            outcomes.observe(false, 30.0, 100.0 + f64::from(n));
        }
        assert!(rate(&outcomes) < 0.5);
        assert_eq!((outcomes.tried(), outcomes.held()), (115, 100));
    }

    #[test]
    fn months_without_a_case_make_room_for_another_try() {
        let mut outcomes = Outcomes::default();
        for _ in 0..50 {
            outcomes.observe(false, 5.0, 0.0);
        }
        let (_, fresh) = outcomes.weights(0.0);
        let (_, old) = outcomes.weights(180.0 * 86_400.0);
        assert!(fresh > 18.0 && old < 0.5, "{fresh} {old}");
    }

    proptest! {
        #[test]
        fn figures_stay_sound(seen in prop::collection::vec((any::<bool>(), 0.0f64..1e4, 0.0f64..1e9), 0..200)) {
            let (mut one, mut two) = (Outcomes::default(), Outcomes::default());
            for (n, (held, seconds, at)) in seen.into_iter().enumerate() {
                if n % 2 == 0 { one.observe(held, seconds, at) } else { two.observe(held, seconds, at) }
            }
            prop_assert!(one.is_sound() && one.joined(&two).is_sound());
        }
    }
}
