//! The delay before a restart, and the small generator behind its jitter.
//!
//! Jitter keeps a thousand workers that died together from coming back together. The generator is SplitMix64
//! seeded from the supervisor's spec: spread is all that is asked of it, and a replay must draw the same numbers.

use std::time::Duration;

use super::spec::Backoff;

/// The least delay after a shortage of the machine: an immediate retry would only add to it.
const SHORTAGE: Duration = Duration::from_millis(200);

/// Numbers for jitter.
#[derive(Debug, Clone)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The delay before the `n`-th consecutive restart; the first is immediate.
    pub(super) fn delay(&mut self, backoff: &Backoff, n: u32) -> Duration {
        if n < 2 || backoff.first.is_zero() {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(n - 2).unwrap_or(i32::MAX);
        let grown = backoff.first.as_secs_f64() * backoff.factor.powi(exponent);
        let plain = Duration::try_from_secs_f64(grown).unwrap_or(backoff.max).min(backoff.max);
        self.spread(plain, backoff.jitter)
    }

    /// The delay after a shortage: never zero.
    pub(super) fn delay_of_shortage(&mut self, backoff: &Backoff, n: u32) -> Duration {
        self.delay(backoff, n).max(SHORTAGE)
    }

    fn spread(&mut self, plain: Duration, ratio: f64) -> Duration {
        if ratio <= 0.0 {
            return plain;
        }
        let factor = 1.0 + ratio.min(1.0) * (2.0 * self.unit() - 1.0);
        Duration::try_from_secs_f64(plain.as_secs_f64() * factor).unwrap_or(plain)
    }

    /// Evenly spread over 0..1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit the mantissa of an f64 exactly")]
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(first_ms: u64, max_ms: u64) -> Backoff {
        Backoff {
            first: Duration::from_millis(first_ms),
            factor: 2.0,
            max: Duration::from_millis(max_ms),
            jitter: 0.0,
            reset_after: Duration::from_secs(600),
        }
    }

    #[test]
    fn delays_double_from_the_second_restart_up_to_the_limit() {
        let mut jitter = Jitter::new(7);
        let delays: Vec<_> = (1..=6).map(|n| jitter.delay(&plain(200, 1000), n).as_millis()).collect();
        assert_eq!(delays, [0, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn the_ten_thousandth_restart_waits_the_limit() {
        assert_eq!(Jitter::new(7).delay(&plain(200, 60_000), 10_000), Duration::from_secs(60));
    }

    #[test]
    fn a_shortage_never_retries_at_once() {
        assert_eq!(Jitter::new(7).delay_of_shortage(&plain(0, 0), 1), SHORTAGE);
    }

    proptest! {
        #[test]
        fn jitter_stays_in_its_band_and_repeats(seed: u64, n in 2u32..40, ratio in 0.0f64..1.0) {
            let backoff = Backoff { jitter: ratio, ..plain(200, 60_000) };
            let base = Jitter::new(seed).delay(&plain(200, 60_000), n).as_secs_f64();
            let got = Jitter::new(seed).delay(&backoff, n);
            prop_assert!((got.as_secs_f64() - base).abs() <= base * ratio + 1e-6);
            prop_assert_eq!(got, Jitter::new(seed).delay(&backoff, n));
        }
    }
}
