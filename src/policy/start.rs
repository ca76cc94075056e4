//! Starting one child, and the boot.

use super::action::Action;
use super::child::{By, Child, State, Wait};
use super::fact::ChildKey;
use super::machine::{Boot, Later, Supervisor};

impl Supervisor {
    /// R3–R6, and contract rule 8: without dependence on each other, children start together.
    pub(super) fn start_declared(&mut self) {
        if self.boot != Boot::Ahead {
            return;
        }
        self.boot = Boot::UnderWay;
        let together = !self.is_group() && !self.escalates();
        let keys: Vec<ChildKey> = self.roster.keys().collect();
        for key in keys {
            if self.roster.get(key).is_none_or(|child| child.stopped || child.state != State::Stopped) {
                continue;
            }
            if self.is_paused(key) {
                self.set(key, State::Waiting(Wait::Paused));
                continue;
            }
            self.set(key, State::Waiting(Wait::Turn));
            if together {
                self.launch(key);
            }
        }
        if together {
            self.boot_is_over();
        } else {
            self.begin_run();
        }
    }

    /// A wanted start, unless something holds it back.
    pub(super) fn launch(&mut self, key: ChildKey) {
        let stopping = self.procedure.stops(key, &self.roster);
        let Some(child) = self.roster.get(key) else { return };
        if self.ended.is_some() {
            self.rest(key, State::Stopped);
        } else if stopping {
            self.rest(key, State::Waiting(Wait::Turn));
        } else if child.held {
            self.rest(key, State::Waiting(Wait::Held));
        } else if !self.mends_first(key) {
            self.start(key, By::Rules);
        }
    }

    pub(super) fn start(&mut self, key: ChildKey, by: By) {
        if self.is_simple() {
            self.roster.move_to_end(key);
        }
        let Some(child) = self.roster.get_mut(key) else { return };
        child.incarnation = child.incarnation.next();
        (child.outdated, child.unseen, child.overtime) = (false, false, false);
        let (incarnation, limit) = (child.incarnation, child.start_limit());
        self.set(key, State::Starting { by });
        self.due(key, limit.map(|limit| self.after_now(limit)));
        self.out.push(Action::Start { child: key, incarnation });
    }

    /// Its time to start is over, and the check that would say whether it has started does not work: that is no fault of
    /// the worker, which has as much time again. Meanwhile it keeps nobody else from recovery.
    pub(super) fn start_goes_on(&mut self, key: ChildKey) {
        if let Some(child) = self.roster.get_mut(key) {
            child.overtime = true;
        }
        self.start_has_time(key);
        self.give_back(key, false);
    }

    /// From now on it has all of its time to start, or longer where it has asked for more.
    pub(super) fn start_has_time(&mut self, key: ChildKey) {
        let limit = self.roster.get(key).and_then(Child::start_limit);
        let standing = self.timers.get(key.slot()).unwrap_or_default();
        self.due(key, limit.map(|limit| self.after_now(limit).max(standing)));
    }

    /// What `after` names became ready, or stopped being ready; a running child is never stopped for it.
    pub(super) fn hold(&mut self, key: ChildKey, held: bool) {
        let Some(child) = self.roster.get_mut(key) else { return };
        let freed = std::mem::replace(&mut child.held, held) && !held;
        if !freed || self.ended.is_some() {
            return;
        }
        match child.state {
            State::Waiting(Wait::Held) => self.set_free(key),
            State::Parked { fatal: false, .. } if child.paused.is_none() => self.due_now(key),
            State::Stopped
            | State::Done
            | State::Waiting(Wait::Turn | Wait::Sibling(_) | Wait::Paused)
            | State::Backoff { .. }
            | State::Parked { .. }
            | State::Starting { .. }
            | State::Running
            | State::Stopping { .. }
            | State::Ended { .. } => {}
        }
    }

    /// What it waited for has come: it starts, in its group in order.
    pub(super) fn set_free(&mut self, key: ChildKey) {
        self.release(key);
        self.set(key, State::Waiting(Wait::Turn));
        if self.is_group() {
            self.later.push_back(Later::Run);
        } else {
            self.launch(key);
        }
    }

    /// What a child planned for later is due now.
    pub(super) fn due_now(&mut self, key: ChildKey) {
        let now = self.now;
        self.due(key, None);
        if let Some(child) = self.roster.get_mut(key) {
            match &mut child.state {
                State::Backoff { at, .. } | State::Parked { at, .. } => *at = Some(now),
                State::Stopped
                | State::Done
                | State::Waiting(_)
                | State::Starting { .. }
                | State::Running
                | State::Stopping { .. }
                | State::Ended { .. } => {}
            }
        }
        self.touch(key);
        self.resume_later(key);
    }
}
