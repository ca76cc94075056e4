//! Parking: what `on_exhausted = "quarantine"` does instead of giving up, and what a fatal exit code does
//! anywhere.
//!
//! A parked child is tried again after `retry_first`, then after twice as long each time up to `retry_every`.
//! A trial that holds for `verify` clears its history; until then those who depend on it go on waiting. A
//! fatal exit is never tried by itself: the worker has said that trying is no use.

use super::care::RecoveryAct;
use super::child::State;
use super::fact::ChildKey;
use super::group::Then;
use super::machine::Supervisor;
use super::spec::Time;

/// What the incident of a trial comes to.
pub(super) const NO_TRIAL_HELD: &str = "parked: its trial did not hold";

impl Supervisor {
    /// Parks a child that is down, and stops those a restart of it would touch.
    pub(super) fn park(&mut self, key: ChildKey, fatal: bool) {
        let Some(child) = self.roster.get_mut(key) else { return };
        child.trials = if std::mem::take(&mut child.trial) { child.trials.saturating_add(1) } else { 0 };
        let trials = child.trials;
        let at = if fatal { None } else { self.next_trial(trials) };
        self.due(key, at);
        self.set(key, State::Parked { at, fatal });
        if self.is_group() {
            self.begin_group(key, Then::Park { root: key });
        }
    }

    /// Starts a parked child on trial; while it is held it stays parked, and is tried when it is freed.
    pub(super) fn try_parked(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        if child.held {
            let fatal = matches!(child.state, State::Parked { fatal: true, .. });
            return self.rest(key, State::Parked { at: None, fatal });
        }
        child.trial = true;
        self.launch(key);
    }

    /// A trial became ready: it must hold now.
    pub(super) fn on_trial(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key) else { return };
        let verify = child.spec.verify;
        if verify.is_zero() {
            return self.verified(key);
        }
        // Its checks speak first, if it has some.
        let waits = child.spec.ladder.is_some() && !child.spec.heard_within.is_zero();
        let first = if waits { self.waits_for_checks(key).saturating_add(verify) } else { verify };
        self.due(key, Some(self.after_now(first)));
    }

    /// Its checks say for the first time that it works: from now on it must hold.
    pub(super) fn trial_is_well(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key).filter(|child| child.trial && child.state == State::Running)
        else {
            return;
        };
        let at = self.after_now(child.spec.verify);
        if self.timers.get(key.slot()).is_some_and(|due| at < due) {
            self.due(key, Some(at));
        }
    }

    /// The trial held: a clean slate, and those who waited start in order.
    pub(super) fn verified(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        child.trial = false;
        child.trials = 0;
        child.consecutive = 0;
        child.window.clear();
        let (verify, told) = (child.spec.verify, child.spec.ladder.is_some());
        self.begin_anew(key);
        // An incident that is open has an end of its own.
        if told && self.case(key).is_none() {
            self.tell(key, RecoveryAct::TrialHeld { verify });
        }
        self.touch(key);
        self.release(key);
    }

    pub(super) fn next_trial(&self, trials: u32) -> Option<Time> {
        let retry = self.spec.retry?;
        let factor = 1u32.checked_shl(trials).unwrap_or(u32::MAX);
        let wait = retry.first.checked_mul(factor).unwrap_or(retry.every).min(retry.every);
        Some(self.after_now(wait))
    }
}
