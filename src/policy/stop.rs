//! Ending one child (R26), every deadline, and the end of the supervisor itself (R25).
//!
//! A stop asks, kills when its time is over, and then waits without limit, because nothing may be started in
//! the place of a process that may still live: one that outlives its kill is shown as stuck.

use std::time::Duration;

use super::action::{Action, Ended, Refused, StopHow};
use super::child::{After, State};
use super::fact::ChildKey;
use super::group::{Procedure, Then};
use super::machine::{Boot, Later, Supervisor};
use super::spec::Shutdown;

use crate::id::Incarnation;

/// A kill that has not been answered for this long shows the child as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Asks or kills, as its spec says.
    pub(super) fn stop(&mut self, key: ChildKey, after: After) {
        let Some(child) = self.roster.get(key) else { return };
        let (kill, patience) = self.stops_with(key);
        let (how, wait) = match child.spec.shutdown {
            _ if kill => (StopHow::Kill, Some(STUCK_AFTER)),
            Shutdown::BrutalKill => (StopHow::Kill, Some(STUCK_AFTER)),
            Shutdown::Timeout(_) | Shutdown::Infinity if self.killing => (StopHow::Kill, Some(STUCK_AFTER)),
            Shutdown::Timeout(limit) => {
                (StopHow::Graceful, Some(patience.map_or(limit, |most| most.min(limit))))
            }
            Shutdown::Infinity => (StopHow::Graceful, None),
        };
        let incarnation = child.incarnation;
        self.due(key, wait.map(|wait| self.after_now(wait)));
        self.set(key, State::Stopping { after, killed: how == StopHow::Kill, stuck: false });
        self.out.push(Action::Stop { child: key, incarnation, how });
    }

    /// Changes what follows the stop that is under way.
    pub(super) fn stop_leads_to(&mut self, key: ChildKey, next: After) {
        if let Some(State::Stopping { after, .. }) = self.roster.get_mut(key).map(|child| &mut child.state) {
            *after = next;
        }
        self.touch(key);
    }

    /// Deals with every deadline that has come.
    pub(super) fn tick(&mut self) {
        while let Some(slot) = self.timers.pop_due(self.now) {
            self.roster.key_at(slot).into_iter().for_each(|key| self.deadline(key));
        }
        while let Some(slot) = self.cares.pop_due(self.now) {
            self.roster.key_at(slot).into_iter().for_each(|key| self.care_due(key));
        }
        while let Some(slot) = self.pauses.pop_due(self.now) {
            self.roster.key_at(slot).into_iter().for_each(|key| self.unpause(key));
        }
    }

    /// The worker asked for more time.
    pub(super) fn extend(&mut self, key: ChildKey, incarnation: Incarnation, by: Duration) {
        let Some(child) = self.roster.get(key).filter(|child| child.incarnation == incarnation) else {
            self.stale += 1;
            return;
        };
        let timed = match child.state {
            State::Starting { .. } | State::Stopping { killed: false, .. } => true,
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. }
            | State::Running
            | State::Stopping { killed: true, .. }
            | State::Ended { .. } => false,
        };
        if let Some(due) = self.timers.get(key.slot()).filter(|_| timed) {
            let later = self.after_now(by).max(due);
            self.due(key, Some(later));
        }
    }

    /// Begins the end; from here on nothing is started (S11).
    pub(super) fn end(&mut self, why: Ended) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(why);
        self.boot = Boot::Told;
        for later in std::mem::take(&mut self.later) {
            if let Later::Request { id, .. } = later {
                self.reply(id, Err(Refused::ShuttingDown));
            }
        }
        let keys: Vec<ChildKey> = self.roster.keys().collect();
        for key in &keys {
            self.answer_up(*key, &Err(Refused::ShuttingDown));
            self.interrupt(*key, "its supervisor ends");
            self.forget_plans(*key);
        }
        self.procedure = Procedure::Stop { cursor: self.roster.last(), from: 0, then: Then::Finish };
        if self.is_simple() {
            self.stop_together(&keys);
        }
    }

    /// The time for an orderly end is over.
    pub(super) fn kill(&mut self) {
        self.killing = true;
        self.end(Ended::Shutdown);
        if self.is_simple() {
            self.kill_together();
        }
    }

    fn deadline(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key) else { return };
        match child.state {
            State::Starting { .. } if child.unseen => self.start_goes_on(key),
            State::Starting { by } => self.stop(key, After::TimedOut(by)),
            State::Stopping { killed: false, .. } if self.is_simple() && self.ended.is_some() => {
                self.kill_together();
            }
            State::Stopping { killed: false, .. } => self.kill_child(key),
            State::Stopping { after, killed: true, .. } => {
                self.set(key, State::Stopping { after, killed: true, stuck: true });
            }
            State::Backoff { .. } | State::Parked { .. } => self.resume_later(key),
            // It has failed, and is on its way back to where it was.
            State::Running if child.is_being_parked() => {}
            State::Running => self.verified(key),
            State::Stopped | State::Done | State::Waiting(_) | State::Ended { .. } => {}
        }
    }

    /// Kills one that is already being stopped.
    pub(super) fn kill_child(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key) else { return };
        let State::Stopping { after, killed: false, .. } = child.state else { return };
        let incarnation = child.incarnation;
        self.due(key, Some(self.after_now(STUCK_AFTER)));
        self.set(key, State::Stopping { after, killed: true, stuck: false });
        self.out.push(Action::Stop { child: key, incarnation, how: StopHow::Kill });
    }

    /// R38: dynamic children are all asked at once, and share one deadline.
    fn stop_together(&mut self, keys: &[ChildKey]) {
        for key in keys {
            if let Some(State::Starting { .. } | State::Running) = self.roster.get(*key).map(|c| &c.state) {
                self.stop(*key, After::Down);
            }
        }
    }

    fn kill_together(&mut self) {
        let keys: Vec<ChildKey> = self.roster.keys().collect();
        for key in keys {
            self.kill_child(key);
        }
    }

    /// What was planned for a child that is down will not happen.
    fn forget_plans(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key) else { return };
        match child.state {
            State::Waiting(_) | State::Backoff { .. } | State::Parked { .. } => {
                self.rest(key, State::Stopped)
            }
            // Its turn comes; a deadline of its own could only break the order (S5).
            State::Running | State::Starting { .. } => self.due(key, None),
            // What was to follow its stop does not any more.
            State::Stopping { after: After::Start | After::Park, .. } => self.stop_leads_to(key, After::Down),
            State::Stopped | State::Done | State::Stopping { .. } | State::Ended { .. } => {}
        }
    }
}
