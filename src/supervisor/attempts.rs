//! What came of the restarts that answered a failure: the first and plainest way to recover a worker, counted as one.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::event::CauseName;
use crate::recovery::Outcome;

use super::board::InstanceState;

/// What an instance has behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Starts after the first.
    pub restarts: u64,
    /// The same, by cause.
    pub by_cause: BTreeMap<CauseName, u64>,
    /// Restarts after a failure whose replacement held.
    pub ok: u64,
    /// Those whose replacement did not.
    pub failed: u64,
    /// Those that something else cut short.
    pub interrupted: u64,
    /// Output lines that could not be kept.
    pub lines_dropped: u64,
    /// Steps of recovery beside plain restarts, by strategy and what came of them.
    pub recoveries: BTreeMap<(String, Outcome), u64>,
}

impl InstanceState {
    /// What it has behind it is another identity's, but for what is counted of the instance: lines that were lost, and
    /// steps of recovery, as the one that has just begun it.
    pub(crate) fn begin_anew(&mut self) {
        let Totals { lines_dropped, recoveries, .. } = std::mem::take(&mut self.earlier);
        self.earlier = Totals { lines_dropped, recoveries, ..Totals::default() };
        self.soft_restarts = Attempts::default();
        (self.restarts, self.restarts_by_cause) = (0, BTreeMap::new());
    }

    /// What it has behind it, with what it had at earlier runtimes.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut by_cause = self.earlier.by_cause.clone();
        for (cause, count) in &self.restarts_by_cause {
            *by_cause.entry(cause.clone()).or_default() += count;
        }
        let mut recoveries = self.earlier.recoveries.clone();
        for (step, count) in &self.recoveries {
            *recoveries.entry(step.clone()).or_default() += count;
        }
        Totals {
            recoveries,
            restarts: self.earlier.restarts + self.restarts,
            by_cause,
            ok: self.earlier.ok + self.soft_restarts.ok,
            failed: self.earlier.failed + self.soft_restarts.failed,
            interrupted: self.earlier.interrupted + self.soft_restarts.interrupted,
            lines_dropped: self.earlier.lines_dropped + self.output.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Restarts that answered a failure, by what came of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempts {
    /// The replacement became ready, and held: no incident was open any more, and no trial under way.
    pub ok: u64,
    /// It ended, or was unwell, before that.
    pub failed: u64,
    /// Somebody or something else stopped it before that.
    pub interrupted: u64,
    /// One whose outcome is not known yet.
    pub under_way: bool,
}

impl Attempts {
    /// One begins.
    pub(crate) fn begin(&mut self) {
        self.under_way = true;
    }

    /// The replacement has held.
    pub(crate) fn held(&mut self) {
        self.ok += u64::from(std::mem::take(&mut self.under_way));
    }

    /// The replacement has ended; `asked`: because somebody wanted it to.
    pub(crate) fn ended(&mut self, asked: bool) {
        let count = if asked { &mut self.interrupted } else { &mut self.failed };
        *count += u64::from(std::mem::take(&mut self.under_way));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_has_one_outcome_and_an_end_after_it_has_none() {
        let mut attempts = Attempts::default();
        attempts.ended(false);
        attempts.begin();
        attempts.held();
        attempts.ended(false);
        attempts.begin();
        attempts.ended(false);
        attempts.begin();
        attempts.ended(true);
        attempts.held();
        assert_eq!((attempts.ok, attempts.failed, attempts.interrupted), (1, 1, 1));
    }
}
