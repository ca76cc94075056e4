//! What recovery adds to the end of a child: the incident, and what is done while it is down.
//!
//! An exit is answered by a plain restart, as ever and as fast, while `intensity` lasts; a step that names its cause
//! (`when`) runs before that restart, once per incident. When the restarts are spent, the steps that are no restarts
//! and were not tried yet run in order, one each; then the child is parked. Whatever is done while it is down is done
//! in its backoff: everything that holds for a wait (a group's, a pause's, an operator's) holds for it too.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::Cause;
use crate::exit::Exit;
use crate::id::Incarnation;
use crate::recovery::{Outcome, Situation, Step, Strategy, Why};

use super::action::Refused;
use super::care::{Origin, RecoveryAct, Stage, Taken, Work};
use super::child::State;
use super::fact::{ChildKey, Undone};
use super::machine::Supervisor;
use super::view::Plan;

/// The wait ends this long after the step's time is over, should nobody say how it ended.
const GRACE: Duration = Duration::from_secs(3);

/// Plain restarts of one incident that are told one by one.
const TOLD: u32 = 16;

impl Supervisor {
    /// Something is known of the end that is about to be told, or of what the probes are about to say.
    pub(super) fn classed(&mut self, key: ChildKey, incarnation: Incarnation, class: Arc<str>) {
        let Some(child) = self.roster.get_mut(key).filter(|child| child.incarnation == incarnation) else {
            self.stale += 1;
            return;
        };
        if child.spec.ladder.is_some() {
            child.care.get_or_insert_with(Box::default).class = Some((incarnation, class));
        }
    }

    /// It ended by itself and is wanted again: an incident, or one more attempt of the one that is open.
    pub(super) fn note_end(&mut self, key: ChildKey, exit: &Exit) {
        let Some(child) = self.roster.get_mut(key) else { return };
        if child.spec.ladder.is_none() {
            return;
        }
        let incarnation = child.incarnation;
        let care = child.care.get_or_insert_with(Box::default);
        if let Some(case) = care.case.as_mut().filter(|case| case.plain >= TOLD && case.is_plain()) {
            // One of a loop's many: people know by now, and a loop must cost little.
            (case.origin, case.stage) = (Origin::Exit, Stage::Idle);
            return self.cares.clear(key.slot());
        }
        let class = care.class.take().filter(|(of, _)| *of == incarnation).map(|(_, class)| class);
        let why = Why { class, ..Why::new(Cause::of(exit), exit.to_string()) };
        if care.case.is_none() {
            return self.open(key, why, Origin::Exit, Duration::ZERO);
        }
        self.end_step(key, Outcome::Failed, format!("it ended: {exit}"));
        if let Some(case) = self.case(key) {
            case.origin = Origin::Exit;
            case.why = why;
        }
        self.enter(key, Stage::Idle);
    }

    /// It is started again in the plain way: one more attempt, with a step before it where one names the cause.
    pub(super) fn note_restart(&mut self, key: ChildKey) {
        let (now, copies) = (self.now, self.copies(key));
        let Some((ladder, care, _)) = self.cared(key) else { return };
        let Some(case) = &care.case else { return };
        care.climb.settle(&ladder, now);
        let situation = Situation { why: &case.why, up: false, deaf: false, copies };
        let place = care.climb.before_restart(&ladder, &situation, &case.tried);
        let reason = format!("it is for {}", case.why.word());
        match place.filter(|_| care.breaker.allows(&ladder.breaker, now)) {
            Some(place) => self.mend_with(key, place, ladder.steps[place].clone(), (reason, true)),
            None => {
                let step = Step::new(Strategy::SoftRestart);
                self.note_plain(key, step);
            }
        }
    }

    fn note_plain(&mut self, key: ChildKey, step: Step) {
        let strategy = step.run.clone();
        let Some(case) = self.case(key) else { return };
        if case.plain >= TOLD && case.is_plain() {
            return;
        }
        case.plain += 1;
        case.taken = Some(Taken { place: None, step, ahead: false });
        case.stage = Stage::Idle;
        self.cares.clear(key.slot());
        let reason = "the plain restart after an end".to_owned();
        self.tell(key, RecoveryAct::Began { place: None, strategy, reason, plain: true });
    }

    /// Restarts are spent: is there a step that is none, and that was not tried yet?
    pub(super) fn mend_beyond(&mut self, key: ChildKey) -> bool {
        let (now, copies) = (self.now, self.copies(key));
        let Some((ladder, care, _)) = self.cared(key) else { return false };
        let Some(case) = &mut care.case else { return false };
        let situation = Situation { why: &case.why, up: false, deaf: false, copies };
        let Some(place) = care.climb.beyond_restarts(&ladder, &situation, &case.tried) else { return false };
        if !care.breaker.allows(&ladder.breaker, now) {
            return false;
        }
        case.spent = true;
        let reason = "restarts alone did not help".to_owned();
        self.mend_with(key, place, ladder.steps[place].clone(), (reason, false));
        true
    }

    /// `ahead`: the plain restart follows it.
    fn mend_with(&mut self, key: ChildKey, place: usize, step: Step, (reason, ahead): (String, bool)) {
        let now = self.now;
        if let Some((_, care, _)) = self.cared(key) {
            care.climb.take(place, now);
        }
        if let Some(case) = self.case(key) {
            case.tried.push(place);
            case.taken = Some(Taken { place: Some(place), step: step.clone(), ahead });
        }
        self.enter(key, Stage::MendDue);
        let (place, strategy) = (Some(place), step.run);
        self.tell(key, RecoveryAct::Began { place, strategy, reason, plain: false });
    }

    /// It is about to be started: what is to be done before that is done now, in a backoff of its own. True: it is.
    pub(super) fn mends_first(&mut self, key: ChildKey) -> bool {
        let Some(child) = self.roster.get_mut(key) else { return false };
        let incarnation = child.incarnation;
        let Some(case) = child.care.as_mut().and_then(|care| care.case.as_mut()) else { return false };
        if case.stage != Stage::MendDue {
            return false;
        }
        let Some(step) = case.taken.as_ref().map(|taken| taken.step.clone()) else { return false };
        let task = self.next_task();
        let until = self.after_now(step.timeout);
        self.enter(key, Stage::Mending { task, until });
        let at = Some(until.saturating_add(GRACE));
        self.due(key, at);
        self.set(key, State::Backoff { at, counted: true, plan: Plan::SoftRestart });
        let (work, timeout) = (Work::Carry(step.run), step.timeout);
        self.tell(key, RecoveryAct::Do { task, incarnation, work, timeout });
        true
    }

    /// What was done while it was down has ended: it starts, whatever came of it.
    pub(super) fn mended(&mut self, key: ChildKey, result: Result<(), Undone>) {
        match result {
            Ok(()) => match self.case(key) {
                Some(case) if case.taken.as_ref().is_some_and(|taken| taken.ahead) => {
                    case.before = case.taken.take();
                    self.note_plain(key, Step::new(Strategy::SoftRestart));
                }
                Some(_) | None => self.enter(key, Stage::Leading),
            },
            Err(undone) => {
                let (outcome, text) = undone.outcome();
                self.end_step(key, outcome, text);
                self.note_plain(key, Step::new(Strategy::SoftRestart));
            }
        }
        if matches!(self.roster.get(key).map(|child| &child.state), Some(State::Backoff { .. })) {
            self.due_now(key);
        }
    }

    /// It is ready: if an incident is open, it must hold now.
    pub(super) fn note_ready(&mut self, key: ChildKey) {
        // One that is to be parked has only become ready before its turn came.
        if self.case(key).is_some_and(|case| !case.is_to_park()) {
            self.verify(key);
        }
    }

    /// It will not be started again by itself.
    pub(super) fn note_rest(&mut self, key: ChildKey, outcome: Outcome, text: &str) {
        self.close(key, outcome, text);
    }

    /// Operator `recover`: one step, at once, without breaker and brake.
    pub(super) fn operator_recover(&mut self, key: ChildKey, step: Step, by: &str) -> Result<(), Refused> {
        let Some(child) = self.roster.get(key) else { return Err(Refused::NotFound) };
        if let Some(reason) = &step.unable {
            return Err(Refused::CannotRecover(Arc::clone(reason)));
        }
        if let Some(bound) = self.copies_of(key).and_then(|copies| copies.bound(&step.run)) {
            return Err(Refused::CannotRecover(bound.to_string().into()));
        }
        let runs = child.state == State::Running;
        let needs_it = matches!(step.run.way(), crate::recovery::Way::WhileUp { down: false });
        if needs_it && !runs {
            return Err(Refused::CannotRecover("it needs a worker that runs, and this one does not".into()));
        }
        self.interrupt(key, "somebody asked for something else");
        if let Some(child) = self.roster.get_mut(key) {
            child.stopped &= step.run == Strategy::Quarantine;
        }
        self.open(key, Why::new(Cause::Operator, format!("{by} asked")), Origin::Operator, Duration::ZERO);
        self.take_step(key, None, step, format!("{by} asked for it"));
        Ok(())
    }

    /// Operator `reset-failed`: the ladder begins anew.
    pub(super) fn begin_anew(&mut self, key: ChildKey) {
        let Some((_, care, _)) = self.cared(key) else { return };
        care.climb.begin();
        care.breaker.held();
        care.rests = None;
        if matches!(care.case.as_ref().map(|case| case.stage), Some(Stage::Held { .. })) {
            self.choose(key);
        }
    }
}
