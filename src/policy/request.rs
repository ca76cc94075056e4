//! What can be asked of a supervisor.
//!
//! OTP's calls (R29, R30) keep OTP's order: one that comes while a group is stopped or started is answered
//! after it, and is answered by what became of it. Operators' verbs are intent: they are accepted at once,
//! act beside a procedure that is under way, and count nothing. Only a restart that is itself due to a group
//! (its offender is in backoff) begins after the procedure, because a group is restarted as a whole.

use super::action::{Done, Refused, Reply};
use super::check::check_child;
use super::child::{After, Ask, By, Child, State, Wait};
use super::fact::{ChildKey, Request, RequestId};
use super::group::{Procedure, Then};
use super::machine::{Later, Supervisor};
use super::spec::{ChildSpec, Restart};

/// How OTP's calls see a child.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Up,
    Down,
    Restarting,
}

impl Supervisor {
    pub(super) fn request(&mut self, id: RequestId, request: Request) {
        if self.ended.is_some() {
            return self.reply(id, Err(Refused::ShuttingDown));
        }
        match request {
            Request::Start { child } => self.verb(id, child, Self::operator_start),
            Request::Stop { child } => self.verb(id, child, Self::operator_stop),
            Request::Restart { child } => self.verb(id, child, Self::operator_restart),
            Request::ResetFailed { child } => self.verb(id, child, Self::reset_failed),
            Request::Recover { child, step, by } => {
                let reply = self.operator_recover(child, *step, &by).map(|()| Done::Ok);
                self.reply(id, reply);
            }
            Request::Approve { child } => {
                let nothing = || Refused::CannotRecover("no step of it waits for approval".into());
                let reply = if self.approve(child) { Ok(Done::Ok) } else { Err(nothing()) };
                self.reply(id, reply);
            }
            Request::Pause { child, lasting } => self.verb(id, child, |core, key| core.pause(key, lasting)),
            Request::Resume { child } => self.verb(id, child, Self::unpause),
            Request::Add { .. }
            | Request::Reform(_)
            | Request::Terminate { .. }
            | Request::Revive { .. }
            | Request::Delete { .. } => {
                self.later.push_back(Later::Request { id, request });
            }
        }
    }

    /// One of OTP's calls, with no procedure under way.
    pub(super) fn call(&mut self, id: RequestId, request: Request) {
        match request {
            Request::Add { spec } => self.add(id, *spec),
            Request::Reform(reform) => self.reform(id, *reform),
            Request::Terminate { child } => self.terminate(id, child),
            Request::Revive { child } => self.revive(id, child),
            Request::Delete { child } => self.delete(id, child),
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Restart { .. }
            | Request::Pause { .. }
            | Request::Resume { .. }
            | Request::Recover { .. }
            | Request::Approve { .. }
            | Request::ResetFailed { .. } => self.request(id, request),
        }
    }
}

/// OTP's calls.
impl Supervisor {
    /// R29, R38: a new child at the end of the order.
    fn add(&mut self, id: RequestId, spec: ChildSpec) {
        let spec = match &self.template {
            Some(template) => ChildSpec { id: spec.id, ..template.clone() },
            None => spec,
        };
        if let Err(fault) = check_child(&spec, self.spec.auto_shutdown) {
            return self.reply(id, Err(Refused::BadSpec(fault)));
        }
        let known = self.roster.key(&spec.id).filter(|_| !self.is_simple());
        if let Some(seen) = known.and_then(|key| self.roster.get(key)).map(seen) {
            let refused = if seen == Seen::Up { Refused::AlreadyStarted } else { Refused::AlreadyPresent };
            return self.reply(id, Err(refused));
        }
        let (owner, now, pause) = (&self.spec, self.now, spec.paused);
        let key = self.roster.append(Child::new(spec, owner, now));
        if let Some(child) = self.roster.get_mut(key) {
            child.shown = None;
        }
        self.pauses.set(key.slot(), pause.and_then(|pause| pause.until));
        self.touch(key);
        self.start_for(id, key, By::Add);
    }

    /// R30: a child that is down is started once.
    fn revive(&mut self, id: RequestId, key: ChildKey) {
        let parked = matches!(self.roster.get(key).map(|child| &child.state), Some(State::Parked { .. }));
        let by = if parked { By::Rules } else { By::Revive };
        match self.seen(key) {
            Err(refused) => self.reply(id, Err(refused)),
            Ok(Seen::Up) => self.reply(id, Err(Refused::Running)),
            Ok(Seen::Restarting) => self.reply(id, Err(Refused::Restarting)),
            Ok(Seen::Down) => {
                if let Some(child) = self.roster.get_mut(key) {
                    child.stopped = false;
                    child.trial = parked;
                }
                self.start_for(id, key, by);
            }
        }
    }

    /// A start that somebody waits for; one that is held back is on its way.
    fn start_for(&mut self, id: RequestId, key: ChildKey, by: By) {
        let Some(child) = self.roster.get_mut(key) else { return };
        if child.stopped {
            return self.reply(id, Ok(Done::Ok));
        }
        if child.paused.is_some() && by == By::Add {
            self.rest(key, State::Waiting(Wait::Paused));
            return self.reply(id, Ok(Done::Ok));
        }
        if child.held {
            self.rest(key, State::Waiting(Wait::Held));
            return self.reply(id, Ok(Done::Ok));
        }
        child.asks.push(Ask::Up(id));
        self.start(key, by);
    }

    /// R30: stopped until it is started or its group is; cancels a retry. In a pool a child that is gone is
    /// down too.
    fn terminate(&mut self, id: RequestId, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else {
            let reply = if self.is_simple() { Ok(Done::Ok) } else { Err(Refused::NotFound) };
            return self.reply(id, reply);
        };
        child.asks.push(Ask::Down(id));
        child.stopped &= child.spec.restart != Restart::Temporary;
        self.interrupt(key, "it was terminated");
        let Some(child) = self.roster.get_mut(key) else { return };
        match child.state {
            State::Starting { .. } | State::Running => self.stop(key, After::Down),
            State::Stopping { .. } => self.stop_leads_to(key, After::Down),
            State::Ended { .. } => {
                self.consume_end(key);
                self.settle_down(key, After::Down);
            }
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. } => {
                self.strand(key);
                self.settle_down(key, After::Down);
            }
        }
    }

    /// OTP leaves those behind a cancelled retry down, and those behind them.
    fn strand(&mut self, key: ChildKey) {
        if self.escalates() {
            for other in self.waiting_for(key) {
                self.rest(other, State::Stopped);
                self.strand(other);
            }
        }
    }

    fn delete(&mut self, id: RequestId, key: ChildKey) {
        match self.seen(key) {
            Err(refused) => self.reply(id, Err(refused)),
            Ok(Seen::Up) => self.reply(id, Err(Refused::Running)),
            Ok(Seen::Restarting) => self.reply(id, Err(Refused::Restarting)),
            Ok(Seen::Down) => {
                self.strand(key);
                self.reply(id, Ok(Done::Ok));
                self.remove(key);
            }
        }
    }

    fn seen(&self, key: ChildKey) -> Result<Seen, Refused> {
        if self.is_simple() {
            return Err(Refused::SimpleOneForOne);
        }
        self.roster.get(key).map(seen).ok_or(Refused::NotFound)
    }
}

fn seen(child: &Child) -> Seen {
    match child.state {
        State::Stopped | State::Done | State::Waiting(_) | State::Parked { .. } => Seen::Down,
        State::Backoff { .. } => Seen::Restarting,
        State::Starting { .. } | State::Running | State::Stopping { .. } | State::Ended { .. } => Seen::Up,
    }
}

/// Operators' verbs.
impl Supervisor {
    fn verb(&mut self, id: RequestId, key: ChildKey, act: impl FnOnce(&mut Self, ChildKey)) {
        let known = self.roster.get(key).is_some();
        let reply: Reply = if known { Ok(Done::Ok) } else { Err(Refused::NotFound) };
        self.reply(id, reply);
        if known {
            act(self, key);
        }
    }

    fn intend(&mut self, key: ChildKey, stopped: bool) {
        if let Some(child) = self.roster.get_mut(key) {
            child.stopped = stopped;
        }
        self.touch(key);
    }

    fn operator_start(&mut self, key: ChildKey) {
        self.intend(key, false);
        let Some(child) = self.roster.get(key) else { return };
        match child.state {
            State::Starting { .. } | State::Running | State::Ended { .. } => {}
            State::Stopping { .. } => self.stop_leads_to(key, After::Start),
            State::Stopped | State::Done | State::Waiting(_) => self.launch(key),
            State::Backoff { .. } | State::Parked { .. } => self.end_wait(key),
        }
    }

    fn operator_restart(&mut self, key: ChildKey) {
        self.interrupt(key, "somebody asked for a restart");
        let in_stop = self.is_being_stopped(key);
        match self.roster.get(key).map(|child| &child.state) {
            Some(State::Starting { .. } | State::Running) if !in_stop => {
                self.intend(key, false);
                self.stop(key, After::Start);
            }
            _ => self.operator_start(key),
        }
    }

    fn operator_stop(&mut self, key: ChildKey) {
        self.interrupt(key, "somebody stopped it");
        self.intend(key, true);
        let in_stop = self.is_being_stopped(key);
        let Some(child) = self.roster.get_mut(key) else { return };
        match child.state {
            State::Starting { .. } | State::Running if in_stop => {}
            State::Starting { .. } | State::Running => self.stop(key, After::Down),
            State::Stopping { .. } => self.stop_leads_to(key, After::Down),
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. }
            | State::Ended { .. } => {
                child.trial = false;
                self.rest(key, State::Stopped);
                self.release(key);
            }
        }
    }

    fn reset_failed(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        child.window.clear();
        child.consecutive = 0;
        child.trials = 0;
        self.begin_anew(key);
        let Some(child) = self.roster.get_mut(key) else { return };
        let waits = matches!(child.state, State::Backoff { .. } | State::Parked { .. });
        if self.escalates() {
            self.window.clear();
        }
        if waits {
            self.end_wait(key);
        }
    }

    /// A backoff or a quarantine is over because an operator says so; the restart is not counted.
    pub(super) fn end_wait(&mut self, key: ChildKey) {
        if let Procedure::Stop { then: Then::Restart { root, delay, mailed }, .. } = &mut self.procedure
            && *root == key
        {
            (*delay, *mailed) = (std::time::Duration::ZERO, false);
            return;
        }
        let Some(child) = self.roster.get_mut(key) else { return };
        if matches!(child.state, State::Parked { .. }) {
            child.trial = true;
            return self.launch(key);
        }
        if let State::Backoff { counted, .. } = &mut child.state {
            *counted = true;
        }
        self.due_now(key);
    }
}
