//! How much of one stream is kept: a token bucket, as plain arithmetic on a clock that is handed in.
//!
//! It may go into debt by one piece (at most 64 KiB), because whole lines are kept or dropped, never parts.

use std::time::{Duration, Instant};

/// Bytes of one stream kept per second in the long run. A busy service logs some 100 KiB/s; 8 MiB/s is beyond what
/// anybody reads, and below what wears out or fills the queue of a disk.
pub(super) const RATE: u64 = 8 * 1024 * 1024;
/// Bytes that may come at once after a quiet time: a long stack dump or a start-up banner is kept whole.
pub(super) const BURST: u64 = 16 * 1024 * 1024;

/// What may still be kept.
#[derive(Debug)]
pub(super) struct Budget {
    rate: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    /// A full bucket.
    pub(super) fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let (rate, burst) = (rate as f64, burst as f64);
        Self { rate, burst, left: burst, at: now }
    }

    /// Adds what time has brought.
    pub(super) fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.left = self.burst.min(self.left + passed.as_secs_f64() * self.rate);
    }

    /// Takes `bytes`, into debt if need be.
    pub(super) fn take(&mut self, bytes: usize) {
        self.left -= bytes as f64;
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(&self) -> bool {
        self.left <= 0.0
    }

    /// How long until `bytes` (at most the burst) are there.
    pub(super) fn wait_for(&self, bytes: usize) -> Duration {
        let missing = (bytes as f64).min(self.burst) - self.left;
        Duration::from_secs_f64((missing / self.rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_kept_and_then_the_rate() {
        let start = Instant::now();
        let mut budget = Budget::new(100, 1000, start);
        budget.take(1000);
        assert!(budget.is_spent());
        assert_eq!(budget.wait_for(50), Duration::from_millis(500));
        budget.refill(start + Duration::from_secs(1));
        assert!(!budget.is_spent());
        budget.take(100);
        assert!(budget.is_spent());
    }

    #[test]
    fn a_clock_that_stands_or_a_long_quiet_never_overfills() {
        let start = Instant::now();
        let mut budget = Budget::new(100, 1000, start);
        budget.refill(start + Duration::from_secs(3600));
        budget.refill(start);
        budget.take(1000);
        assert!(budget.is_spent());
    }
}
