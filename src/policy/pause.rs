//! Hands off: while a child is paused no rule starts it, stops it or tries it again, also not for its group.
//!
//! What operators ask for is done as ever, once each, and the end of its supervisor takes it along, since nothing
//! lives without one. A paused child that ends waits for the end of its pause; that end is no restart event, because
//! nobody restarted anything, and neither is the start that follows. Its siblings start without it, as they do without
//! one that is stopped; only those that wait for it already when the pause begins (a group) wait with it. A start that is
//! under way when the pause begins may take as long as it likes.

use std::time::Duration;

use crate::exit::Exit;
use crate::recovery::Outcome;

use super::child::{Child, State, Wait};
use super::exits::Verdict;
use super::fact::ChildKey;
use super::group::{Procedure, Then};
use super::machine::{Later, Supervisor};
use super::spec::{Pause, Time};

impl Child {
    /// How long a start may take.
    pub(super) fn start_limit(&self) -> Option<Duration> {
        self.spec.start_timeout.filter(|_| self.paused.is_none())
    }
}

impl Supervisor {
    pub(super) fn is_paused(&self, key: ChildKey) -> bool {
        self.roster.get(key).is_some_and(|child| child.paused.is_some())
    }

    /// Whether a group stop that is under way passes it over: a stop that had been asked before is waited for.
    pub(super) fn is_spared(&self, key: ChildKey) -> bool {
        let ends = matches!(self.procedure, Procedure::Stop { then: Then::Finish, .. });
        let state = self.roster.get(key).map(|child| &child.state);
        !ends && self.is_paused(key) && !matches!(state, Some(State::Stopping { .. } | State::Ended { .. }))
    }

    /// Whether a procedure will stop it or is doing so.
    pub(super) fn is_being_stopped(&self, key: ChildKey) -> bool {
        self.procedure.stops(key, &self.roster) && !self.is_spared(key)
    }

    /// Operator `pause`; one that is paused already gets the new end.
    pub(super) fn pause(&mut self, key: ChildKey, lasting: Option<Duration>) {
        self.interrupt(key, "it was paused");
        let until = lasting.map(|lasting| self.after_now(lasting));
        self.pauses.set(key.slot(), until);
        let Some(child) = self.roster.get_mut(key) else { return };
        child.paused = Some(Pause { until });
        match child.state {
            State::Waiting(_) | State::Backoff { .. } => self.rest(key, State::Waiting(Wait::Paused)),
            State::Parked { fatal, .. } => self.rest(key, State::Parked { at: None, fatal }),
            State::Starting { .. } => self.due(key, None),
            State::Stopped | State::Done | State::Running | State::Stopping { .. } | State::Ended { .. } => {}
        }
        self.touch(key);
    }

    /// Operator `resume`, or the end of a pause that had one.
    pub(super) fn unpause(&mut self, key: ChildKey) {
        self.pauses.clear(key.slot());
        let Some(child) = self.roster.get_mut(key) else { return };
        if child.paused.take().is_none() {
            return;
        }
        let (limit, trials) = (child.start_limit(), child.trials);
        self.touch(key);
        if self.ended.is_some() {
            return;
        }
        match self.roster.get(key).map(|child| &child.state) {
            // The boot comes to it when its turn has come.
            Some(State::Waiting(Wait::Paused)) if matches!(self.procedure, Procedure::Run { .. }) => {
                self.release(key);
                self.set(key, State::Waiting(Wait::Turn));
                self.later.push_back(Later::Run);
            }
            Some(State::Waiting(Wait::Paused)) => self.set_free(key),
            Some(State::Parked { fatal: false, .. }) => {
                let at: Option<Time> = self.next_trial(trials);
                self.due(key, at);
                self.set(key, State::Parked { at, fatal: false });
            }
            Some(State::Starting { .. }) => self.due(key, limit.map(|limit| self.after_now(limit))),
            Some(
                State::Waiting(Wait::Turn | Wait::Sibling(_) | Wait::Held)
                | State::Stopped
                | State::Done
                | State::Backoff { .. }
                | State::Parked { fatal: true, .. }
                | State::Running
                | State::Stopping { .. }
                | State::Ended { .. },
            )
            | None => {}
        }
        // Whoever was started just now is of the new definition already.
        let outdated = self.roster.get_mut(key).is_some_and(|child| std::mem::take(&mut child.outdated));
        if outdated && self.is_being_stopped(key) {
            self.join_group(key);
        } else if outdated {
            self.renew(key);
        }
    }

    /// Its group, which is on its way down, starts it with everybody.
    fn join_group(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key).filter(|child| !child.stopped) else { return };
        if matches!(child.state, State::Stopped | State::Done) {
            self.rest(key, State::Waiting(Wait::Turn));
        }
    }

    /// Its own end, after which it would be started again.
    pub(super) fn end_paused(&mut self, key: ChildKey, verdict: &Verdict, exit: Exit) {
        self.note_rest(key, Outcome::Failed, &format!("it ended, and is paused: {exit}"));
        if verdict.loud {
            self.report(key, verdict.kind(), exit);
        }
        self.rest(key, State::Waiting(Wait::Paused));
    }
}
