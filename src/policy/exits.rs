//! What the end of a child means: restart, rest, park or fail the boot.
//!
//! The questions come in one order, and the first that says «not now» decides: is the fact stale, is the child
//! meant to be down, is the exit code fatal, does its restart type want it again, is there budget left
//! ([`super::restart`]), how long must it wait.

use std::time::Duration;

use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::recovery::Outcome;

use super::action::{Action, Done, Ended, Refused, ReportKind};
use super::child::{After, By, Child, State};
use super::fact::ChildKey;
use super::machine::{Boot, Later, Supervisor};
use super::spec::{AutoShutdown, Restart};

/// A child's own end, with all that the rules ask about it.
pub(super) struct Verdict {
    /// It never became ready, or ended before `min_uptime`.
    pub(super) failed: bool,
    fatal: bool,
    pub(super) shortage: bool,
    /// R2: its restart type wants it again.
    pub(super) wanted: bool,
    /// Worth a report: abnormal, or it is restarted.
    pub(super) loud: bool,
}

impl Verdict {
    pub(super) fn kind(&self) -> ReportKind {
        if self.failed { ReportKind::StartError } else { ReportKind::ChildTerminated }
    }
}

impl Supervisor {
    /// A start is acknowledged.
    pub(super) fn ready(&mut self, key: ChildKey, incarnation: Incarnation) {
        if !self.is_current(key, incarnation) {
            return;
        }
        let Some(child) = self.roster.get(key) else { return };
        if !matches!(child.state, State::Starting { .. }) {
            return;
        }
        let trial = child.trial;
        self.rest(key, State::Running);
        self.note_ready(key);
        self.answer_up(key, &Ok(Done::Up(key, incarnation)));
        if trial {
            self.on_trial(key);
        } else {
            self.release(key);
        }
    }

    /// A start answered that there is nothing to run (R5): down for good, a temporary child is dropped.
    pub(super) fn ignored(&mut self, key: ChildKey, incarnation: Incarnation) {
        if !self.is_current(key, incarnation) {
            return;
        }
        let Some(child) = self.roster.get_mut(key) else { return };
        let drop = child.spec.restart == Restart::Temporary;
        match child.state {
            State::Starting { .. } => {
                child.trial = false;
                self.answer_up(key, &Ok(Done::Ignored));
                self.retire(key, drop);
            }
            State::Stopping { .. } => self.gone(key, incarnation, Exit::Stopped, true),
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. }
            | State::Running
            | State::Ended { .. } => self.stale += 1,
        }
    }

    /// Nothing of this incarnation lives any more.
    pub(super) fn gone(&mut self, key: ChildKey, incarnation: Incarnation, exit: Exit, at_start: bool) {
        if !self.is_current(key, incarnation) {
            return;
        }
        let Some(child) = self.roster.get(key) else { return };
        match child.state {
            State::Stopping { after, .. } => self.stopped(key, after, exit),
            State::Starting { .. } if at_start => self.ended_by_itself(key, exit, None),
            State::Starting { .. } => {
                let exit = Exit::StartFailed(StartFailure::BeforeReady { ended: Box::new(exit) });
                self.ended_by_itself(key, exit, None);
            }
            State::Running => {
                let ran = self.now.saturating_sub(child.since);
                let short = ran < child.spec.min_uptime;
                let ended = || Exit::StartFailed(StartFailure::TooShort { ended: Box::new(exit.clone()) });
                let exit = if short { ended() } else { exit };
                self.ended_by_itself(key, exit, Some(ran));
            }
            State::Stopped
            | State::Done
            | State::Waiting(_)
            | State::Backoff { .. }
            | State::Parked { .. }
            | State::Ended { .. } => self.stale += 1,
        }
    }

    /// An end nobody asked for: treated now, or after the procedure it would disturb.
    pub(super) fn ended_by_itself(&mut self, key: ChildKey, exit: Exit, ran: Option<Duration>) {
        if self.procedure.is_none() || self.procedure.starts(key) || self.is_api_start(key) {
            self.treat(key, exit, ran);
        } else {
            let incarnation = self.roster.get(key).map_or(Incarnation::NONE, |child| child.incarnation);
            self.rest(key, State::Ended { exit, ran });
            self.later.push_back(Later::Ended(key, incarnation));
        }
    }

    /// An end that had to wait; void if a stop has consumed it meanwhile (R28).
    pub(super) fn treat_late(&mut self, key: ChildKey, incarnation: Incarnation) {
        let Some(child) = self.roster.get_mut(key) else { return };
        if child.incarnation == incarnation && matches!(child.state, State::Ended { .. }) {
            let state = std::mem::replace(&mut child.state, State::Stopped);
            if let State::Ended { exit, ran } = state {
                self.treat(key, exit, ran);
            }
        }
    }

    /// It will not run again by itself: down with its spec kept, or removed (R5, R9, R39).
    pub(super) fn retire(&mut self, key: ChildKey, drop: bool) {
        if drop || self.is_simple() {
            self.remove(key);
        } else {
            self.rest(key, State::Done);
            self.release(key);
        }
    }

    fn is_current(&mut self, key: ChildKey, incarnation: Incarnation) -> bool {
        let current = self.roster.get(key).is_some_and(|child| child.incarnation == incarnation);
        self.stale += u64::from(!current);
        current
    }

    fn is_api_start(&self, key: ChildKey) -> bool {
        let state = self.roster.get(key).map(|child| &child.state);
        matches!(state, Some(State::Starting { by: By::Add | By::Revive }))
    }

    fn treat(&mut self, key: ChildKey, exit: Exit, ran: Option<Duration>) {
        let Some(child) = self.roster.get(key) else { return };
        if let State::Starting { by: by @ (By::Add | By::Revive) } = child.state {
            return self.api_start_failed(key, by, exit);
        }
        let verdict = judge(child, &exit, ran);
        if ran.is_none() && !child.asks.is_empty() {
            self.answer_up(key, &Err(Refused::StartFailed(exit.clone())));
        }
        let Some(child) = self.roster.get(key) else { return };
        if child.paused.is_some() && verdict.wanted {
            return self.end_paused(key, &verdict, exit);
        }
        let boot_failed =
            ran.is_none() && self.boot == Boot::UnderWay && self.escalates() && self.procedure.starts(key);
        if boot_failed && !verdict.shortage && !verdict.fatal {
            self.report(key, ReportKind::StartError, exit.clone());
            self.rest(key, State::Stopped);
            return self.end(Ended::BootFailed { child: key, exit });
        }
        if (verdict.fatal || verdict.wanted) && !verdict.shortage {
            self.note_end(key, &exit);
        }
        if verdict.loud {
            self.report(key, verdict.kind(), exit);
        }
        if verdict.fatal {
            self.note_rest(key, Outcome::Failed, "parked: its exit code says that trying again is no use");
            self.park(key, true);
        } else if !verdict.wanted {
            self.note_rest(key, Outcome::Interrupted, "it ended, and is not wanted again");
            self.finish_work(key, ran.is_some());
        } else {
            self.restart(key, &verdict, ran);
        }
    }

    /// OTP's calls report nothing and retry nothing: the asker hears of it (R29, R30).
    fn api_start_failed(&mut self, key: ChildKey, by: By, exit: Exit) {
        self.answer_up(key, &Err(Refused::StartFailed(exit)));
        if by == By::Add {
            self.remove(key);
        } else {
            self.rest(key, State::Stopped);
            self.release(key);
        }
    }

    /// R9–R11: its own end, and no restart.
    fn finish_work(&mut self, key: ChildKey, was_up: bool) {
        let Some(child) = self.roster.get_mut(key) else { return };
        child.trial = false;
        let significant = child.spec.significant && was_up;
        let drop = child.spec.restart == Restart::Temporary;
        self.retire(key, drop);
        let ends = significant
            && match self.spec.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !self.significant_alive(),
            };
        if ends {
            self.end(Ended::AutoShutdown);
        }
    }

    /// R10: a significant child that runs, or will.
    fn significant_alive(&self) -> bool {
        let escalates = self.escalates();
        self.roster.keys().filter_map(|key| self.roster.get(key)).any(|child| {
            let down = match &child.state {
                State::Stopped | State::Done => true,
                State::Waiting(_) => escalates && child.waits_for().is_some(),
                State::Backoff { .. }
                | State::Parked { .. }
                | State::Starting { .. }
                | State::Running
                | State::Stopping { .. }
                | State::Ended { .. } => false,
            };
            child.spec.significant && !down
        })
    }

    pub(super) fn report(&mut self, key: ChildKey, kind: ReportKind, exit: Exit) {
        let incarnation = self.roster.get(key).map_or(Incarnation::NONE, |child| child.incarnation);
        self.out.push(Action::Report { kind, child: key, incarnation, exit: Some(exit) });
    }

    /// What a stop that came to its end leads to.
    pub(super) fn stopped(&mut self, key: ChildKey, after: After, exit: Exit) {
        let Some(child) = self.roster.get(key) else { return };
        match after {
            After::TimedOut(by) if !self.procedure.stops(key, &self.roster) => {
                self.rest(key, State::Starting { by });
                return self.ended_by_itself(key, Exit::StartTimeout, None);
            }
            After::Unwell { cause, ran } if !self.procedure.stops(key, &self.roster) => {
                self.rest(key, State::Running);
                return self.ended_by_itself(key, Exit::Unwell { cause }, Some(ran));
            }
            After::TimedOut(_) | After::Unwell { .. } => {}
            After::Down | After::Start | After::Park if child.ends_as_expected(&exit) => {}
            After::Down | After::Start | After::Park => self.report(key, ReportKind::ShutdownError, exit),
        }
        self.settle_down(key, after);
    }
}

fn judge(child: &Child, exit: &Exit, ran: Option<Duration>) -> Verdict {
    let failed = ran.is_none() || matches!(exit, Exit::StartFailed(StartFailure::TooShort { .. }));
    let normal = !failed && child.is_normal(exit);
    let wanted = match child.spec.restart {
        Restart::Permanent => true,
        Restart::Transient => !normal,
        Restart::Temporary => false,
    };
    let fatal = child.is_fatal(exit);
    Verdict { failed, fatal, shortage: exit.is_shortage(), wanted, loud: wanted || fatal || !normal }
}
