//! Carries out what the policy says about recovery, and tells people about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::WorkerSettings;
use crate::event::{Cause, CauseName, Event, EventKind};
use crate::exit::Exit;
use crate::id::{Incarnation, InstanceId};
use crate::policy::{ChildKey, ChildView, Fact, RecoveryAct, TaskNumber, Time, Undone, Waits};
use crate::recovery::learning::Case;
use crate::recovery::{BrakeChange, Evidence, Learn, Outcome, Strategy, Way, Why};
use crate::worker::Sights;

use super::actor::{SupervisorMsg, SupervisorState};
use super::board::{InstanceState, Recovering, Trouble};
use super::healer::Question;
use super::lesson::{Lesson, teaches};
use super::means::DoThis;
use super::tree::Who;

/// The incident that is open for a child.
#[derive(Debug, Clone)]
pub(super) struct OpenIncident {
    pub(super) id: Arc<str>,
    class: Arc<str>,
    /// The contract's.
    kind: Cause,
    /// The same, or the user's name for it.
    pub(super) cause: CauseName,
    /// Which start it is about.
    incarnation: Incarnation,
    /// When it began.
    since: Time,
    /// What could be measured then, until a lesson takes it along.
    case: Option<Case>,
    /// The step that is under way, and behind what was done before it.
    steps: Vec<UnderWay>,
}

/// A step whose end is not known yet.
#[derive(Debug, Clone)]
struct UnderWay {
    strategy: Strategy,
    began: Time,
    /// It is one of the ladder's.
    laddered: bool,
}

impl OpenIncident {
    /// Whether the step that is under way is one of the ladder's.
    pub(super) fn is_laddered(&self) -> bool {
        self.steps.last().is_some_and(|step| step.laddered)
    }
}

/// What came of something that was done for a step.
pub(crate) struct Performed {
    /// For whom.
    pub(crate) child: ChildKey,
    /// What was to be done.
    pub(crate) task: TaskNumber,
    /// Whether it only was to be looked at.
    pub(crate) look: bool,
    /// Whether another identity begins with its next start.
    pub(crate) anew: bool,
    /// What was seen, or why it was not done.
    pub(crate) result: Result<Sights, Undone>,
}

impl SupervisorState {
    /// One act of recovery.
    pub(super) fn recovery(&mut self, child: ChildKey, act: RecoveryAct) {
        let Some(instance) = self.instance_of(child) else { return };
        match act {
            RecoveryAct::Opened { incarnation, why, lasted } => {
                self.opened(child, &instance, incarnation, &why, lasted);
            }
            RecoveryAct::Ask { question, allowed } => self.ask_leave(child, question, &instance, &allowed),
            RecoveryAct::Return { held } => {
                let change = self.plane.healer.returned(self.plane.now(), &instance, held);
                self.tell_brake(change);
            }
            RecoveryAct::Do { task, incarnation, work, timeout } => {
                self.have_done(child, &instance, DoThis { task, incarnation, work, timeout });
            }
            RecoveryAct::Skipped { strategy, reason } => {
                let at = Timestamp::now();
                let text = format!("{strategy} is passed over: {reason}");
                self.on_incident(child, |incident| incident.skip(strategy.clone(), reason, at));
                self.count(&instance, &strategy, Outcome::Skipped);
                self.tell_recovery(child, EventKind::RecoverySkipped, text);
            }
            RecoveryAct::Waits { strategy, what, until } => self.tell_waiting(child, strategy, what, until),
            RecoveryAct::Began { place, strategy, reason, plain } => {
                self.began(child, strategy, reason, (place.is_some(), plain));
            }
            RecoveryAct::Ended { strategy, outcome, text } => {
                self.ended(child, &instance, &strategy, outcome, &text);
            }
            RecoveryAct::Closed { outcome, text } => self.closed(child, outcome, &text),
            RecoveryAct::TrialHeld { verify } => self.trial_held(child, &instance, verify),
            RecoveryAct::Breaker { state } => {
                let text = format!("the breaker of its ladder is {}", state.word().replace('_', " "));
                self.tell_recovery(child, EventKind::BreakerChanged, text);
            }
        }
    }

    /// Something was done, or not.
    pub(super) fn performed(&mut self, done: Performed) {
        let Performed { child, task, look, anew, result } = done;
        let result = match result {
            Ok(sights) => {
                if anew {
                    self.begins_anew(child, &sights);
                }
                if let Some(incident) = self.incident_of(child) {
                    self.plane.healer.found(&incident, sights);
                }
                Ok(())
            }
            // What cannot be seen does not hold a step up.
            Err(_) if look => Ok(()),
            Err(undone) => Err(undone),
        };
        self.fact(Fact::Performed { child, task, result });
    }

    /// Whoever is recreated has nothing behind it: its next start is its first.
    fn begins_anew(&mut self, child: ChildKey, said: &[(&'static str, String)]) {
        let incarnation = self.core.child(child).map_or(Incarnation::NONE, |view| view.incarnation);
        if let Some(slot) = self.slot_mut(child) {
            slot.first = true;
        }
        self.on_board(child, InstanceState::begin_anew);
        for (_, text) in said {
            self.say(
                EventKind::WorkerAdded,
                child,
                incarnation,
                format!("{text}; its restarts count from zero"),
            );
        }
    }

    /// What it said last belongs to the incident that its end began, or went on with.
    pub(super) fn words_are_evidence(&self, child: ChildKey, incarnation: Incarnation, lines: &[String]) {
        let newest = self.core.child(child).map(|view| view.incarnation);
        let fits = newest.is_some_and(|newest| newest.0.saturating_sub(incarnation.0) <= 1);
        let Some(incident) = self.incident_of(child).filter(|_| fits && !lines.is_empty()) else { return };
        let text = lines.join("\n");
        // Before a step it was looked at, and what it had said by then is known.
        let known = self.plane.healer.incident(&incident).is_some_and(|incident| incident.has_said(&text));
        if !known {
            self.plane.healer.found(&incident, vec![("output", text)]);
        }
    }

    /// An end is about to be told: if the user has a name for it, that comes first.
    pub(super) fn classify(
        &mut self,
        child: ChildKey,
        incarnation: Incarnation,
        exit: &Exit,
        lines: Vec<String>,
    ) {
        let plane = Arc::clone(&self.plane);
        let class = plane.healer.class_of(|| {
            let trouble = self.trouble(child);
            let said = trouble.as_ref().map(ToString::to_string);
            Evidence {
                cause: Some(Cause::of(exit)),
                exit_code: exit.code(),
                signal: exit.signal().map(crate::exit::signal_name),
                probe: None,
                message: exit.to_string(),
                named: trouble.and_then(|trouble| trouble.class),
                lines: said.into_iter().chain(lines).collect(),
            }
        });
        if let Some(class) = class {
            if let Some(slot) = self.slot_mut(child) {
                slot.class = Some((incarnation, Arc::clone(&class)));
            }
            self.fact(Fact::Classed { child, incarnation, class });
        }
    }

    /// What went wrong in it last, by its own word.
    pub(super) fn trouble(&mut self, child: ChildKey) -> Option<Trouble> {
        self.on_board(child, |entry| entry.told.as_ref()?.trouble.clone()).flatten()
    }

    /// What people see of an open incident.
    pub(super) fn recovering(&self, child: ChildKey, view: &ChildView<'_>) -> Option<Recovering> {
        let care = view.care?;
        let open = self.slot(child)?.incident.as_ref()?;
        Some(Recovering {
            incident: Arc::clone(&open.id),
            cause: open.cause.word().into(),
            strategy: care.strategy.cloned(),
            stage: care.stage,
            until: care.until.map(|until| self.plane.moment(until)),
        })
    }

    /// The brake went on or off.
    pub(super) fn tell_brake(&self, change: Option<BrakeChange>) {
        let text = match change {
            None => return,
            Some(BrakeChange::On { unwell, of }) => format!(
                "{unwell} of {of} instances fell ill at once: recovery is held, one of them is tried (recovery.max_unavailable)"
            ),
            Some(BrakeChange::Off) => "recovery goes on".to_owned(),
        };
        self.plane.tell(EventKind::BrakeChanged, text);
    }

    fn opened(
        &mut self,
        child: ChildKey,
        instance: &InstanceId,
        incarnation: Incarnation,
        why: &Why,
        lasted: Duration,
    ) {
        let evidence = self.evidence(child, why);
        let cause = CauseName::of(why.cause, why.class.clone());
        let word = why.word();
        let (id, class) = self.plane.healer.open(instance, word, &evidence, lasted, why.class.clone());
        // What somebody asked for has no pattern, and of whom nothing is learned neither.
        let counts = why.cause.is_failure() && self.learns(child);
        let case = counts.then(|| self.case_of(child, instance, &class, why.cause));
        if let Some(case) = &case {
            self.plane.healer.note(case.clone());
        }
        if evidence.exit_code.is_some() || evidence.signal.is_some() {
            let memory = self.plane.healer.memory_of(instance);
            let memory = memory.map(|part| format!("; its memory was last seen at {:.0} %", part * 100.0));
            let text = format!("{}{}", why.text, memory.unwrap_or_default());
            self.plane.healer.found(&id, vec![("exit", text)]);
        }
        let since = self.plane.now();
        if let Some(slot) = self.slot_mut(child) {
            slot.cause = Some(cause.clone());
            let (kind, steps) = (why.cause, Vec::new());
            let open = OpenIncident { id, class, kind, cause, incarnation, since, case, steps };
            slot.incident = Some(Box::new(open));
        }
        self.tell_recovery(child, EventKind::IncidentOpened, format!("{word}: {}", why.text));
    }

    /// Whether anything is learned of it.
    fn learns(&self, child: ChildKey) -> bool {
        let ladder = self.core.child(child).and_then(|view| view.spec.ladder.as_ref());
        ladder.is_some_and(|ladder| ladder.learn != Learn::Off)
    }

    fn evidence(&mut self, child: ChildKey, why: &Why) -> Evidence {
        let view = self.core.child(child);
        let runs = view.is_some_and(|view| view.phase == crate::policy::Phase::Running);
        let exit = if runs { None } else { self.on_entry(child, |entry| entry.exit().cloned()).flatten() };
        Evidence {
            cause: Some(why.cause),
            exit_code: exit.as_ref().and_then(crate::exit::Exit::code),
            signal: exit.as_ref().and_then(crate::exit::Exit::signal).map(crate::exit::signal_name),
            probe: None,
            message: why.text.to_string(),
            named: None,
            lines: Vec::new(),
        }
    }

    /// What could be measured when it failed.
    fn case_of(&mut self, child: ChildKey, instance: &InstanceId, class: &Arc<str>, cause: Cause) -> Case {
        let ran = self.on_board(child, |entry| match entry.started_at {
            Some(_) => entry.steady.started.map(|started| started.elapsed().as_secs_f64()),
            None => entry.last_run,
        });
        let memory = self.plane.healer.memory_of(instance);
        Case {
            worker: instance.worker().to_string(),
            class: class.to_string(),
            ran: ran.flatten(),
            memory: if cause == Cause::Oom { Some(1.0) } else { memory },
            at: Timestamp::now().as_second(),
        }
    }

    fn ask_leave(
        &self,
        child: ChildKey,
        to: TaskNumber,
        instance: &InstanceId,
        allowed: &[(usize, Strategy)],
    ) {
        let settings = self.settings_of(instance);
        let ladder = self.core.child(child).and_then(|view| view.spec.ladder.clone());
        let costs: BTreeMap<Strategy, f64> = settings.iter().flat_map(|settings| settings.costs()).collect();
        let class =
            self.slot(child).and_then(|slot| slot.incident.as_ref()).map(|open| Arc::clone(&open.class));
        let question = Question {
            who: instance,
            critical: settings.is_some_and(|settings| settings.critical),
            learn: ladder.map_or(Learn::Off, |ladder| ladder.learn),
            class: class.as_deref().unwrap_or_default(),
            allowed,
            costs: &costs,
        };
        self.tell_brake(self.plane.healer.settle(self.plane.now()));
        let answer = self.plane.healer.ask(self.plane.now(), &question);
        // A fact like any other: it comes after what was decided before.
        let own = self.ear.address();
        let _ = own.send_message(SupervisorMsg::Fact(Fact::Leave { child, question: to, answer }));
    }

    fn began(
        &mut self,
        child: ChildKey,
        strategy: Strategy,
        reason: String,
        (laddered, plain): (bool, bool),
    ) {
        let (at, began) = (Timestamp::now(), self.plane.now());
        let mut follows = false;
        if let Some(slot) = self.slot_mut(child)
            && let Some(open) = slot.incident.as_mut()
        {
            // Only a plain restart follows what was done before it.
            if !plain {
                open.steps.clear();
            }
            follows = !open.steps.is_empty();
            open.steps.push(UnderWay { strategy: strategy.clone(), began, laddered });
            match strategy.way() {
                Way::Restart { .. } | Way::WhileDown => _ = slot.cause.get_or_insert(open.cause.clone()),
                // The trial of a parked worker is for what parked it.
                Way::Park => _ = slot.cause.get_or_insert(open.cause.clone()),
                Way::WhileUp { .. } => {}
            }
        }
        let text = (!plain || follows).then(|| format!("{strategy}: {reason}"));
        self.on_incident(child, |incident| incident.begin(strategy, reason, at));
        // A plain restart is told by what happens to the worker, unless it is the second half of something; another step
        // means that the last one did not help.
        let Some(text) = text else { return };
        if !plain {
            let asked = self.slot(child).and_then(|slot| slot.incident.as_ref());
            let asked = asked.is_some_and(|open| open.kind == Cause::Operator);
            self.on_board(child, |entry| entry.soft_restarts.ended(asked));
        }
        self.tell_recovery(child, EventKind::RecoveryStep, text);
    }

    fn ended(
        &mut self,
        child: ChildKey,
        instance: &InstanceId,
        strategy: &Strategy,
        outcome: Outcome,
        text: &str,
    ) {
        let now = self.plane.now();
        let Some(open) = self.slot_mut(child).and_then(|slot| slot.incident.as_mut()) else { return };
        let Some(at) = open.steps.iter().position(|step| step.strategy == *strategy) else { return };
        let UnderWay { began, laddered, .. } = open.steps.remove(at);
        let follows = !open.steps.is_empty();
        let (class, operator) = (Arc::clone(&open.class), open.kind == Cause::Operator);
        let case = teaches(outcome).and_then(|_| open.case.take());
        let seconds = now.saturating_sub(began).as_secs_f64();
        self.on_incident(child, |incident| incident.end_step(strategy, outcome, seconds));
        if let Some(held) = teaches(outcome).filter(|_| !operator && self.learns(child)) {
            let lesson = Lesson::new(instance, &class, strategy, (held, seconds), case);
            self.plane.healer.learn(lesson);
        }
        let plain = !laddered && !operator && *strategy == Strategy::SoftRestart;
        if plain {
            self.on_board(child, |entry| match outcome {
                Outcome::Ok => entry.soft_restarts.held(),
                Outcome::Failed => entry.soft_restarts.ended(false),
                Outcome::Interrupted => entry.soft_restarts.ended(true),
                Outcome::Skipped => {}
            });
        } else {
            self.count(instance, strategy, outcome);
        }
        if !plain || follows {
            let (kind, word) = match outcome {
                Outcome::Ok => (EventKind::RecoveryVerified, "helped"),
                Outcome::Failed => (EventKind::RecoveryFailed, "did not help"),
                Outcome::Interrupted => (EventKind::RecoveryFailed, "was cut short"),
                Outcome::Skipped => (EventKind::RecoverySkipped, "was passed over"),
            };
            self.tell_recovery(child, kind, format!("{strategy} {word} after {seconds:.1} s: {text}"));
        }
    }

    fn closed(&mut self, child: ChildKey, outcome: Outcome, text: &str) {
        let open = self.slot(child).and_then(|slot| slot.incident.as_deref());
        if let Some(OpenIncident { id, since, .. }) = open {
            let seconds = self.plane.now().saturating_sub(*since).as_secs_f64();
            self.plane.healer.close(id, outcome, text, seconds);
        }
        self.tell_recovery(child, EventKind::IncidentClosed, format!("{}: {text}", outcome.word()));
        if let Some(open) = self.slot_mut(child).and_then(|slot| slot.incident.take()) {
            self.on_board(child, |entry| entry.last_incident = Some(open.id));
        }
    }

    fn tell_waiting(&self, child: ChildKey, strategy: Option<Strategy>, what: Waits, until: Option<Time>) {
        let step = strategy.map_or_else(|| "its next step".to_owned(), |strategy| strategy.to_string());
        let left = until.map(|until| until.saturating_sub(self.plane.now()).as_secs_f64());
        let left = left.map(|left| format!(", at most {:.0} s", left.ceil())).unwrap_or_default();
        let incident = self.incident_of(child).unwrap_or_default();
        let text = match what {
            Waits::Approval => {
                format!("{step} waits for approval{left}: `regrow approve {incident}`")
            }
            Waits::Delay => format!("{step} waits for its delay{left}"),
            Waits::Breaker => format!("{step} waits: the breaker is open{left}"),
            Waits::Brake(reason) => format!("{step} waits: {reason}"),
        };
        self.tell_recovery(child, EventKind::RecoveryPlanned, text);
    }

    fn tell_recovery(&self, child: ChildKey, kind: EventKind, text: String) {
        let Some(slot) = self.slot(child) else { return };
        let mut event = Event::new(kind, text);
        event.supervisor = Some(self.name.clone());
        if let Who::Worker(instance) = &slot.who {
            event.worker = Some(instance.worker().clone());
            event.instance = Some(instance.clone());
        }
        if let Some(open) = &slot.incident {
            event.incident = Some(open.id.to_string());
            event.incarnation = Some(open.incarnation);
            event.data.insert("cause", open.cause.word().into());
        }
        event.cause = slot.incident.as_ref().map(|open| open.cause.clone()).or_else(|| slot.cause.clone());
        self.plane.journal.note(self.at, event);
        self.unread.set(true);
    }

    fn count(&self, instance: &InstanceId, strategy: &Strategy, outcome: Outcome) {
        self.plane.board.update(instance, |entry| {
            *entry.recoveries.entry((strategy.to_string(), outcome)).or_default() += 1;
        });
    }

    fn on_incident(&self, child: ChildKey, change: impl FnOnce(&mut crate::recovery::Incident)) {
        if let Some(id) = self.incident_of(child) {
            let _ = self.plane.healer.on(&id, change);
        }
    }

    pub(super) fn incident_of(&self, child: ChildKey) -> Option<Arc<str>> {
        self.slot(child)?.incident.as_ref().map(|open| Arc::clone(&open.id))
    }

    /// The one that is open, or that was closed last.
    pub(super) fn newest_incident(&self, child: ChildKey) -> Option<Arc<str>> {
        self.incident_of(child).or_else(|| {
            let instance = self.instance_of(child)?;
            self.plane.board.read(&instance, |entry| entry.last_incident.clone())?
        })
    }

    fn instance_of(&self, child: ChildKey) -> Option<InstanceId> {
        match &self.slot(child)?.who {
            Who::Worker(instance) => Some(instance.clone()),
            Who::Supervisor(_) => None,
        }
    }

    pub(super) fn settings_of(&self, instance: &InstanceId) -> Option<Arc<WorkerSettings>> {
        let node = self.plane.node(&self.name)?;
        node.worker(instance.worker()).cloned()
    }
}
