//! The supervisor actor: asks the policy, and carries out what it answered.
//!
//! Nothing is decided here and nothing is waited for: what comes of a start or a stop is told by the child's runner
//! and comes back as a fact. What is left is bookkeeping for people: the board and the events.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{
    Action, Actions, ChildKey, ChildSpec, ChildView, Ended, Fact, Reply, Request, RequestId, Supervisor,
    SupervisorSpec, Time,
};
use crate::worker::{Reporter, Runner};

use super::asked::Asked;
use super::board::Wanted;
use super::child::{Running, Slot, Stop};
use super::gate::Turn;
use super::judged::Judged;
use super::line::{Address, Ear, Rung};
use super::narrator;
use super::plane::Plane;
use super::recovery::Performed;
use super::reform::Reforming;
use super::tree::Who;
use super::turn::{Desk, Heard};

/// What a supervisor actor is told.
pub(crate) enum SupervisorMsg {
    /// Something happened to a child, or the parent asks.
    Fact(Fact),
    /// What the probes say of an instance.
    Judged(Judged),
    /// The probe that stands for its readiness has passed.
    Probed(InstanceId, Incarnation),
    /// Something was done for a step of recovery, or not.
    Performed(Performed),
    /// An end has waited long enough for its last words.
    NoWords(ChildKey, Incarnation),
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
    /// Whether something looks at it from outside.
    pub(crate) watched: bool,
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
    pub(super) ear: Ear,
    pub(super) slots: Vec<Option<Slot>>,
    /// When this turn began: the clock is read once in it.
    pub(super) now: Time,
    /// The same by the clock on the wall.
    pub(super) at: Timestamp,
    /// Children that there have been.
    seats: u64,
    /// The board has changed, and who waits for that is not told yet.
    pub(super) unseen: bool,
    /// So for the journal.
    pub(super) unread: Cell<bool>,
    /// From what those grow whom a new definition names, until the policy has taken it over.
    pub(super) seeds: HashMap<Arc<str>, Seed>,
    /// New definitions that are not answered yet.
    pub(super) reforms: Vec<RequestId>,
    /// Its boot is over but for these, whom something of an earlier runtime holds back.
    pub(super) to_come: HashSet<ChildKey>,
    waiting: Vec<(RequestId, oneshot::Sender<Reply>)>,
    pub(super) upward: Upward,
    pub(super) alarm: Option<(Time, tokio::task::JoinHandle<()>)>,
    /// The alarm was late, and was put off once.
    pub(super) heard_out: bool,
    next_request: u64,
    pub(super) finished: bool,
}

/// The actor; everything it keeps is in [`SupervisorState`].
pub(crate) struct SupervisorActor;

impl Actor for SupervisorActor {
    type Msg = Rung;
    type State = Arc<Desk>;
    type Arguments = (SupervisorArguments, Address);

    async fn pre_start(
        &self,
        myself: ActorRef<Rung>,
        (arguments, address): (SupervisorArguments, Address),
    ) -> Result<Arc<Desk>, ActorProcessingErr> {
        let SupervisorArguments { name, spec, children, plane, upward } = arguments;
        let core = Supervisor::new(spec, children.iter().map(|seed| seed.spec.clone()).collect())?;
        let mut state = SupervisorState {
            core,
            name,
            ear: address.clone().listen(myself),
            slots: Vec::new(),
            now: plane.now(),
            at: Timestamp::now(),
            plane,
            seats: 0,
            unseen: false,
            unread: Cell::new(false),
            seeds: HashMap::new(),
            reforms: Vec::new(),
            to_come: HashSet::new(),
            waiting: Vec::new(),
            upward,
            alarm: None,
            heard_out: false,
            next_request: 0,
            finished: false,
        };
        for seed in children {
            let Some(key) = state.core.key(&seed.spec.id) else { continue };
            state.seat(key, seed);
            state.tell_change(key);
        }
        state.show();
        state.plane.enter(&state.name, address.clone());
        let desk = Desk::new(state);
        address.settle(&desk);
        Ok(desk)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Rung>,
        Rung: Rung,
        desk: &mut Arc<Desk>,
    ) -> Result<(), ActorProcessingErr> {
        if desk.turn()? == Heard::More {
            // A flood from one worker must not be the only thing that the control plane sees to.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Rung>,
        desk: &mut Arc<Desk>,
    ) -> Result<(), ActorProcessingErr> {
        desk.close();
        Ok(())
    }
}

impl SupervisorState {
    pub(super) fn told(&mut self, message: SupervisorMsg) {
        match message {
            SupervisorMsg::Fact(fact) => self.fact(fact),
            SupervisorMsg::Judged(judged) => self.judged(judged),
            SupervisorMsg::Probed(instance, incarnation) => self.probed(&instance, incarnation),
            SupervisorMsg::Performed(done) => self.performed(done),
            SupervisorMsg::NoWords(child, incarnation) => self.words_came(child, incarnation, &[]),
            SupervisorMsg::Due => self.due(),
            SupervisorMsg::Asked(asked) => self.asked(*asked),
            SupervisorMsg::Signal { child, signal } => self.signal(&child, signal),
            SupervisorMsg::Turn(turn) => self.turn(&turn),
            SupervisorMsg::Reform(reforming) => self.reform(*reforming),
            #[cfg(test)]
            SupervisorMsg::Add(added) => self.add(*added),
        }
    }

    /// The one way in: a fact, the decision, and what follows from it.
    pub(super) fn fact(&mut self, fact: Fact) {
        if self.finished {
            return;
        }
        let ended = narrator::Ending::of(&fact);
        let stale = self.core.stale();
        let actions = self.core.on_fact(self.now, fact);
        if self.core.stale() > stale {
            self.plane.board.count_stale();
        } else if let Some(ended) = ended {
            self.tell_ending(ended.judged(&actions));
        }
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Actions) {
        for action in actions {
            match action {
                Action::Start { child, incarnation } => {
                    self.tell_start(child, incarnation);
                    self.start(child, incarnation);
                }
                Action::Stop { child, incarnation, how } => {
                    self.tell_stop(child, incarnation, how);
                    self.stop(child, incarnation, how);
                }
                Action::Retry { child } => self.retry(child),
                Action::Report { kind, child, incarnation, exit } => {
                    self.tell_report(kind, child, incarnation, exit)
                }
                Action::Changed { child } => {
                    self.tell_change(child);
                    self.comes(child);
                }
                Action::Added { child } => self.grow(child),
                Action::Respec { child, renew } => self.respec(child, renew),
                Action::Removed { child } => {
                    self.remove(child);
                    self.comes(child);
                }
                Action::Recovery { child, act, .. } => self.recovery(child, *act),
                Action::Reply { id, reply } => self.answer(id, reply),
                Action::Booted => self.booted(),
                Action::Finished { ended } => self.finish(ended),
            }
        }
    }

    /// A retry without delay goes to the end of the own queue: exits, calls and stops that came before it go first.
    fn retry(&self, child: ChildKey) {
        let own = self.ear.address();
        match &self.plane.retries {
            Some(sink) => sink(own, child),
            None => {
                let _ = own.send_message(SupervisorMsg::Fact(Fact::Retry { child }));
            }
        }
    }

    /// One timer for all deadlines. It is only ever moved forward: a timer that comes too early finds nothing
    /// due and is set anew, which is cheaper than moving it at every restart.
    pub(super) fn set_alarm(&mut self) {
        let Some(due) = self.core.next_due() else { return };
        if self.alarm.as_ref().is_some_and(|(at, _)| *at <= due) {
            return;
        }
        self.disarm();
        self.alarm_at(due, self.plane.instant(due));
    }

    pub(super) fn alarm_at(&mut self, due: Time, at: Instant) {
        let own = self.ear.address();
        let alarm = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let _ = own.send_message(SupervisorMsg::Due);
        });
        self.alarm = Some((due, alarm));
    }

    /// No deadline is waited for any more.
    pub(super) fn disarm(&mut self) {
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
    }

    /// Lets those know who wait for a change on the board, or for events: once for all of a turn, and after its deeds.
    pub(super) fn show(&mut self) {
        if std::mem::take(&mut self.unseen) {
            self.plane.board.bump();
        }
        if self.unread.take() {
            self.plane.journal.ring();
        }
    }

    pub(super) fn seat(&mut self, key: ChildKey, Seed { who, make, watched, .. }: Seed) {
        let at = key.at();
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        self.seats += 1;
        let running = Running::new(&make, self.ear.address().reporters(key, self.seats));
        let view = self.core.child(key);
        self.slots[at] = Some(Slot {
            key,
            subject: narrator::subject(&self.name, &who),
            place: who.place(),
            latch: None,
            counted: self.plane.counter(&who.id()),
            who,
            make,
            seat: self.seats,
            cause: None,
            planned: false,
            first: false,
            class: None,
            hint: None,
            code: None,
            complaint: None,
            was_unwell: false,
            to_watch: watched,
            watched: false,
            stop: Stop::Not,
            held: None,
            incident: None,
            blind: None,
            told: view.map_or(crate::policy::Phase::Stopped, |view| view.phase),
            running,
        });
    }

    #[cfg(test)]
    fn add(&mut self, added: Added) {
        let Added { seed, reply } = added;
        let (id, spec) = (Arc::clone(&seed.spec.id), seed.spec.clone());
        let request = self.expect(reply);
        let known = self.core.key(&id);
        let fact = Fact::Request { id: request, request: Request::Add { spec: Box::new(spec) } };
        let actions = self.core.on_fact(self.now, fact);
        if let Some(key) = self.core.key(&id).filter(|key| known != Some(*key)) {
            self.seat(key, seed);
        }
        self.carry_out(actions);
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

    fn turn(&mut self, turn: &Turn) {
        // As it is now, for each of its instances: of two such words that were sent at the same time, either may come last.
        for instance in self.plane.gate.instances(&turn.worker) {
            if let Some(child) = self.core.key(&instance.to_string()) {
                let held = self.plane.gate.held(&instance);
                self.fact(Fact::Held { child, held });
                self.tell_change(child);
                self.comes(child);
            }
        }
    }

    fn remove(&mut self, child: ChildKey) {
        self.sees_again(child, crate::recovery::Outcome::Interrupted, "the worker is gone");
        let place = self.slots.get_mut(child.at());
        let Some(slot) = place.and_then(|place| place.take_if(|slot| slot.key == child)) else { return };
        self.tell_removed(&slot);
    }

    fn finish(&mut self, ended: Ended) {
        self.finished = true;
        let why = self.why_finished(&ended);
        self.forget_those_removed();
        self.plane.leave(&self.name);
        for (_, waiting) in self.waiting.drain(..) {
            let _ = waiting.send(Err(crate::policy::Refused::ShuttingDown));
        }
        (self.upward)(Outcome::Finished(ended, why));
        self.ear.close();
    }

    /// Who was taken out of the definition while all of it was ending has no successor to be told of.
    fn forget_those_removed(&self) {
        for slot in self.slots.iter().flatten() {
            let Who::Worker(instance) = &slot.who else { continue };
            let is_here =
                self.plane.board.instance(instance).is_some_and(|entry| entry.supervisor == self.name);
            if is_here && !self.plane.names(&self.name, instance) {
                self.plane.forget(instance);
            }
        }
    }

    pub(super) fn slot(&self, child: ChildKey) -> Option<&Slot> {
        self.slots.get(child.at())?.as_ref().filter(|slot| slot.key == child)
    }

    pub(super) fn slot_mut(&mut self, child: ChildKey) -> Option<&mut Slot> {
        self.slots.get_mut(child.at())?.as_mut().filter(|slot| slot.key == child)
    }
}

/// What the policy knows of an operator's wish.
pub(super) fn wanted(view: &ChildView<'_>) -> Wanted {
    match view.paused {
        _ if view.stopped_by_operator => Wanted::Stopped,
        Some(_) => Wanted::Paused,
        None => Wanted::Running,
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
