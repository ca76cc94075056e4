//! The ladder: what is done about a child that runs and does not work, one step after the other.
//!
//! ```text
//! verdict ─► open ─► choose ─► leave? ─► (approval, delay) ─► look at it ─► step ─► ready ─► verify ─► closed
//!                      ▲                                                      │        │
//!                      └────────────────────── it failed ◄────────────────────┴────────┘
//! ```
//!
//! Facts are level-triggered: a verdict that is lost comes again, leave that was not answered is asked for again, and
//! every stage has a deadline, so that no incident can hang. At most one step is under way for a child (H2). The steps
//! are no restart events: `intensity` counts none of them. What follows an *exit* is [`super::mend`]'s.

use std::sync::Arc;
use std::time::Duration;

use crate::health::Verdict;
use crate::id::Incarnation;
use crate::recovery::{BreakerState, Ladder, Outcome, Situation, Step, Strategy, Why};

use super::action::Action;
use super::care::{Care, Case, CaseNumber, Condition, Origin, RecoveryAct, Stage, Taken, TaskNumber, Waits};
use super::child::State;
use super::fact::{ChildKey, Undone};
use super::machine::Supervisor;
use super::spec::{Restart, Time};

/// Leave that was not given is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// One look may have begun before a step was done; the next one has not.
const NEW_LOOKS: u64 = 2;

fn has_looked_anew(first: Option<u64>, seen: u64) -> bool {
    first.is_some_and(|first| seen >= first + NEW_LOOKS)
}

impl Supervisor {
    /// The probes have spoken of the incarnation that there is.
    pub(super) fn judged_on_ladder(&mut self, key: ChildKey, incarnation: Incarnation, verdict: &Verdict) {
        let Some(child) = self.roster.get_mut(key) else { return };
        let condition = match &verdict.unwell {
            Some(_) => Condition::Unwell,
            None if verdict.holds => Condition::Well,
            None => Condition::Unknown,
        };
        if child.care.is_none() && condition != Condition::Unwell && !child.trial {
            return;
        }
        let care = child.care.get_or_insert_with(Box::default);
        care.condition = Some((incarnation, condition));
        care.looks = verdict.unwell.as_ref().and_then(|unwell| unwell.looks);
        // Its trouble had that name; what comes after it has its own.
        if verdict.unwell.is_none() && child.state == State::Running {
            care.class = None;
        }
        match (&verdict.unwell, condition) {
            (Some(unwell), _) => {
                let class = care
                    .class
                    .as_ref()
                    .filter(|(of, _)| *of == incarnation)
                    .map(|(_, class)| Arc::clone(class));
                let why = Why { class, ..Why::new(unwell.cause, unwell.message.as_str()) };
                if child.trial && care.case.is_none() {
                    return self.trial_is_unwell(key, why, unwell.patience, unwell.lasted);
                }
                self.unwell(key, why, unwell.dead, unwell.patience, unwell.lasted);
            }
            (None, Condition::Well) => self.well(key),
            (None, Condition::Unknown | Condition::Unwell) => self.unsure(key),
        }
    }

    /// A trial does not hold: it is looked at, and parked again.
    fn trial_is_unwell(&mut self, key: ChildKey, why: Why, patience: Option<Duration>, lasted: Duration) {
        let Some(child) = self.roster.get(key) else { return };
        let spared = child.paused.is_some() || child.stopped || child.spec.restart == Restart::Temporary;
        if spared || child.state != State::Running || self.is_leaving_alone(key) {
            return;
        }
        self.open(key, why, Origin::Verdict, lasted);
        if let Some(case) = self.case(key) {
            case.patience = patience;
        }
        self.take_step(key, None, Step::new(Strategy::Quarantine), "its trial did not hold".to_owned());
    }

    /// Nobody can tell any more how it is: what it has held so far proves nothing.
    fn unsure(&mut self, key: ChildKey) {
        let now = self.now;
        match self.case(key).map(|case| case.stage) {
            Some(Stage::Verifying { proven: true, latest, .. }) if now >= latest => {
                self.interrupt(key, "its checks say now that it works and now nothing");
            }
            Some(Stage::Verifying { proven: true, .. }) => self.verify(key),
            Some(_) | None => {}
        }
    }

    fn unwell(&mut self, key: ChildKey, why: Why, deaf: bool, patience: Option<Duration>, lasted: Duration) {
        let now = self.now;
        let Some(child) = self.roster.get_mut(key) else { return };
        let spared = child.paused.is_some()
            || child.stopped
            || child.trial
            || child.spec.restart == Restart::Temporary;
        let runs = child.state == State::Running;
        let Some(care) = child.care.as_mut().filter(|_| runs) else { return };
        // What somebody asked for is verified whatever else holds.
        let asked = care.case.as_ref().is_some_and(|case| case.origin == Origin::Operator);
        if spared && !asked {
            return;
        }
        let Some(case) = &mut care.case else {
            if care.rests.is_some_and(|until| until > now) || self.is_leaving_alone(key) {
                return;
            }
            self.open(key, why, Origin::Verdict, lasted);
            if let Some(case) = self.case(key) {
                (case.deaf, case.patience) = (deaf, patience);
            }
            return self.choose(key);
        };
        (case.deaf, case.patience) = (deaf, patience);
        match case.stage {
            Stage::Verifying { .. } => {
                let text = format!("unwell again: {}", why.text);
                case.why = why;
                self.step_failed(key, text);
            }
            Stage::Idle => self.choose(key),
            // What is under way comes to its own end; its deadline sees to that.
            Stage::Asking { .. }
            | Stage::Approval { .. }
            | Stage::Delay { .. }
            | Stage::Held { .. }
            | Stage::Gathering { .. }
            | Stage::Doing { .. }
            | Stage::Leading
            | Stage::MendDue
            | Stage::Mending { .. } => case.why = why,
            Stage::Healing { until, latest, looks } => {
                case.stage = Stage::Healing { until, latest, looks: looks.or(care.looks) };
                case.why = why;
            }
        }
    }

    fn well(&mut self, key: ChildKey) {
        self.trial_is_well(key);
        let Some(case) = self.case(key) else { return };
        match case.stage {
            Stage::Healing { .. } | Stage::Verifying { proven: false, .. } => self.verify(key),
            Stage::Idle
            | Stage::Asking { .. }
            | Stage::Approval { .. }
            | Stage::Delay { .. }
            | Stage::Held { .. }
                if case.origin == Origin::Verdict =>
            {
                self.close(key, Outcome::Ok, "well again by itself");
            }
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
            | Stage::Verifying { .. } => {}
        }
    }

    fn is_leaving_alone(&self, key: ChildKey) -> bool {
        self.ended.is_some() || self.is_being_stopped(key)
    }

    /// An incident begins.
    pub(super) fn open(&mut self, key: ChildKey, why: Why, origin: Origin, lasted: Duration) {
        let Some(child) = self.roster.get_mut(key) else { return };
        let incarnation = child.incarnation;
        let care = child.care.get_or_insert_with(Box::default);
        care.cases += 1;
        care.case = Some(Case {
            number: CaseNumber(care.cases),
            why: why.clone(),
            opened: incarnation,
            origin,
            deaf: false,
            patience: None,
            stage: Stage::Idle,
            taken: None,
            before: None,
            tried: smallvec::SmallVec::new(),
            skipped: smallvec::SmallVec::new(),
            seen: Incarnation::NONE,
            leave: false,
            spent: false,
            plain: 0,
            told: None,
        });
        self.tell(key, RecoveryAct::Opened { incarnation, why, lasted });
        self.touch(key);
    }

    /// Whose turn is it?
    pub(super) fn choose(&mut self, key: ChildKey) {
        let (now, copies) = (self.now, self.copies(key));
        let Some((ladder, care, running)) = self.cared(key) else { return };
        let Some(case) = &mut care.case else { return };
        case.stage = Stage::Idle;
        if ladder.steps.is_empty() {
            return self.end_plainly(key);
        }
        care.climb.settle(&ladder, now);
        if care.breaker.state(&ladder.breaker, now) == BreakerState::Open {
            return self.hold_for_breaker(key);
        }
        let situation = Situation { why: &case.why, up: running, deaf: case.deaf, copies };
        let options = care.climb.options(&ladder, &situation);
        let mut skips = Vec::new();
        for (place, skip) in options.skipped {
            if !case.skipped.contains(&place) {
                case.skipped.push(place);
                skips.push((ladder.steps[place].run.clone(), skip.to_string()));
            }
        }
        for (strategy, reason) in skips {
            self.tell(key, RecoveryAct::Skipped { strategy, reason });
        }
        if options.allowed.is_empty() {
            return self.come_to_an_end(key);
        }
        self.ask(key, None);
    }

    /// No step is left: the ladder begins anew after quiet time.
    fn come_to_an_end(&mut self, key: ChildKey) {
        let now = self.now;
        let Some((ladder, care, _)) = self.cared(key) else { return };
        care.rests = Some(now.saturating_add(ladder.cooldown));
        let cooldown = crate::units::format_duration(ladder.cooldown);
        let text = format!("no step of the ladder is left; it begins anew in {cooldown}");
        self.close(key, Outcome::Failed, text);
    }

    /// Asks for leave. `only`: the step for which everything else was waited for.
    fn ask(&mut self, key: ChildKey, only: Option<usize>) {
        let copies = self.copies(key);
        let Some((ladder, care, running)) = self.cared(key) else { return };
        let Some(case) = &mut care.case else { return };
        let situation = Situation { why: &case.why, up: running, deaf: case.deaf, copies };
        let places = match only {
            Some(place) => smallvec::smallvec![place],
            None => care.climb.options(&ladder, &situation).allowed,
        };
        let steps = places
            .into_iter()
            .filter_map(|place| ladder.steps.get(place).map(|step| (place, step.run.clone())));
        let allowed: Vec<(usize, Strategy)> = steps.collect();
        if allowed.is_empty() {
            return self.come_to_an_end(key);
        }
        // Asked again it is the same question: an answer that is late is as good.
        let same = case.stage.question().filter(|_| case.leave);
        // From now on a place may be taken for it, whether the answer is heard or not.
        case.leave = true;
        let question = same.unwrap_or_else(|| self.next_task());
        let until = self.after_now(ASK_AGAIN);
        self.enter(key, Stage::Asking { question, until, only });
        self.tell(key, RecoveryAct::Ask { question, allowed });
    }

    /// The answer to a question for leave. Whoever does not ask any more has given back what it may have got.
    pub(super) fn leave_answered(
        &mut self,
        key: ChildKey,
        to: TaskNumber,
        answer: Result<(usize, String), &'static str>,
    ) {
        let Some(Stage::Asking { question, only, until }) = self.case(key).map(|case| case.stage) else {
            return;
        };
        if question != to {
            return;
        }
        match answer {
            Err(reason) => self.wait_for(key, Waits::Brake(reason), None, Some(until)),
            Ok((place, reason)) => self.leave_given(key, only, place, reason),
        }
    }

    fn leave_given(&mut self, key: ChildKey, only: Option<usize>, place: usize, reason: String) {
        let copies = self.copies(key);
        let Some((ladder, care, running)) = self.cared(key) else { return };
        let Some(case) = &mut care.case else { return };
        let situation = Situation { why: &case.why, up: running, deaf: case.deaf, copies };
        let allowed = care.climb.options(&ladder, &situation).allowed;
        let place = match only {
            Some(only) if allowed.contains(&only) => only,
            // It was waited for so long that it cannot help any more.
            Some(_) => {
                self.give_back(key, false);
                return self.choose(key);
            }
            // Who answers may only choose among what is allowed.
            None if allowed.contains(&place) => place,
            None => match allowed.first() {
                Some(first) => *first,
                None => return self.come_to_an_end(key),
            },
        };
        let Some(step) = ladder.steps.get(place) else { return };
        if only.is_none() && (step.approval.is_some() || !step.delay.is_zero()) {
            self.give_back(key, false);
            return self.wait_for_step(key, place, step.approval, step.delay);
        }
        self.begin(key, place, step.clone(), reason);
    }

    fn wait_for_step(&mut self, key: ChildKey, place: usize, approval: Option<Duration>, delay: Duration) {
        let (what, until) = match approval {
            Some(limit) => (Waits::Approval, self.after_now(limit)),
            None => (Waits::Delay, self.after_now(delay)),
        };
        let stage = match what {
            Waits::Approval => Stage::Approval { place, until },
            Waits::Delay | Waits::Breaker | Waits::Brake(_) => Stage::Delay { place, until },
        };
        self.enter(key, stage);
        self.wait_for(key, what, Some(place), Some(until));
    }

    /// Somebody approved the step that waits for it.
    pub(super) fn approve(&mut self, key: ChildKey) -> bool {
        let Some(Stage::Approval { place, .. }) = self.case(key).map(|case| case.stage) else { return false };
        self.pass_on(key, place);
        true
    }

    /// Approved: now its delay, then the leave.
    fn pass_on(&mut self, key: ChildKey, place: usize) {
        let delay = self.cared(key).and_then(|(ladder, ..)| ladder.steps.get(place).map(|step| step.delay));
        match delay {
            Some(delay) if !delay.is_zero() => self.wait_for_step(key, place, None, delay),
            Some(_) | None => self.ask(key, Some(place)),
        }
    }

    fn begin(&mut self, key: ChildKey, place: usize, step: Step, reason: String) {
        let now = self.now;
        let Some((ladder, care, _)) = self.cared(key) else { return };
        if !care.breaker.allows(&ladder.breaker, now) {
            return self.hold_for_breaker(key);
        }
        care.climb.take(place, now);
        let Some(case) = &mut care.case else { return };
        case.tried.push(place);
        self.take_step(key, Some(place), step, reason);
    }

    /// A deadline of an incident has come.
    pub(super) fn care_due(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get(key) else { return };
        let incarnation = child.incarnation;
        let Some(care) = &child.care else { return };
        let condition = care.condition_of(incarnation);
        let Some(case) = &care.case else { return self.tell_breaker(key) };
        match case.stage {
            Stage::Asking { only, .. } => self.ask(key, only),
            Stage::Approval { place, .. } => self.pass_over(key, place),
            Stage::Delay { place, .. } => self.ask(key, Some(place)),
            Stage::Held { .. } => self.choose(key),
            Stage::Gathering { .. } => self.carry(key),
            Stage::Doing { .. } => self.step_failed(key, "it was not done in time"),
            Stage::Mending { .. } => {
                self.mended(key, Err(Undone::Failed("it was not done in time".to_owned())))
            }
            Stage::Healing { until, latest, looks }
                if until < latest && care.looks.is_some_and(|seen| !has_looked_anew(looks, seen)) =>
            {
                let until = self.after_now(ASK_AGAIN).min(latest);
                self.enter(key, Stage::Healing { until, latest, looks });
            }
            Stage::Healing { .. } if condition == Some(Condition::Unwell) => {
                self.step_failed(key, "it is as unwell as before");
            }
            Stage::Healing { .. } => self.verify(key),
            Stage::Verifying { proven: true, .. } => self.held_up(key),
            // Neither it nor the step can help that.
            Stage::Verifying { proven: false, .. } => {
                self.interrupt(key, "none of its checks says whether it works");
            }
            Stage::Idle | Stage::Leading | Stage::MendDue => {}
        }
    }

    /// Nobody approved it in time.
    fn pass_over(&mut self, key: ChildKey, place: usize) {
        let now = self.now;
        let Some((ladder, care, _)) = self.cared(key) else { return };
        care.climb.take(place, now);
        let Some(step) = ladder.steps.get(place) else { return };
        let (strategy, reason) = (step.run.clone(), "nobody approved it in time".to_owned());
        self.tell(key, RecoveryAct::Skipped { strategy, reason });
        self.choose(key);
    }

    /// The place that it may have among the steps under way is free for others.
    pub(super) fn give_back(&mut self, key: ChildKey, held: bool) {
        if self.case(key).is_some_and(|case| std::mem::take(&mut case.leave)) {
            self.tell(key, RecoveryAct::Return { held });
        }
    }

    fn hold_for_breaker(&mut self, key: ChildKey) {
        let now = self.now;
        self.give_back(key, false);
        let Some((ladder, care, _)) = self.cared(key) else { return };
        let at = care.breaker.half_open_at(&ladder.breaker).unwrap_or(now).max(now + ASK_AGAIN);
        self.enter(key, Stage::Held { until: at });
        self.wait_for(key, Waits::Breaker, None, Some(at));
        self.tell_breaker(key);
    }

    fn wait_for(&mut self, key: ChildKey, what: Waits, place: Option<usize>, until: Option<Time>) {
        let Some((ladder, care, _)) = self.cared(key) else { return };
        let Some(case) = &mut care.case else { return };
        if case.told.replace(what) == Some(what) {
            return;
        }
        let strategy = place.and_then(|place| ladder.steps.get(place)).map(|step| step.run.clone());
        self.tell(key, RecoveryAct::Waits { strategy, what, until });
    }

    pub(super) fn tell_breaker(&mut self, key: ChildKey) {
        let now = self.now;
        let Some((ladder, care, _)) = self.cared(key) else { return };
        let state = care.breaker_state(&ladder, now);
        if std::mem::replace(&mut care.shown, state) != state {
            self.tell(key, RecoveryAct::Breaker { state });
            self.touch(key);
        }
    }

    /// Changes what goes on, and its deadline with it.
    pub(super) fn enter(&mut self, key: ChildKey, stage: Stage) {
        let Some(case) = self.case(key) else { return };
        case.stage = stage;
        self.cares.set(key.slot(), stage.until());
        self.touch(key);
    }

    pub(super) fn tell(&mut self, key: ChildKey, act: RecoveryAct) {
        let case = self.roster.get(key).and_then(|child| child.care.as_ref()).map_or(0, |care| care.cases);
        self.out.push(Action::Recovery { child: key, case: CaseNumber(case), act: Box::new(act) });
    }

    pub(super) fn case(&mut self, key: ChildKey) -> Option<&mut Case> {
        self.roster.get_mut(key)?.care.as_mut()?.case.as_mut()
    }

    pub(super) fn taken(&mut self, key: ChildKey) -> Option<&Taken> {
        self.case(key)?.taken.as_ref()
    }

    /// A child's ladder and what is kept of it; `true`: it runs.
    pub(super) fn cared(&mut self, key: ChildKey) -> Option<(Arc<Ladder>, &mut Care, bool)> {
        let child = self.roster.get_mut(key)?;
        let running = child.state == State::Running;
        let care = child.care.as_deref_mut()?;
        Some((child.spec.ladder.clone().unwrap_or_default(), care, running))
    }

    pub(super) fn verify_time(&self, key: ChildKey) -> Duration {
        self.roster.get(key).map_or(Duration::ZERO, |child| child.spec.verify)
    }

    pub(super) fn next_task(&mut self) -> TaskNumber {
        self.tasks += 1;
        TaskNumber(self.tasks)
    }
}
