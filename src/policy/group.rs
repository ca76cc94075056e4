//! Procedures: what touches several children in an order. At most one is under way.
//!
//! *Stop* walks from the last child backwards to the start of its range, one child at a time (R17, R25,
//! R26); *run* walks forwards and starts whoever waits for its turn, one at a time (R4, R18). A group restart
//! is a stop followed by a run, the end of a supervisor a stop of all. A wait between them, for a backoff or
//! while a child is parked, is no procedure: the offender is in backoff, the others wait for it, and every
//! fact is treated at once. While a procedure is under way, ends of children, retries and OTP's calls wait for
//! its end in the order they came; a child whose turn to be stopped comes is taken as it is then (R28).
//! Operators' verbs never wait: they change intent, or start or stop their child beside the procedure.

use std::time::Duration;

use crate::exit::Exit;

use super::action::ReportKind;
use super::child::{After, By, State, Wait};
use super::fact::ChildKey;
use super::machine::Supervisor;
use super::roster::Roster;
use super::spec::{Restart, RestartStrategy};

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The offender's backoff, then all start in order. `mailed`: even without a delay the retry goes
    /// through the mailbox.
    Restart { root: ChildKey, delay: Duration, mailed: bool },
    /// The offender stays parked, the others wait for it.
    Park { root: ChildKey },
    /// The supervisor is done.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Procedure {
    None,
    /// Stopping backwards; `cursor` is the child whose turn it is, `from` the rank of the first affected.
    Stop {
        cursor: Option<ChildKey>,
        from: u64,
        then: Then,
    },
    /// Starting forwards.
    Run {
        cursor: Option<ChildKey>,
    },
}

impl Procedure {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// It waits for this child to be ready.
    pub(super) fn starts(&self, key: ChildKey) -> bool {
        *self == Self::Run { cursor: Some(key) }
    }

    /// This child is among those being stopped.
    pub(super) fn stops(&self, key: ChildKey, roster: &Roster) -> bool {
        match self {
            Self::Stop { from, .. } => roster.rank(key) >= *from,
            Self::None | Self::Run { .. } => false,
        }
    }

    /// The child is about to be removed.
    pub(super) fn leave(&mut self, key: ChildKey, roster: &Roster) {
        match self {
            Self::Stop { cursor, .. } if *cursor == Some(key) => *cursor = roster.before(key),
            Self::Run { cursor } if *cursor == Some(key) => *cursor = roster.after(key),
            Self::None | Self::Stop { .. } | Self::Run { .. } => {}
        }
    }
}

impl Supervisor {
    /// Stops everybody a restart of `root` touches (R16).
    pub(super) fn begin_group(&mut self, root: ChildKey, then: Then) {
        let from = match self.spec.strategy {
            RestartStrategy::RestForOne => self.roster.rank(root),
            RestartStrategy::OneForAll | RestartStrategy::OneForOne | RestartStrategy::SimpleOneForOne => 0,
        };
        self.boot_is_over();
        self.procedure = Procedure::Stop { cursor: self.roster.last(), from, then };
    }

    /// Starts in order whoever waits for its turn.
    pub(super) fn begin_run(&mut self) {
        self.procedure = Procedure::Run { cursor: self.roster.first() };
    }

    /// Takes the procedure as far as it goes without a further fact.
    pub(super) fn advance(&mut self) {
        while match self.procedure {
            Procedure::None => false,
            Procedure::Stop { cursor: Some(key), from, .. } if self.roster.rank(key) >= from => {
                self.stop_step(key)
            }
            Procedure::Stop { then, from, .. } => self.all_stopped(then, from),
            Procedure::Run { cursor: Some(key) } => self.run_step(key),
            Procedure::Run { cursor: None } => self.end_run(),
        } {}
    }

    /// One child's turn to be stopped; false: its end must come first.
    fn stop_step(&mut self, key: ChildKey) -> bool {
        if self.is_spared(key) {
            // Whom it waited for may be gone after this; the end of its pause is what it waits for.
            if matches!(self.roster.get(key).map(|child| &child.state), Some(State::Waiting(_))) {
                self.rest(key, State::Waiting(Wait::Paused));
            }
            self.step_back(key);
            return true;
        }
        let Some(child) = self.roster.get_mut(key) else { return false };
        match child.state {
            State::Starting { .. } | State::Running => {
                self.stop(key, After::Down);
                false
            }
            State::Stopping { .. } => {
                if self.killing {
                    self.kill_child(key);
                }
                false
            }
            State::Ended { .. } => {
                self.consume_end(key);
                self.settle_down(key, After::Down);
                true
            }
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. } => {
                self.settle_down(key, After::Down);
                true
            }
        }
    }

    /// R28: it had died before its turn came; its real end is judged as the end of a stop.
    pub(super) fn consume_end(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        let State::Ended { exit, .. } = &mut child.state else { return };
        let exit = std::mem::replace(exit, Exit::Unknown);
        if !child.ends_as_expected(&exit) {
            self.report(key, ReportKind::ShutdownError, exit);
        }
    }

    /// A child is down, by a stop or because it was: what it is now, and whose turn is next.
    pub(super) fn settle_down(&mut self, key: ChildKey, after: After) {
        let in_stop = self.procedure.stops(key, &self.roster);
        let simple = self.is_simple();
        let Some(child) = self.roster.get_mut(key) else { return };
        let lived = matches!(child.state, State::Stopping { .. } | State::Ended { .. });
        child.trial &= !lived || !in_stop && matches!(after, After::Start | After::Park);
        if after == After::Park && !in_stop && self.ended.is_none() {
            return self.park_for_good_reason(key);
        }
        let Some(child) = self.roster.get_mut(key) else { return };
        // A temporary child is gone for good once it was stopped (R17, R30), but not by an operator, who
        // may want it again.
        let mortal = (simple || child.spec.restart == Restart::Temporary) && !child.stopped;
        let gone = child.leaving.is_some() || mortal && if in_stop { lived } else { after != After::Start };
        if self.ended.is_some() {
            self.rest_at_end(key);
            self.left_at_end(key);
        } else if gone {
            return self.remove(key);
        } else if in_stop {
            self.rest_in_group(key, after);
        } else if after == After::Start {
            self.launch(key);
        } else {
            self.rest(key, State::Stopped);
            self.release(key);
        }
        self.step_back(key);
        self.answer_down(key);
    }

    fn rest_at_end(&mut self, key: ChildKey) {
        if self.roster.get(key).is_some_and(|child| child.state != State::Done) {
            self.rest(key, State::Stopped);
        }
    }

    /// Who waits for it to leave hears that it has, also when it left together with everybody.
    fn left_at_end(&mut self, key: ChildKey) {
        if let Some(id) = self.roster.get_mut(key).and_then(|child| child.leaving.take()) {
            self.departed(id, 1);
        }
    }

    pub(super) fn step_back(&mut self, key: ChildKey) {
        if let Procedure::Stop { cursor, .. } = &mut self.procedure
            && *cursor == Some(key)
        {
            *cursor = self.roster.before(key);
        }
    }

    /// R17, R18: those affected start again, also those that were down before; not the offender, whose state
    /// says what it waits for, not who is parked, and not whom an operator wants down or left alone.
    fn rest_in_group(&mut self, key: ChildKey, after: After) {
        let Procedure::Stop { then, .. } = self.procedure else { return };
        let root = match then {
            Then::Restart { root, .. } | Then::Park { root } => Some(root),
            Then::Finish => None,
        };
        let Some(child) = self.roster.get(key) else { return };
        let parked = matches!(child.state, State::Parked { .. });
        let planned = matches!(child.state, State::Backoff { .. });
        if child.stopped {
            self.rest(key, State::Stopped);
            // Who waits for it from before it in the order has no part in this stop.
            self.release(key);
        } else if child.paused.is_some() && after != After::Start {
            self.rest(key, State::Waiting(Wait::Paused));
        } else if !(parked || planned && root == Some(key)) {
            self.rest(key, State::Waiting(Wait::Turn));
        }
    }

    /// Everybody affected is down.
    fn all_stopped(&mut self, then: Then, from: u64) -> bool {
        self.procedure = Procedure::None;
        match then {
            Then::Finish => {
                self.finished = true;
                return false;
            }
            Then::Park { root } => self.after_park(root, from),
            Then::Restart { root, delay, mailed } => self.after_group_stop(root, delay, mailed, from),
        }
        true
    }

    fn after_park(&mut self, root: ChildKey, from: u64) {
        if matches!(self.roster.get(root).map(|c| &c.state), Some(State::Parked { .. })) {
            self.hold_back(root, from);
            // A run that this stop cut off goes on with those before it.
            if self.has_turns() {
                self.begin_run();
            }
        } else {
            self.begin_run();
        }
    }

    fn after_group_stop(&mut self, root: ChildKey, delay: Duration, mailed: bool, from: u64) {
        let state = self.roster.get(root).map(|child| child.state.clone());
        if let Some(State::Backoff { counted, plan, .. }) = state {
            if mailed || !delay.is_zero() {
                self.back_off(root, delay, counted, plan);
                return self.hold_back(root, from);
            }
            self.set(root, State::Waiting(Wait::Turn));
        }
        let ready = matches!(self.roster.get(root).map(|c| &c.state), Some(State::Waiting(Wait::Turn)));
        if ready && self.mends_first(root) {
            return self.hold_back(root, from);
        }
        match self.parked_sibling() {
            Some(parked) => self.hold_back(parked, from),
            None if self.spec.strategy == RestartStrategy::RestForOne => {
                self.procedure = Procedure::Run { cursor: Some(root) };
            }
            None => self.begin_run(),
        }
    }

    fn has_turns(&self) -> bool {
        let turn = |key| self.roster.get(key).is_some_and(|child| child.state == State::Waiting(Wait::Turn));
        self.roster.keys().any(turn)
    }

    /// Under one_for_all nobody runs while one is parked.
    fn parked_sibling(&self) -> Option<ChildKey> {
        let parked = |key: &ChildKey| {
            matches!(self.roster.get(*key).map(|child| &child.state), Some(State::Parked { .. }))
        };
        let all = self.spec.strategy == RestartStrategy::OneForAll;
        all.then(|| self.roster.keys().find(parked)).flatten()
    }

    /// Whoever waits for its turn, from rank `from` on, waits for `root` instead.
    fn hold_back(&mut self, root: ChildKey, from: u64) {
        let waiting: Vec<ChildKey> = self
            .roster
            .keys()
            .filter(|key| self.roster.rank(*key) >= from && *key != root)
            .filter(|key| self.roster.get(*key).is_some_and(|c| c.state == State::Waiting(Wait::Turn)))
            .collect();
        for key in waiting {
            self.set(key, State::Waiting(Wait::Sibling(root)));
        }
    }

    /// One child's turn to be started; false: it must be ready first.
    fn run_step(&mut self, key: ChildKey) -> bool {
        let Some(child) = self.roster.get(key) else { return false };
        let blocks = match child.state {
            State::Starting { .. } | State::Stopping { .. } => return false,
            State::Waiting(Wait::Turn) if child.stopped => {
                self.rest(key, State::Stopped);
                false
            }
            State::Waiting(Wait::Turn) if child.held => {
                self.set(key, State::Waiting(Wait::Held));
                self.is_group()
            }
            State::Waiting(Wait::Turn) => {
                // A backoff in place of the start is seen when the run comes to it again.
                let mends = self.mends_first(key);
                if !mends {
                    self.start(key, By::Rules);
                }
                return mends;
            }
            State::Waiting(Wait::Held) | State::Parked { .. } => self.is_group(),
            State::Backoff { .. } => true,
            State::Running => child.trial && self.is_group(),
            // Whom an operator has put aside holds nobody back.
            State::Stopped
            | State::Done
            | State::Waiting(Wait::Sibling(_) | Wait::Paused)
            | State::Ended { .. } => false,
        };
        if blocks {
            return self.block(key);
        }
        self.procedure = Procedure::Run { cursor: self.roster.after(key) };
        true
    }

    /// This child is not ready and will not be at once: those after it wait for it.
    fn block(&mut self, key: ChildKey) -> bool {
        self.hold_back(key, self.roster.rank(key));
        self.end_run()
    }

    fn end_run(&mut self) -> bool {
        self.procedure = Procedure::None;
        self.boot_is_over();
        false
    }
}
