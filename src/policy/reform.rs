//! A supervisor's new definition, taken over while its children run.
//!
//! One request brings the whole definition: flags, and every child in start order. It is checked like that of a new
//! supervisor before anything is touched, so it is taken over as a whole or not at all. Then only the difference
//! happens: who is no longer named is stopped and forgotten, who is new is appended and started, who changed is
//! replaced or only told, and nobody else notices. Nothing of it counts as a restart.
//!
//! It waits for the end of a procedure, because a procedure walks the order that this changes.

use std::collections::HashSet;
use std::sync::Arc;

use super::action::{Action, Done, Refused};
use super::care::{Case, Origin, Stage};
use super::check::check_all;
use super::child::{After, Child, State, Wait};
use super::fact::{ChildKey, RequestId};
use super::machine::{Boot, Later, Supervisor};
use super::spec::{ChildSpec, Restart, RestartStrategy, SupervisorSpec};

/// What becomes of a child that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: its definition is the same.
    Keep,
    /// The new definition holds from now on; whoever runs goes on running.
    Update,
    /// The new definition needs a new incarnation: stopped if it is up, then started; history forgotten.
    Renew,
}

/// One child of a new definition.
#[derive(Debug, Clone, PartialEq)]
pub struct ReformChild {
    /// What the policy is told about it. `held`, `stopped` and `incarnation` count only for a child that is new.
    pub spec: ChildSpec,
    /// What becomes of it if it is there.
    pub change: Change,
}

/// A supervisor's whole definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Reform {
    /// Its own flags.
    pub spec: SupervisorSpec,
    /// All its children in start order.
    pub children: Vec<ReformChild>,
}

impl Supervisor {
    /// Takes a new definition over; answered once all who are no longer named are gone.
    pub(super) fn reform(&mut self, id: RequestId, reform: Reform) {
        if self.is_simple() {
            return self.reply(id, Err(Refused::SimpleOneForOne));
        }
        let specs: Vec<ChildSpec> = reform.children.iter().map(|child| child.spec.clone()).collect();
        if let Err(fault) = check_all(&reform.spec, &specs) {
            return self.reply(id, Err(Refused::BadSpec(fault)));
        }
        let named: HashSet<Arc<str>> = specs.into_iter().map(|spec| spec.id).collect();
        self.spec = reform.spec;
        let order: Vec<ChildKey> = reform.children.into_iter().map(|child| self.take_over(child)).collect();
        let leaving: Vec<ChildKey> = self
            .roster
            .keys()
            .filter(|key| self.roster.get(*key).is_some_and(|child| !named.contains(&child.spec.id)))
            .collect();
        self.roster.arrange(&order);
        self.wait_for_nobody_behind();
        self.departures.push((id, leaving.len()));
        for key in leaving {
            self.leave(id, key);
        }
        self.departed(id, 0);
        if self.boot != Boot::Ahead {
            self.start_newcomers();
        }
    }

    /// Under rest_for_one nobody depends on who comes after it: in another order others are waited for.
    fn wait_for_nobody_behind(&mut self) {
        if self.spec.strategy != RestartStrategy::RestForOne || self.waiting == 0 {
            return;
        }
        let behind = |key: &ChildKey| {
            let blocker = self.roster.get(*key).and_then(Child::waits_for);
            blocker.is_some_and(|blocker| self.roster.rank(blocker) > self.roster.rank(*key))
        };
        let free: Vec<ChildKey> = self.roster.keys().filter(behind).collect();
        if !free.is_empty() {
            self.later.push_back(Later::Run);
        }
        for key in free {
            self.set(key, State::Waiting(Wait::Turn));
        }
    }

    fn take_over(&mut self, child: ReformChild) -> ChildKey {
        match self.roster.key(&child.spec.id) {
            Some(key) => {
                self.change(key, child);
                key
            }
            None => self.admit(child.spec),
        }
    }

    fn admit(&mut self, spec: ChildSpec) -> ChildKey {
        let (owner, now) = (&self.spec, self.now);
        let (stopped, paused) = (spec.stopped, spec.paused);
        let key = self.roster.append(Child::new(spec, owner, now));
        if let Some(child) = self.roster.get_mut(key) {
            child.shown = None;
        }
        self.out.push(Action::Added { child: key });
        if self.boot != Boot::Ahead && !stopped {
            self.set(key, State::Waiting(if paused.is_some() { Wait::Paused } else { Wait::Turn }));
        }
        self.pauses.set(key.slot(), paused.and_then(|pause| pause.until));
        self.touch(key);
        key
    }

    /// Newcomers without dependence on each other start together, as at boot.
    fn start_newcomers(&mut self) {
        if self.is_group() || self.escalates() {
            self.later.push_back(Later::Run);
            return;
        }
        let waiting: Vec<ChildKey> = self
            .roster
            .keys()
            .filter(|key| {
                self.roster.get(*key).is_some_and(|child| child.state == State::Waiting(Wait::Turn))
            })
            .collect();
        for key in waiting {
            self.launch(key);
        }
    }

    fn change(&mut self, key: ChildKey, new: ReformChild) {
        let Some(child) = self.roster.get_mut(key) else { return };
        // Named again while it was on its way out: what is being stopped is what was forgotten.
        let returns = child.leaving.take();
        // Who waits to be tried again failed with the old definition: the new one is tried at once.
        let failed = matches!(child.state, State::Backoff { .. } | State::Parked { .. });
        // Whose work was done is wanted again if it has no end any more.
        let endless = child.state == State::Done && new.spec.restart == Restart::Permanent;
        let renew = new.change == Change::Renew
            || returns.is_some()
            || (failed || endless) && new.change == Change::Update;
        if new.change == Change::Keep && !renew {
            return;
        }
        let ChildSpec { held, stopped, paused, incarnation, .. } = child.spec;
        let wanted_down = new.spec.stopped;
        let climbs = |case: &Case| {
            case.origin != Origin::Operator && (case.stage.is_while_up() || case.stage == Stage::Idle)
        };
        let open = child.care.as_ref().and_then(|care| care.case.as_ref()).is_some_and(climbs);
        let other_ladder = open && child.spec.ladder != new.spec.ladder;
        child.spec = ChildSpec { held, stopped, paused, incarnation, ..new.spec };
        if let Some(id) = returns {
            child.stopped = wanted_down;
            self.departed(id, 1);
        }
        self.out.push(Action::Respec { child: key, renew });
        self.touch(key);
        if other_ladder {
            // Its places mean other steps now; if it is still unwell, an incident on the new one begins.
            self.interrupt(key, "its ladder is another one now");
        }
        if renew {
            self.renew(key);
        }
    }

    /// As if it had never run before, but for what an operator wants of it.
    pub(super) fn renew(&mut self, key: ChildKey) {
        self.interrupt(key, "it has a new definition");
        self.begin_anew(key);
        let Some(child) = self.roster.get_mut(key) else { return };
        child.window.clear();
        (child.consecutive, child.trials, child.trial) = (0, 0, false);
        if child.paused.is_some() {
            // Hands off also from this; its next start is of the new definition, at the latest when the pause ends.
            child.outdated = true;
            return;
        }
        let wanted = !child.stopped;
        match child.state {
            State::Starting { .. } | State::Running => self.stop(key, After::Start),
            State::Stopping { .. } if wanted => self.stop_leads_to(key, After::Start),
            State::Backoff { .. } | State::Parked { .. } if wanted => {
                self.rest(key, State::Stopped);
                self.release(key);
                self.launch_in_turn(key);
            }
            State::Stopped | State::Done if wanted && self.boot != Boot::Ahead => self.launch_in_turn(key),
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. }
            | State::Stopping { .. }
            | State::Ended { .. } => {}
        }
    }

    fn launch_in_turn(&mut self, key: ChildKey) {
        self.set(key, State::Waiting(Wait::Turn));
        if self.is_group() {
            self.later.push_back(Later::Run);
        } else {
            self.launch(key);
        }
    }

    /// Stopped, and forgotten once it is down.
    fn leave(&mut self, id: RequestId, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        if let Some(earlier) = child.leaving.replace(id) {
            self.departed(earlier, 1);
        }
        self.note_leaving(key);
        let Some(child) = self.roster.get_mut(key) else { return };
        child.stopped = true;
        match child.state {
            State::Starting { .. } | State::Running => self.stop(key, After::Down),
            State::Stopping { .. } => self.stop_leads_to(key, After::Down),
            State::Ended { .. } => {
                self.consume_end(key);
                self.remove(key);
            }
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. } => self.remove(key),
        }
    }

    /// So many more of those that a definition no longer names are gone; the last one answers the asker.
    pub(super) fn departed(&mut self, id: RequestId, count: usize) {
        let Some(at) = self.departures.iter().position(|(waiting, _)| *waiting == id) else { return };
        self.departures[at].1 = self.departures[at].1.saturating_sub(count);
        if self.departures[at].1 == 0 {
            self.departures.swap_remove(at);
            self.reply(id, Ok(Done::Ok));
        }
    }
}
