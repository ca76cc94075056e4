//! What people are told: the policy's state on the board, and one event for everything that happened.
//!
//! Every line says who, what happened, and what comes next, so that nobody has to put three of them together
//! at night.

use std::sync::Arc;

use jiff::Timestamp;

use crate::event::{Brief, Cause, CauseName, Ended as EndedWith, Event, EventKind, Next, Subject, What};
use crate::exit::Exit;
use crate::health::Vital;
use crate::id::{Incarnation, Name};
use crate::policy::{
    Action, ChildKey, ChildView, Ended, Fact, OnExhausted, Phase, Plan, ReportKind, Request, StopHow,
};
use crate::units::format_duration;

use super::actor::{SupervisorState, wanted, wanted_by};
use super::board::{End, Entry, InstanceState, NextAction, Operator};
use super::child::{Slot, Stop};
use super::tree::Who;

/// A fact that ended an incarnation, kept aside while the policy takes the fact itself.
pub(super) struct Ending {
    child: ChildKey,
    incarnation: Incarnation,
    exit: Exit,
    /// True where the policy counts it as a failure, whoever sent the last signal.
    failure: bool,
}

impl Ending {
    /// The end that a fact tells of, if it does.
    pub(super) fn of(fact: &Fact) -> Option<Self> {
        match fact {
            Fact::StartFailed { child, incarnation, exit } | Fact::Exited { child, incarnation, exit } => {
                Some(Self { child: *child, incarnation: *incarnation, exit: exit.clone(), failure: false })
            }
            Fact::Boot
            | Fact::Ready { .. }
            | Fact::Ignored { .. }
            | Fact::Retry { .. }
            | Fact::Tick
            | Fact::Held { .. }
            | Fact::Extend { .. }
            | Fact::Judged { .. }
            | Fact::Classed { .. }
            | Fact::Leave { .. }
            | Fact::Performed { .. }
            | Fact::Request { .. }
            | Fact::Shutdown
            | Fact::Kill => None,
        }
    }

    /// The end as the policy judged it: a start that it ended for being too slow is a `StartTimeout`, not the
    /// signal that did it.
    pub(super) fn judged(self, actions: &[Action]) -> Self {
        let judged = actions.iter().find_map(|action| match action {
            Action::Report {
                kind: ReportKind::ChildTerminated | ReportKind::StartError,
                child,
                incarnation,
                exit: Some(exit),
            } if *child == self.child && *incarnation == self.incarnation => Some(exit),
            Action::Report { .. }
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::Retry { .. }
            | Action::Changed { .. }
            | Action::Added { .. }
            | Action::Respec { .. }
            | Action::Removed { .. }
            | Action::Recovery { .. }
            | Action::Reply { .. }
            | Action::Booted
            | Action::Finished { .. } => None,
        });
        match judged {
            Some(exit) if *exit == self.exit => Self { failure: true, ..self },
            Some(exit) => Self { exit: exit.clone(), failure: true, ..self },
            None => self,
        }
    }
}

impl SupervisorState {
    /// An incarnation ended: the board gets its last exit, the journal one event with what comes next.
    pub(super) fn tell_ending(&mut self, ended: Ending) {
        let Ending { child, incarnation, exit, failure } = ended;
        let Some(slot) = self.slot_mut(child) else { return };
        let asked = matches!(slot.told, Phase::Stopping | Phase::Stuck) && !failure;
        let stop = std::mem::take(&mut slot.stop);
        let class = slot.class.take().filter(|(of, _)| *of == incarnation).map(|(_, class)| class);
        let (said, complaint) = (slot.hint.take(), slot.complaint.take());
        let hint = said.or(complaint);
        let code = slot.code.take().or(exit.code());
        let exit = if asked { as_asked(exit, stop, || self.stop_signal(child)) } else { exit };
        let Some(slot) = self.slot_mut(child) else { return };
        let late = stop.why_killed().filter(|_| asked && exit == Exit::Killed).map(str::to_owned);
        if !asked {
            slot.cause = Some(CauseName::of(Cause::of(&exit), class.clone()));
        }
        let at = self.at;
        // Not by the clock on the wall, which may have been set meanwhile.
        let lived = self.on_board(child, |entry| {
            let started = entry.steady.started.filter(|_| entry.started_at.is_some());
            entry.started_at = None;
            Some(started?.elapsed())
        });
        let lived = lived.flatten();
        let next = self.core.child(child).map(|view| self.next(&view));
        // Only what failed needs an explanation; a supervisor's end has one in any case.
        let at_rest = next.is_none_or(|next| next.phase == Phase::Done);
        let explained = failure || !at_rest || exit == Exit::Stopped;
        let ended = Arc::new(EndedWith {
            exit,
            hint: late.or(hint.filter(|_| explained)),
            asked,
            class,
            lived,
            next,
        });
        let end = End { incarnation, at, code, ended: Arc::clone(&ended) };
        self.on_entry(child, |entry| {
            entry.state.ready = false;
            entry.state.pid = None;
            entry.state.soft_restarts.ended(asked);
            entry.state.last_run = lived.map(|lived| lived.as_secs_f64());
            entry.end = Some(end);
        });
        self.tell(child, incarnation, What::Ended(ended));
        if let Some(Who::Worker(instance)) =
            self.slot(child).filter(|slot| slot.was_unwell).map(|slot| &slot.who)
        {
            self.plane.healer.over(self.now, instance);
        }
        self.set_ready(child, false);
    }

    /// The signal that asks a worker to end.
    fn stop_signal(&self, child: ChildKey) -> Option<i32> {
        let Who::Worker(instance) = &self.slot(child)?.who else { return None };
        let node = self.plane.node(&self.name)?;
        Some(node.worker(instance.worker())?.stop.signal)
    }

    /// A start begins.
    pub(super) fn tell_start(&mut self, child: ChildKey, incarnation: Incarnation) {
        let Some(slot) = self.slot_mut(child) else { return };
        let cause = slot.cause.take();
        let planned = std::mem::take(&mut slot.planned) && cause.is_none();
        slot.counted.note(incarnation);
        let again = !std::mem::take(&mut slot.first) && !slot.counted.is_first(incarnation);
        // What a step of the ladder comes to is counted as that.
        let plain = !slot.incident.as_deref().is_some_and(super::recovery::OpenIncident::is_laddered);
        if again {
            self.on_board(child, |entry| {
                entry.restarts += 1;
                if plain && cause.as_ref().is_some_and(CauseName::is_failure) {
                    entry.soft_restarts.begin();
                }
                if planned {
                    return;
                }
                let name = cause.clone().unwrap_or(CauseName::Known(Cause::Dependency));
                *entry.restarts_by_cause.entry(name).or_default() += 1;
            });
            self.on_nested(child, |entry| entry.restarts += 1);
        }
        self.tell(child, incarnation, What::Starting(cause));
    }

    /// A stop begins.
    pub(super) fn tell_stop(&mut self, child: ChildKey, incarnation: Incarnation, how: StopHow) {
        let hurried = self.core.is_killing();
        let Some(slot) = self.slot_mut(child) else { return };
        if !slot.planned {
            slot.cause.get_or_insert(CauseName::Known(Cause::Dependency));
        }
        slot.stop = slot.stop.told(how, hurried);
        let who = slot.who.clone();
        let is_actor = match &who {
            Who::Worker(instance) => {
                self.plane.board.read(instance, |entry| entry.kind == "actor") == Some(true)
            }
            Who::Supervisor(_) => false,
        };
        let text = match how {
            StopHow::Graceful => "asked to stop",
            StopHow::Kill if is_actor => "it did not end in time and is waited for no longer",
            StopHow::Kill => "killed: its whole process tree",
        };
        self.say(EventKind::WorkerStopping, child, incarnation, text.to_owned());
    }

    /// An operator wants something.
    pub(super) fn tell_wish(&mut self, child: ChildKey, request: &Request, by: Operator) {
        if let Some(slot) = self.slot_mut(child) {
            slot.cause = Some(Cause::Operator.into());
            // What its probes said has nothing to do with it.
            (slot.hint, slot.complaint) = (None, None);
        }
        let view = self.core.child(child);
        let (stopped, paused) =
            view.map_or((false, false), |view| (view.stopped_by_operator, view.paused.is_some()));
        // Who wants it down stays named while it is down, and so does who wants it left alone.
        let outweighed = match request {
            Request::Stop { .. } => false,
            Request::Pause { .. } | Request::Resume { .. } => stopped,
            Request::Start { .. }
            | Request::Restart { .. }
            | Request::Recover { .. }
            | Request::ResetFailed { .. } => paused,
            Request::Approve { .. }
            | Request::Add { .. }
            | Request::Reform(_)
            | Request::Terminate { .. }
            | Request::Revive { .. }
            | Request::Delete { .. } => true,
        };
        if let Some(wanted) = wanted_by(request).filter(|_| !outweighed) {
            self.on_board(child, |entry| {
                entry.wanted = wanted;
                entry.wanted_by = Some(by);
            });
        }
    }

    /// A report of OTP's kind. Ends and failed starts are told with their facts; what is left is giving up, and
    /// a stop that did not go as it should.
    pub(super) fn tell_report(
        &mut self,
        kind: ReportKind,
        child: ChildKey,
        incarnation: Incarnation,
        exit: Option<Exit>,
    ) {
        match kind {
            ReportKind::ChildTerminated | ReportKind::StartError => {}
            ReportKind::ShutdownError => {
                if let Some(exit) = exit {
                    tracing::debug!(supervisor = %self.name, incarnation = incarnation.0, %exit, "unclean stop");
                }
            }
            ReportKind::GaveUp => {
                let text = format!("{}: {}", self.name, self.gave_up_text());
                self.say(EventKind::WorkerParked, child, incarnation, text);
            }
        }
    }

    /// Something that people see has changed.
    pub(super) fn tell_change(&mut self, child: ChildKey) {
        let Some((phase, incarnation)) = self.write(child) else { return };
        let Some(slot) = self.slot_mut(child) else { return };
        if std::mem::replace(&mut slot.told, phase) != phase {
            self.tell_phase(child, incarnation, phase);
        }
    }

    /// A child came into being while everything runs.
    pub(super) fn tell_added(&self, child: ChildKey) {
        let incarnation = self.core.child(child).map_or(Incarnation::NONE, |view| view.incarnation);
        let text = format!("added to supervisor {}", self.name);
        self.say(EventKind::WorkerAdded, child, incarnation, text);
    }

    /// A child is gone for good.
    pub(super) fn tell_removed(&self, slot: &Slot) {
        match &slot.who {
            // A temporary worker that has had its one run is still one of the definition's.
            Who::Worker(instance) if self.plane.names(&self.name, instance) => self.plane.retire(instance),
            Who::Worker(instance) => {
                self.plane.forget(instance);
                let mut event = Event::new(EventKind::WorkerRemoved, "removed from the tree");
                event.supervisor = Some(self.name.clone());
                event.worker = Some(instance.worker().clone());
                event.instance = Some(instance.clone());
                self.plane.emit(event);
            }
            Who::Supervisor(name) => self.plane.leave(name),
        }
    }

    /// Why this supervisor has ended, for its parent and for people.
    pub(super) fn why_finished(&self, ended: &Ended) -> String {
        let child =
            |key: &ChildKey| self.core.child(*key).map_or_else(String::new, |view| view.spec.id.to_string());
        match ended {
            Ended::Shutdown => format!("supervisor {} was stopped", self.name),
            Ended::AutoShutdown => format!("the significant children of supervisor {} are done", self.name),
            Ended::GaveUp { offender } => {
                format!("supervisor {} gave up over {}: {}", self.name, child(offender), self.gave_up_text())
            }
            Ended::BootFailed { child: who, exit } => {
                format!("supervisor {} could not start its child {}: {exit}", self.name, child(who))
            }
        }
    }

    fn tell_phase(&mut self, child: ChildKey, incarnation: Incarnation, phase: Phase) {
        match phase {
            Phase::Running => {
                self.on_board(child, |entry| entry.ready = true);
                self.tell(child, incarnation, What::Ready);
                self.set_ready(child, true);
                self.vital(child, incarnation, Vital::Ready);
            }
            Phase::Done => self.set_ready(child, true),
            Phase::Quarantined => {
                let next = self.core.child(child).map(|view| self.next(&view).text()).unwrap_or_default();
                let text = next.trim_start_matches("; ").to_owned();
                self.say(EventKind::WorkerParked, child, incarnation, text);
            }
            Phase::Stuck => {
                let text = "it cannot be killed; no second copy is started while it lives".to_owned();
                self.say(EventKind::WorkerStuck, child, incarnation, text);
            }
            Phase::Waiting | Phase::Starting | Phase::Stopping | Phase::Backoff | Phase::Stopped => {}
        }
    }

    /// A dependency is met when it is ready, and also when it was a job that is done.
    fn set_ready(&mut self, child: ChildKey, ready: bool) {
        let own = self.slots.get_mut(child.at()).and_then(Option::as_mut);
        let Some(slot) = own.filter(|slot| slot.key == child) else { return };
        let Who::Worker(instance) = &slot.who else { return };
        if slot.latch.is_none() {
            slot.latch = self.plane.gate.latch(instance);
        }
        if let Some(latch) = &slot.latch {
            self.plane.set_ready(instance, latch, ready);
        }
    }

    /// Writes the policy's view of a child on the board, and says where it is.
    fn write(&mut self, child: ChildKey) -> Option<(Phase, Incarnation)> {
        let view = self.core.child(child)?;
        let seen = (view.phase, view.incarnation);
        match &self.slot(child)?.who {
            Who::Worker(instance) => {
                let (waits_for, at) = (self.waits_for(&view, instance.worker()), self.at);
                let next = self.next_action(&view);
                let recovering = self.recovering(child, &view);
                let place = self
                    .slots
                    .get_mut(child.at())?
                    .as_mut()
                    .filter(|slot| slot.key == child)?
                    .place
                    .as_mut()?;
                // Whose supervisor ends is asked by nobody through it: what is noted of its wishes stands.
                let wanted = (!self.core.is_ending()).then(|| wanted(&view));
                self.plane.board.at(place, |entry| {
                    entry.state.wanted = wanted.unwrap_or(entry.state.wanted);
                    match (entry.state.recovery.as_deref_mut(), recovering) {
                        (Some(shown), Some(now)) => *shown = now,
                        (_, now) => entry.state.recovery = now.map(Box::new),
                    }
                    entry.state.breaker = view.breaker;
                    write_view(&mut entry.state, &view, next, waits_for, at);
                });
                self.unseen = true;
            }
            Who::Supervisor(name) => {
                self.plane.board.update_supervisor(name, |entry| entry.phase = view.phase)
            }
        }
        Some(seen)
    }

    fn waits_for(&self, view: &ChildView<'_>, worker: &Name) -> Vec<String> {
        if view.phase != Phase::Waiting {
            return Vec::new();
        }
        let sibling =
            view.waits_for.and_then(|key| self.core.child(key)).map(|view| view.spec.id.to_string());
        let named = self.plane.gate.waits_for(worker).into_iter().map(|name| name.to_string());
        sibling.into_iter().chain(named).collect()
    }

    fn next_action(&self, view: &ChildView<'_>) -> Option<NextAction> {
        let next = view.next?;
        Some(NextAction { what: next.what, at: next.at.map(|at| self.plane.moment(at)) })
    }

    /// What comes next for a child, for an event.
    fn next(&self, view: &ChildView<'_>) -> Next {
        let wait = view.next.and_then(|next| next.at).map(|at| at.saturating_sub(self.now));
        let limit = self.core.spec().intensity;
        let (left, trials, fatal) = (view.budget_left, view.trials, view.fatal);
        Next { phase: view.phase, wait, left, limit, trials, fatal, undecided: view.undecided }
    }

    fn gave_up_text(&self) -> String {
        let intensity = self.core.spec().intensity;
        let what = match self.core.spec().on_exhausted {
            OnExhausted::Escalate => "the supervisor stops its children and fails upward",
            OnExhausted::Quarantine => "the child is parked",
        };
        format!(
            "more than {} restarts in {}; {what}",
            intensity.max_restarts,
            format_duration(intensity.within)
        )
    }

    pub(super) fn say(&self, kind: EventKind, child: ChildKey, incarnation: Incarnation, text: String) {
        self.tell(child, incarnation, What::Said(kind, text.into()));
    }

    fn tell(&self, child: ChildKey, incarnation: Incarnation, what: What) {
        let own = || Subject { supervisor: self.name.clone(), instance: None, nested: None };
        let subject = self.slot(child).map_or_else(|| Arc::new(own()), |slot| Arc::clone(&slot.subject));
        self.plane.journal.tell(self.at, Brief { subject, incarnation, what });
        self.unread.set(true);
    }

    pub(super) fn on_board<T>(
        &mut self,
        child: ChildKey,
        change: impl FnOnce(&mut InstanceState) -> T,
    ) -> Option<T> {
        self.on_entry(child, |entry| change(&mut entry.state))
    }

    pub(super) fn on_entry<T>(&mut self, child: ChildKey, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let place =
            self.slots.get_mut(child.at())?.as_mut().filter(|slot| slot.key == child)?.place.as_mut()?;
        self.unseen = true;
        self.plane.board.at(place, change)
    }

    fn on_nested(&self, child: ChildKey, change: impl FnOnce(&mut super::board::SupervisorState)) {
        if let Some(Who::Supervisor(name)) = self.slot(child).map(|slot| &slot.who) {
            self.plane.board.update_supervisor(name, change);
        }
    }
}

/// An end that regrow asked for: the signal it sent is no news, but a KILL that was needed is, and so is a signal that
/// somebody else sent.
fn as_asked(exit: Exit, stop: Stop, stop_signal: impl Fn() -> Option<i32>) -> Exit {
    match exit {
        Exit::Signaled { signal } if stop_signal() == Some(signal) => Exit::Stopped,
        Exit::Signaled { signal: 9 } if !matches!(stop, Stop::Not | Stop::Asked) => Exit::Killed,
        Exit::Exited { code: 0 } => Exit::Stopped,
        Exit::Signaled { .. }
        | Exit::Exited { .. }
        | Exit::Oom
        | Exit::Core { .. }
        | Exit::StartFailed(_)
        | Exit::StartTimeout
        | Exit::Killed
        | Exit::Stopped
        | Exit::Panicked { .. }
        | Exit::Error { .. }
        | Exit::Unwell { .. }
        | Exit::Abandoned
        | Exit::Unknown => exit,
    }
}

fn write_view(
    entry: &mut InstanceState,
    view: &ChildView<'_>,
    next: Option<NextAction>,
    waits_for: Vec<String>,
    at: Timestamp,
) {
    entry.enter(view.phase, at);
    entry.ready = view.phase == Phase::Running;
    entry.incarnation = view.incarnation;
    entry.budget_left = view.budget_left;
    entry.next_action = next;
    entry.waits_for = waits_for;
    // A restart helped once what it answers is over: while an incident is open, or a trial goes on, that is to be seen.
    let on_trial = view.next.is_some_and(|next| next.what == Plan::Verify);
    if entry.ready && view.care.is_none() && !on_trial {
        entry.soft_restarts.held();
    }
    entry.outdated = view.outdated;
}

/// Whom the events of this child are about.
pub(super) fn subject(supervisor: &Name, who: &Who) -> Arc<Subject> {
    let (instance, nested) = match who {
        Who::Worker(instance) => (Some(instance.clone()), None),
        Who::Supervisor(name) => (None, Some(name.clone())),
    };
    Arc::new(Subject { supervisor: supervisor.clone(), instance, nested })
}
