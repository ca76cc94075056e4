//! One step of recovery under way: looked at, carried out, verified, and the end of it.

use std::time::Duration;

use crate::recovery::{BreakerState, Outcome, Step, Way};

use super::care::{Condition, Origin, RecoveryAct, Stage, Taken, TaskNumber, Work};
use super::child::{After, State};
use super::fact::{ChildKey, Undone};
use super::group::Then;
use super::machine::{Later, Supervisor};
use super::quarantine::NO_TRIAL_HELD;

/// Looking at a worker may take this long; then the step goes on without.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// So much longer than a step's own timeout its answer is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// So much longer than its checks should take at worst their first word is waited for.
const UNSURE: Duration = Duration::from_secs(60);

impl Supervisor {
    /// A step is under way: it is looked at first, unless it was already.
    pub(super) fn take_step(&mut self, key: ChildKey, place: Option<usize>, step: Step, reason: String) {
        let strategy = step.run.clone();
        let Some(child) = self.roster.get_mut(key) else { return };
        let (incarnation, runs) = (child.incarnation, child.state == State::Running);
        let Some(case) = child.care.as_mut().and_then(|care| care.case.as_mut()) else { return };
        case.taken = Some(Taken { place, step, ahead: false });
        case.told = None;
        let look = runs && std::mem::replace(&mut case.seen, incarnation) != incarnation;
        self.tell(key, RecoveryAct::Began { place, strategy, reason, plain: false });
        self.tell_breaker(key);
        if !look {
            return self.carry(key);
        }
        let task = self.next_task();
        let until = self.after_now(LOOK);
        self.enter(key, Stage::Gathering { task, until });
        self.tell(key, RecoveryAct::Do { task, incarnation, work: Work::Gather, timeout: LOOK });
    }

    /// Carries the step out.
    pub(super) fn carry(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key) else { return };
        let incarnation = child.incarnation;
        let Some(step) = self.taken(key).map(|taken| taken.step.clone()) else {
            return self.end_looked_at(key);
        };
        match step.run.way() {
            Way::Restart { .. } => self.lead(key, Stage::Leading),
            Way::WhileDown => self.lead(key, Stage::MendDue),
            Way::WhileUp { .. } => {
                let task = self.next_task();
                let until = self.after_now(step.timeout.saturating_add(GRACE));
                self.enter(key, Stage::Doing { task, until });
                let (work, timeout) = (Work::Carry(step.run), step.timeout);
                self.tell(key, RecoveryAct::Do { task, incarnation, work, timeout });
            }
            Way::Park => self.lead(key, Stage::Leading),
        }
    }

    /// Stops and starts it, with those whom a restart of it touches.
    pub(super) fn lead(&mut self, key: ChildKey, stage: Stage) {
        self.enter(key, stage);
        if !self.procedure.is_none() {
            return self.later.push_back(Later::Lead(key));
        }
        self.lead_now(key);
    }

    /// The same, once no procedure is under way.
    pub(super) fn lead_now(&mut self, key: ChildKey) {
        let Some(case) = self.case(key) else { return };
        if !matches!(case.stage, Stage::Leading | Stage::MendDue) {
            return;
        }
        if case.is_to_park() {
            return self.lead_to_parking(key);
        }
        let asked = case.origin == Origin::Operator;
        let (kill, _) = self.stops_with(key);
        let group = self.is_group();
        let Some(child) = self.roster.get(key) else { return };
        match child.state {
            State::Starting { .. } | State::Running if group => {
                self.begin_group(key, Then::Restart { root: key, delay: Duration::ZERO, mailed: false });
            }
            State::Starting { .. } | State::Running => self.stop(key, After::Start),
            State::Stopping { .. } => {
                self.stop_leads_to(key, After::Start);
                if kill {
                    self.kill_child(key);
                }
            }
            // Whom it waits for starts it, in its turn; the step is verified then. Only an operator may jump the queue.
            State::Waiting(_) if !asked => {}
            State::Stopped | State::Done | State::Waiting(_) => self.launch(key),
            State::Backoff { .. } | State::Parked { .. } => self.end_wait(key),
            State::Ended { .. } => {}
        }
    }

    fn lead_to_parking(&mut self, key: ChildKey) {
        match self.roster.get(key).map(|child| &child.state) {
            Some(State::Starting { .. } | State::Running) if !self.is_being_stopped(key) => {
                self.stop(key, After::Park);
            }
            Some(State::Backoff { .. } | State::Stopped | State::Done | State::Waiting(_)) => {
                self.park_for_good_reason(key);
            }
            _ => self.close(key, Outcome::Interrupted, "it was being stopped already"),
        }
    }

    /// The last step: it is down now, and stays so for a while.
    pub(super) fn park_for_good_reason(&mut self, key: ChildKey) {
        let trial = self.roster.get(key).is_some_and(|child| child.trial);
        let why = if trial { NO_TRIAL_HELD } else { "parked: recovery did not help" };
        self.close(key, Outcome::Failed, why);
        self.park(key, false);
    }

    /// How the step that is under way wants it stopped: killed at once, or with less patience.
    pub(super) fn stops_with(&self, key: ChildKey) -> (bool, Option<Duration>) {
        let case = self.roster.get(key).and_then(|child| child.care.as_ref()?.case.as_ref());
        let Some(case) = case.filter(|case| matches!(case.stage, Stage::Leading | Stage::MendDue)) else {
            return (false, None);
        };
        let kill =
            case.taken.as_ref().is_some_and(|taken| taken.step.run.way() == Way::Restart { kill: true });
        (kill, case.patience)
    }

    /// The shell has done what it was told.
    pub(super) fn performed(&mut self, key: ChildKey, of: TaskNumber, result: Result<(), Undone>) {
        let Some(case) = self.case(key) else { return };
        match case.stage {
            Stage::Gathering { task, .. } if task == of => self.carry(key),
            Stage::Doing { task, .. } if task == of => match result {
                Ok(()) => self.done_while_up(key),
                Err(undone) => self.step_undone(key, undone),
            },
            Stage::Mending { task, .. } if task == of => self.mended(key, result),
            Stage::Idle
            | Stage::Asking { .. }
            | Stage::Approval { .. }
            | Stage::Delay { .. }
            | Stage::Held { .. }
            | Stage::Gathering { .. }
            | Stage::Doing { .. }
            | Stage::Leading
            | Stage::MendDue
            | Stage::Mending { .. }
            | Stage::Healing { .. }
            | Stage::Verifying { .. } => {}
        }
    }

    fn done_while_up(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key) else { return };
        let incarnation = child.incarnation;
        if child.state != State::Running {
            return self.close(key, Outcome::Ok, "it was done; the worker does not run");
        }
        let condition = child.care.as_ref().and_then(|care| care.condition_of(incarnation));
        match condition {
            Some(Condition::Unwell) => self.heal(key),
            Some(Condition::Well | Condition::Unknown) | None => self.verify(key),
        }
    }

    /// Its health must turn. What a probe says is heard only of looks that began after this.
    fn heal(&mut self, key: ChildKey) {
        let until = self.after_now(self.verify_time(key));
        let latest = until.saturating_add(UNSURE);
        self.enter(key, Stage::Healing { until, latest, looks: None });
    }

    /// It is ready, or its health has turned: it must hold now.
    pub(super) fn verify(&mut self, key: ChildKey) {
        let verify = self.verify_time(key);
        if self.case(key).is_none() {
            return;
        }
        if verify.is_zero() {
            return self.held_up(key);
        }
        let proven = self.is_proven(key);
        let until = self.after_now(if proven { verify } else { self.waits_for_checks(key) });
        // Checks that work now and then begin it anew, and not for ever.
        let latest = match self.case(key).map(|case| case.stage) {
            Some(Stage::Verifying { latest, .. }) => latest,
            Some(_) | None => until.max(self.after_now(verify)).saturating_add(self.waits_for_checks(key)),
        };
        let until = if proven { until } else { until.min(latest) };
        self.enter(key, Stage::Verifying { until, proven, latest });
    }

    /// Whether its own checks, if it has some, say that it works. Of one that ran before the incident and that they said
    /// nothing against, no news is good news.
    fn is_proven(&self, key: ChildKey) -> bool {
        let Some(child) = self.roster.get(key) else { return false };
        let care = child.care.as_ref();
        let ran =
            care.and_then(|care| care.case.as_ref()).is_some_and(|case| case.opened == child.incarnation);
        match care.and_then(|care| care.condition_of(child.incarnation)) {
            Some(Condition::Well) => true,
            Some(Condition::Unknown | Condition::Unwell) => child.spec.heard_within.is_zero(),
            None => ran || child.spec.heard_within.is_zero(),
        }
    }

    /// How long its checks may take to say something; a runtime that is late itself has some time to spare.
    pub(super) fn waits_for_checks(&self, key: ChildKey) -> Duration {
        self.roster.get(key).map_or(UNSURE, |child| child.spec.heard_within.saturating_add(UNSURE))
    }

    /// The step held.
    pub(super) fn held_up(&mut self, key: ChildKey) {
        let verify = crate::units::format_duration(self.verify_time(key));
        let Some(child) = self.roster.get_mut(key) else { return };
        let Some(care) = &mut child.care else { return };
        let Some(case) = &mut care.case else { return };
        let laddered = [&case.taken, &case.before].into_iter().flatten().any(|taken| taken.place.is_some());
        if case.spent {
            child.window.clear();
        }
        if laddered {
            care.breaker.held();
        }
        self.close(key, Outcome::Ok, format!("well for {verify}"));
        self.tell_breaker(key);
    }

    /// The step did not help.
    pub(super) fn step_failed(&mut self, key: ChildKey, text: impl Into<String>) {
        self.step_undone(key, Undone::Failed(text.into()));
    }

    /// The step did not help, or cannot be taken after all.
    fn step_undone(&mut self, key: ChildKey, undone: Undone) {
        let (outcome, text) = undone.outcome();
        self.end_step(key, outcome, text.clone());
        let Some(child) = self.roster.get(key) else { return };
        let incarnation = child.incarnation;
        let Some(care) = &child.care else { return };
        let Some(case) = &care.case else { return };
        let unwell = care.condition_of(incarnation) == Some(Condition::Unwell);
        let runs = child.state == State::Running;
        if case.origin == Origin::Operator {
            let text = if outcome == Outcome::Failed { "what was asked for did not help" } else { &text };
            return self.close(key, Outcome::Failed, text);
        }
        if let Some(case) = self.case(key) {
            // From here on it is led by its health, whatever brought it here.
            case.origin = Origin::Verdict;
        }
        // What overtook a step may have done what it was for: that is seen first.
        if runs && unwell && outcome == Outcome::Failed {
            self.choose(key);
        } else if runs {
            self.heal(key);
        } else {
            self.enter(key, Stage::Idle);
        }
    }

    /// The step that is under way has come to this, and with it what was done before it.
    pub(super) fn end_step(&mut self, key: ChildKey, outcome: Outcome, text: impl Into<String>) {
        let now = self.now;
        let Some((ladder, care, _)) = self.cared(key) else { return };
        let Some(case) = &mut care.case else { return };
        let Some(taken) = case.taken.take() else { return self.give_back(key, false) };
        let before = case.before.take();
        care.climb.touch(now);
        match (before.as_ref().unwrap_or(&taken).place, outcome) {
            (Some(_), Outcome::Failed) => care.breaker.failed(&ladder.breaker, now),
            (Some(_), Outcome::Interrupted | Outcome::Skipped) => care.breaker.interrupted(),
            (Some(_), Outcome::Ok) | (None, _) => {}
        }
        let text = text.into();
        for ended in std::iter::once(taken).chain(before) {
            let (strategy, text) = (ended.step.run, text.clone());
            self.tell(key, RecoveryAct::Ended { strategy, outcome, text });
        }
        self.give_back(key, outcome == Outcome::Ok);
        self.tell_breaker(key);
    }

    /// The incident is over.
    pub(super) fn close(&mut self, key: ChildKey, outcome: Outcome, text: impl Into<String>) {
        let text = text.into();
        self.end_step(key, outcome, text.clone());
        let Some(child) = self.roster.get_mut(key) else { return };
        if child.care.as_mut().and_then(|care| care.case.take()).is_none() {
            return;
        }
        self.watch_breaker(key);
        self.tell(key, RecoveryAct::Closed { outcome, text });
        self.touch(key);
    }

    /// It does not run any more, and not by an end of its own: what was under way while it ran is cut short. The incident
    /// stays open, and is verified once its group has started it again.
    pub(super) fn note_taken_down(&mut self, key: ChildKey) {
        let Some(case) = self.case(key).filter(|case| case.stage.is_while_up()) else { return };
        if case.origin == Origin::Operator {
            return self.interrupt(key, "it was stopped with its group");
        }
        case.told = None;
        self.end_step(key, Outcome::Interrupted, "it was stopped with its group");
        self.enter(key, Stage::Idle);
    }

    /// No incident is open. A breaker that is will be half open by time alone, and people shall see it.
    fn watch_breaker(&mut self, key: ChildKey) {
        let now = self.now;
        let at = self.cared(key).and_then(|(ladder, care, _)| {
            let open = care.breaker.state(&ladder.breaker, now) == BreakerState::Open;
            care.breaker.half_open_at(&ladder.breaker).filter(|_| open)
        });
        self.cares.set(key.slot(), at);
    }

    /// Something else comes first.
    pub(super) fn interrupt(&mut self, key: ChildKey, text: &str) {
        self.close(key, Outcome::Interrupted, text);
    }
}
