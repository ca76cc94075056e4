//! What happened lately, and what is usual.

use std::collections::VecDeque;
use std::time::Duration;

type Time = Duration;

/// Parts of a window; what is older than a window leaves it in so many steps.
const PARTS: u32 = 10;
/// A usual duration is known after so many tasks of a type, and a usual flow after so many windows.
const KNOWN: u32 = 10;
const KNOWN_WINDOWS: u32 = 3;
/// What is usual follows what is new by this share.
const FOLLOWS: f64 = 0.1;

/// What happened lately, in parts.
#[derive(Debug, Clone)]
pub(super) struct Window<T> {
    part: Duration,
    parts: VecDeque<(Time, T)>,
}

impl<T: Default + Copy> Window<T> {
    /// The last `length`.
    pub(super) fn new(length: Duration) -> Self {
        Self { part: (length / PARTS).max(Duration::from_millis(1)), parts: VecDeque::new() }
    }

    /// The part of now.
    pub(super) fn now(&mut self, own: Time) -> &mut T {
        self.forget(own);
        let fresh = self.parts.back().is_none_or(|(since, _)| own.saturating_sub(*since) >= self.part);
        if fresh {
            self.parts.push_back((own, T::default()));
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last].1
    }

    /// Every part that still counts.
    pub(super) fn parts(&mut self, own: Time) -> impl Iterator<Item = T> + '_ {
        self.forget(own);
        self.parts.iter().map(|(_, what)| *what)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    fn forget(&mut self, own: Time) {
        while self.parts.front().is_some_and(|(since, _)| own.saturating_sub(*since) >= self.part * PARTS) {
            self.parts.pop_front();
        }
    }
}

/// What is usual: a mean that follows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usual {
    mean: f64,
    of: u32,
}

impl Usual {
    pub(super) fn add(&mut self, value: f64) {
        self.of = self.of.saturating_add(1);
        // The first ones count alike; later ones follow.
        let share = (1.0 / f64::from(self.of)).max(FOLLOWS);
        self.mean += (value - self.mean) * share;
    }

    pub(super) fn known(&self) -> Option<f64> {
        self.known_after(KNOWN)
    }

    fn known_after(&self, times: u32) -> Option<f64> {
        Some(self.mean).filter(|mean| self.of >= times && *mean > 0.0)
    }
}

/// Tasks in one window after the other.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    window: Duration,
    since: Option<Time>,
    count: u64,
    usual: Usual,
    /// The last whole window.
    last: Option<u64>,
}

impl Flow {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, since: None, count: 0, usual: Usual::default(), last: None }
    }

    /// What is usual, and what the last whole window had; `None`: nobody knows yet.
    pub(super) fn compare(&self) -> Option<(f64, u64)> {
        Some((self.usual.known_after(KNOWN_WINDOWS)?, self.last?))
    }

    pub(super) fn count(&mut self, own: Time) {
        self.roll(own);
        self.since.get_or_insert(own);
        self.count += 1;
    }

    pub(super) fn roll(&mut self, own: Time) {
        let Some(since) = self.since else { return };
        let passed = own.saturating_sub(since);
        if passed < self.window {
            return;
        }
        let count = std::mem::take(&mut self.count);
        // Windows in which nothing ended at all, after this one.
        let empty = passed.as_nanos() / self.window.as_nanos().max(1) > 1;
        self.last = Some(if empty { 0 } else { count });
        // A window that is far below what is usual is what is looked for, not what is usual.
        if self.usual.known_after(KNOWN_WINDOWS).is_none_or(|usual| count as f64 >= usual / 2.0) {
            self.usual.add(count as f64);
        }
        let into = passed.as_nanos() % self.window.as_nanos().max(1);
        self.since = Some(own.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0))));
    }
}
