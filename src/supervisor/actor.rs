//! The supervisor actor: reads the clock, asks the policy, carries out what it answered.
//!
//! Nothing is decided here and nothing is waited for: a start or a stop is a message to a child actor and
//! comes back as a fact. What is left is bookkeeping for people: the board and the events.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::event::{Cause, Subject};
use crate::exit::Exit;
use crate::id::{Incarnation, Name};
use crate::policy::{
    Action, Actions, ChildKey, ChildSpec, Ended, Fact, Reply, Request, RequestId, RetryToken, Supervisor,
    SupervisorSpec, Time,
};
use crate::worker::{Reporter, Runner};

use super::board::{Operator, Wanted};
use super::child::{ChildActor, ChildArguments, ChildMsg};
use super::gate::Turn;
use super::judged::Judged;
use super::narrator;
use super::plane::Plane;
use super::reform::Reforming;
use super::tree::Who;

/// What a supervisor actor is told.
pub(crate) enum SupervisorMsg {
    /// Something happened to a child, or the parent asks.
    Fact(Fact),
    /// What a person can do about a failed start; comes before the fact.
    Hint {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// In words.
        hint: Option<String>,
    },
    /// What the probes say of an instance.
    Judged(Judged),
    /// A deadline of the policy has come.
    Due,
    /// Somebody asks for something.
    Asked(Box<Asked>),
    /// A signal for the main process of a child, which is neither a start nor a stop: no rule has a say in it.
    Signal {
        /// Which child, by its id.
        child: String,
        /// The signal's number.
        signal: i32,
    },
    /// A start is held back or let go.
    Turn(Turn),
    /// A new definition, of itself and of all its children.
    Reform(Box<Reforming>),
    /// A child comes into being while everything runs.
    #[cfg(test)]
    Add(Box<Added>),
}

/// A question about one child.
pub(crate) struct Asked {
    /// Which child, by its id.
    pub(crate) child: String,
    /// Builds the request once the slot is known.
    pub(crate) request: Box<dyn FnOnce(ChildKey) -> Request + Send>,
    /// Who asks.
    pub(crate) by: Operator,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// A child that comes into being while everything runs.
#[cfg(test)]
pub(crate) struct Added {
    /// The child.
    pub(crate) seed: Seed,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// Everything from which a child grows.
#[derive(Clone)]
pub(crate) struct Seed {
    /// What the policy is told.
    pub(crate) spec: ChildSpec,
    /// Who it is.
    pub(crate) who: Who,
    /// Makes its runner.
    pub(crate) make: MakeRunner,
}

/// Makes a child's runner, given where to report.
pub(crate) type MakeRunner = Arc<dyn Fn(Reporter) -> Box<dyn Runner> + Send + Sync>;

/// How a supervisor tells its parent that it has booted or ended.
pub(crate) type Upward = Box<dyn Fn(Outcome) + Send + Sync>;

/// What becomes of a supervisor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Its boot is over.
    Booted,
    /// It has ended; nothing below it lives.
    Finished(Ended, String),
}

/// What a supervisor actor begins with.
pub(crate) struct SupervisorArguments {
    /// Its name.
    pub(crate) name: Name,
    /// What it is told about itself.
    pub(crate) spec: SupervisorSpec,
    /// Its children in start order.
    pub(crate) children: Vec<Seed>,
    /// What is shared.
    pub(crate) plane: Arc<Plane>,
    /// Its parent's ear.
    pub(crate) upward: Upward,
}

/// What a supervisor actor keeps.
pub(crate) struct SupervisorState {
    pub(super) core: Supervisor,
    pub(super) name: Name,
    pub(super) plane: Arc<Plane>,
    slots: Vec<Option<Slot>>,
    /// From what those grow whom a new definition names, until the policy has taken it over.
    pub(super) seeds: HashMap<Arc<str>, Seed>,
    /// New definitions that are not answered yet.
    pub(super) reforms: Vec<RequestId>,
    waiting: Vec<(RequestId, oneshot::Sender<Reply>)>,
    upward: Upward,
    alarm: Option<(Time, tokio::task::JoinHandle<()>)>,
    next_request: u64,
    pub(super) finished: bool,
}

/// One child: its actor, and what people are told about it.
pub(super) struct Slot {
    pub(super) who: Who,
    /// The same, for events.
    pub(super) subject: Arc<Subject>,
    pub(super) make: MakeRunner,
    actor: ActorRef<ChildMsg>,
    /// Why the next start happens.
    pub(super) cause: Option<Cause>,
    /// What a person can do about the last failed start.
    pub(super) hint: Option<String>,
    /// The phase that people were told last.
    pub(super) told: crate::policy::Phase,
}

/// The actor; everything it keeps is in [`SupervisorState`].
pub(crate) struct SupervisorActor;

impl Actor for SupervisorActor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        arguments: SupervisorArguments,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let SupervisorArguments { name, spec, children, plane, upward } = arguments;
        let core = Supervisor::new(spec, children.iter().map(|seed| seed.spec.clone()).collect())?;
        let mut state = SupervisorState {
            core,
            name,
            plane,
            slots: Vec::new(),
            seeds: HashMap::new(),
            reforms: Vec::new(),
            waiting: Vec::new(),
            upward,
            alarm: None,
            next_request: 0,
            finished: false,
        };
        for seed in children {
            let Some(key) = state.core.key(&seed.spec.id) else { continue };
            state.spawn_child(&myself, key, seed.who, seed.make).await?;
            state.tell_change(key);
        }
        state.plane.enter(&state.name, myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Fact(fact) => state.fact(&myself, fact),
            SupervisorMsg::Hint { child, incarnation, hint } => state.hint(child, incarnation, hint),
            SupervisorMsg::Judged(judged) => state.judged(&myself, judged),
            SupervisorMsg::Due => {
                state.alarm = None;
                state.fact(&myself, Fact::Tick);
            }
            SupervisorMsg::Asked(asked) => state.asked(&myself, *asked),
            SupervisorMsg::Signal { child, signal } => state.signal(&child, signal),
            SupervisorMsg::Turn(turn) => state.turn(&myself, &turn),
            SupervisorMsg::Reform(reforming) => state.reform(&myself, *reforming),
            #[cfg(test)]
            SupervisorMsg::Add(added) => state.add(&myself, *added).await?,
        }
        Ok(())
    }

    /// Ends of child actors are no facts about workers: those come as messages. A child actor that fails is a
    /// fault of ours; it is replaced, and what it owned is taken for lost.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(cell, error) = event {
            state.child_actor_failed(&myself, cell.get_id(), &error.to_string()).await?;
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((_, alarm)) = state.alarm.take() {
            alarm.abort();
        }
        Ok(())
    }
}

impl SupervisorState {
    /// The one way in: a fact, the decision, and what follows from it.
    pub(super) fn fact(&mut self, myself: &ActorRef<SupervisorMsg>, fact: Fact) {
        if self.finished {
            return;
        }
        let now = self.plane.now();
        let ended = narrator::Ending::of(&fact);
        let stale = self.core.stale();
        let actions = self.core.on_fact(now, fact);
        if self.core.stale() > stale {
            self.plane.board.count_stale();
        } else if let Some(ended) = ended {
            self.tell_ending(&ended.judged(&actions));
        }
        self.carry_out(myself, actions);
        self.set_alarm(myself);
    }

    fn carry_out(&mut self, myself: &ActorRef<SupervisorMsg>, actions: Actions) {
        for action in actions {
            match action {
                Action::Start { child, incarnation } => {
                    self.tell_start(child, incarnation);
                    self.order(child, ChildMsg::Start(incarnation));
                }
                Action::Stop { child, incarnation, how } => {
                    self.tell_stop(child, incarnation, how);
                    self.order(child, ChildMsg::Stop(incarnation, how));
                }
                Action::Retry { child, token } => self.retry(myself, child, token),
                Action::Report { kind, child, incarnation, exit } => {
                    self.tell_report(kind, child, incarnation, exit)
                }
                Action::Changed { child } => self.tell_change(child),
                Action::Added { child } => self.grow(myself, child),
                Action::Respec { child, renew } => self.respec(child, renew),
                Action::Removed { child } => self.remove(child),
                Action::Recovery { .. } => {}
                Action::Reply { id, reply } => self.answer(id, reply),
                Action::Booted => (self.upward)(Outcome::Booted),
                Action::Finished { ended } => self.finish(myself, ended),
            }
        }
    }

    /// A retry without delay goes to the end of the own mailbox: exits, calls and stops queued before it go first.
    fn retry(&self, myself: &ActorRef<SupervisorMsg>, child: ChildKey, token: RetryToken) {
        match &self.plane.retries {
            Some(sink) => sink(myself.clone(), child, token),
            None => {
                let _ = myself.send_message(SupervisorMsg::Fact(Fact::Retry { child, token }));
            }
        }
    }

    /// One timer for all deadlines. It is only ever moved forward: a timer that comes too early finds nothing
    /// due and is set anew, which is cheaper than moving it at every restart.
    fn set_alarm(&mut self, myself: &ActorRef<SupervisorMsg>) {
        let Some(due) = self.core.next_due() else { return };
        if self.alarm.as_ref().is_some_and(|(at, _)| *at <= due) {
            return;
        }
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
        let (at, myself) = (self.plane.instant(due), myself.clone());
        let alarm = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let _ = myself.send_message(SupervisorMsg::Due);
        });
        self.alarm = Some((due, alarm));
    }

    async fn spawn_child(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        key: ChildKey,
        who: Who,
        make: MakeRunner,
    ) -> Result<(), ActorProcessingErr> {
        let arguments = ChildArguments {
            key,
            who: who.clone(),
            make: Arc::clone(&make),
            up: myself.clone(),
            plane: Arc::clone(&self.plane),
        };
        let (actor, _) = ChildActor::spawn_linked(None, ChildActor, arguments, myself.get_cell()).await?;
        self.seat(key, who, make, actor);
        Ok(())
    }

    pub(super) fn seat(&mut self, key: ChildKey, who: Who, make: MakeRunner, actor: ActorRef<ChildMsg>) {
        let at = key.0 as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        let told = self.core.child(key).map_or(crate::policy::Phase::Stopped, |view| view.phase);
        let subject = narrator::subject(&self.name, &who);
        self.slots[at] = Some(Slot { who, subject, make, actor, cause: None, hint: None, told });
    }

    #[cfg(test)]
    async fn add(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        added: Added,
    ) -> Result<(), ActorProcessingErr> {
        let Added { seed: Seed { spec, who, make }, reply } = added;
        let id = Arc::clone(&spec.id);
        let request = self.expect(reply);
        let now = self.plane.now();
        let known = self.core.key(&id);
        let fact = Fact::Request { id: request, request: Request::Add { spec: Box::new(spec) } };
        let actions = self.core.on_fact(now, fact);
        if let Some(key) = self.core.key(&id).filter(|key| known != Some(*key)) {
            self.spawn_child(myself, key, who, make).await?;
        }
        self.carry_out(myself, actions);
        self.set_alarm(myself);
        Ok(())
    }

    async fn child_actor_failed(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        actor: ActorId,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let found =
            self.slots.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.actor.get_id() == actor));
        let Some(at) = found else { return Ok(()) };
        let key = ChildKey(u32::try_from(at).unwrap_or(u32::MAX));
        let Some(slot) = self.slot(key) else { return Ok(()) };
        let (who, make) = (slot.who.clone(), Arc::clone(&slot.make));
        self.spawn_child(myself, key, who, make).await?;
        if let Some(incarnation) = self.core.child(key).map(|view| view.incarnation) {
            let exit = Exit::Error { message: format!("its child actor failed: {error}") };
            self.fact(myself, Fact::Exited { child: key, incarnation, exit });
        }
        Ok(())
    }

    fn asked(&mut self, myself: &ActorRef<SupervisorMsg>, asked: Asked) {
        let Some(key) = self.core.key(&asked.child) else {
            let _ = asked.reply.send(Err(crate::policy::Refused::NotFound));
            return;
        };
        let request = (asked.request)(key);
        self.tell_wish(key, &request, asked.by);
        let id = self.expect(asked.reply);
        self.fact(myself, Fact::Request { id, request });
        if self.finished {
            self.answer(id, Err(crate::policy::Refused::ShuttingDown));
        }
    }

    fn signal(&self, child: &str, signal: i32) {
        if let Some(key) = self.core.key(child) {
            self.order(key, ChildMsg::Signal(signal));
        }
    }

    pub(super) fn expect(&mut self, reply: oneshot::Sender<Reply>) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        // An asker that has gone away needs no answer any more.
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        self.waiting.push((id, reply));
        id
    }

    pub(super) fn answer(&mut self, id: RequestId, reply: Reply) {
        self.reformed(id);
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == id) {
            let (_, asker) = self.waiting.swap_remove(at);
            let _ = asker.send(reply);
        }
    }

    fn turn(&mut self, myself: &ActorRef<SupervisorMsg>, turn: &Turn) {
        for instance in self.plane.gate.instances(&turn.worker) {
            if let Some(child) = self.core.key(&instance.to_string()) {
                self.fact(myself, Fact::Held { child, held: turn.held });
                self.tell_change(child);
            }
        }
    }

    pub(super) fn hint(&mut self, child: ChildKey, incarnation: Incarnation, hint: Option<String>) {
        let current = self.core.child(child).is_some_and(|view| view.incarnation == incarnation);
        if let Some(slot) = self.slot_mut(child).filter(|_| current) {
            slot.hint = hint;
        }
    }

    pub(super) fn order(&self, child: ChildKey, message: ChildMsg) {
        if let Some(slot) = self.slot(child) {
            let _ = slot.actor.send_message(message);
        }
    }

    fn remove(&mut self, child: ChildKey) {
        let Some(slot) = self.slots.get_mut(child.0 as usize).and_then(Option::take) else { return };
        slot.actor.stop(None);
        self.tell_removed(&slot);
    }

    fn finish(&mut self, myself: &ActorRef<SupervisorMsg>, ended: Ended) {
        self.finished = true;
        let why = self.why_finished(&ended);
        self.plane.leave(&self.name);
        for (_, waiting) in self.waiting.drain(..) {
            let _ = waiting.send(Err(crate::policy::Refused::ShuttingDown));
        }
        (self.upward)(Outcome::Finished(ended, why));
        myself.stop(None);
    }

    pub(super) fn slot(&self, child: ChildKey) -> Option<&Slot> {
        self.slots.get(child.0 as usize)?.as_ref()
    }

    pub(super) fn slot_mut(&mut self, child: ChildKey) -> Option<&mut Slot> {
        self.slots.get_mut(child.0 as usize)?.as_mut()
    }
}

/// What an operator's request means for what is wanted.
pub(super) fn wanted_by(request: &Request) -> Option<Wanted> {
    match request {
        Request::Stop { .. } => Some(Wanted::Stopped),
        Request::Start { .. }
        | Request::Restart { .. }
        | Request::Recover { .. }
        | Request::ResetFailed { .. } => Some(Wanted::Running),
        Request::Pause { .. } => Some(Wanted::Paused),
        Request::Resume { .. } => Some(Wanted::Running),
        Request::Approve { .. }
        | Request::Add { .. }
        | Request::Reform(_)
        | Request::Terminate { .. }
        | Request::Revive { .. }
        | Request::Delete { .. } => None,
    }
}
