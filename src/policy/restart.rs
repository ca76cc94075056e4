//! Restart events: counting them, delaying them, carrying them out, and giving up.
//!
//! Under `escalate` a failed start is counted when it is retried (R13, R23), so that everything queued before
//! the retry goes first. Under `quarantine` it is counted when it fails: the failure that spends the budget
//! parks the child in the same step.

use std::time::Duration;

use super::action::{Action, Ended, ReportKind};
use super::child::State;
use super::exits::Verdict;
use super::fact::ChildKey;
use super::group::Then;
use super::machine::Supervisor;
use super::quarantine::NO_TRIAL_HELD;
use super::view::Plan;
use crate::id::Incarnation;
use crate::recovery::Outcome;

impl Supervisor {
    /// A restart event (R12, R13), or under `escalate` a failed start, which is counted when it is retried.
    pub(super) fn restart(&mut self, key: ChildKey, verdict: &Verdict, ran: Option<Duration>) {
        let (now, limit, escalates) = (self.now, self.spec.intensity, self.escalates());
        let Some(child) = self.roster.get_mut(key) else { return };
        if ran.is_some_and(|ran| ran >= child.spec.backoff.reset_after) {
            child.consecutive = 0;
        }
        child.consecutive = child.consecutive.saturating_add(1);
        let (n, backoff, trial) = (child.consecutive, child.spec.backoff, child.trial);
        if verdict.shortage {
            let delay = self.jitter.delay_of_shortage(&backoff, n);
            return self.begin_restart(key, delay, true, Plan::Retry);
        }
        if !escalates && (child.trial || !child.window.allows(limit, now)) {
            if !trial && self.mend_beyond(key) {
                return self.begin_restart(key, Duration::ZERO, true, Plan::SoftRestart);
            }
            let why = if trial { NO_TRIAL_HELD } else { "parked: its restarts are spent" };
            self.note_rest(key, Outcome::Failed, why);
            return self.park(key, false);
        }
        if escalates && !verdict.failed && !self.window.allows(limit, now) {
            return self.give_up(key);
        }
        self.note_restart(key);
        let delay = self.jitter.delay(&backoff, n);
        if verdict.failed {
            self.begin_restart(key, delay, !escalates, Plan::Retry);
        } else {
            self.begin_restart(key, delay, true, Plan::SoftRestart);
        }
    }

    /// R15, R16, R19: one child, or its group. A failed start under `escalate` leaves the others as they are
    /// until it is retried; otherwise the affected are stopped before the wait.
    fn begin_restart(&mut self, key: ChildKey, delay: Duration, counted: bool, plan: Plan) {
        let failed = plan == Plan::Retry;
        if self.is_group() && !(failed && self.escalates()) {
            self.rest(key, State::Backoff { at: None, counted, plan });
            self.begin_group(key, Then::Restart { root: key, delay, mailed: failed });
        } else if failed || !delay.is_zero() {
            self.back_off(key, delay, counted, plan);
        } else {
            self.launch(key);
        }
    }

    /// A restart or a trial is due.
    pub(super) fn resume(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        match child.state {
            State::Backoff { at, counted, plan: _ } => {
                if at.is_some_and(|at| at > self.now) {
                    return;
                }
                if !counted && !self.window.allows(self.spec.intensity, self.now) {
                    return self.give_up(key);
                }
                if self.is_group() {
                    self.rest(key, State::Backoff { at: None, counted: true, plan: Plan::SoftRestart });
                    let then = Then::Restart { root: key, delay: Duration::ZERO, mailed: false };
                    self.begin_group(key, then);
                } else {
                    self.launch(key);
                }
            }
            State::Parked { at, .. } => {
                if at.is_some_and(|at| at <= self.now) {
                    self.try_parked(key);
                }
            }
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Starting { .. }
            | State::Running
            | State::Stopping { .. }
            | State::Ended { .. } => {}
        }
    }

    /// Plans a restart that does not happen at once.
    pub(super) fn back_off(&mut self, key: ChildKey, delay: Duration, counted: bool, plan: Plan) {
        let at = (!delay.is_zero()).then(|| self.after_now(delay));
        self.due(key, at);
        self.set(key, State::Backoff { at, counted, plan });
        if at.is_none() {
            self.out.push(Action::Retry { child: key });
        }
    }

    /// R14: the budget is spent; the offender gets no signal, everybody else is stopped.
    pub(super) fn give_up(&mut self, offender: ChildKey) {
        let incarnation = self.roster.get(offender).map_or(Incarnation::NONE, |child| child.incarnation);
        self.out.push(Action::Report { kind: ReportKind::GaveUp, child: offender, incarnation, exit: None });
        self.rest(offender, State::Stopped);
        self.end(Ended::GaveUp { offender });
    }
}
