//! What every supervision actor of one runtime shares: the board, the journal, the clock, and the seams at
//! which a test puts in scripted workers.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::config::WorkerSettings;
use crate::event::{Event, EventKind};
use crate::health::Vital;
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{ChildKey, Phase, Time, Undone};
use crate::telemetry::Journal;
use crate::worker::{Ailing, Done, OutputCounters, Reporter, Runner};

use super::actor::SupervisorMsg;
use super::board::{Board, Moment, Operator};
use super::gate::{Gate, Latch, Turn};
use super::healer::Healer;
use super::judged::Judged;
use super::line::Address;
use super::sizing::{Heard, Sizing, SizingSink};
use super::tree::Node;

/// Makes the runner of one worker instance. Production hands in processes, tests scripted workers.
pub(crate) type RunnerFactory = Arc<
    dyn Fn(&InstanceId, &Arc<WorkerSettings>, &Arc<OutputCounters>, Reporter) -> Box<dyn Runner>
        + Send
        + Sync,
>;

/// What operators want of a child for longer than its supervisor lives.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wish {
    /// Who wants it down.
    pub(crate) stopped: Option<Operator>,
    /// Who wants it left alone, and until when.
    pub(crate) paused: Option<(Operator, Option<Timestamp>)>,
}

/// Takes a retry without delay instead of the own mailbox; only tests, which hold it until their script says so.
pub(crate) type RetrySink = Arc<dyn Fn(Address, ChildKey) + Send + Sync>;

/// Who watches what becomes of incarnations; it never waits.
pub(crate) type VitalSink = Box<dyn Fn(&InstanceId, Incarnation, Vital) + Send + Sync>;

/// Who carries out the strategies that are code of the program.
pub(crate) type RemedySink = Box<dyn Fn(&Name, Ailing, Time, Done) + Send + Sync>;

/// How far the starts of a child have come.
#[derive(Default)]
pub(super) struct Count {
    last: AtomicU64,
    /// In earlier runtimes.
    before: Incarnation,
}

impl Count {
    /// A start has this number.
    pub(super) fn note(&self, incarnation: Incarnation) {
        self.last.store(incarnation.0, Ordering::Relaxed);
    }

    fn last(&self) -> Incarnation {
        Incarnation(self.last.load(Ordering::Relaxed))
    }

    /// Whether that start is the first one of this runtime.
    pub(super) fn is_first(&self, incarnation: Incarnation) -> bool {
        incarnation <= self.before.next()
    }
}

/// The shared parts.
pub(crate) struct Plane {
    /// What people see.
    pub(crate) board: Board,
    /// What happened.
    pub(crate) journal: Journal,
    /// Who waits for whom.
    pub(crate) gate: Gate,
    /// What recovery shares.
    pub(crate) healer: Arc<Healer>,
    /// How workers are run.
    pub(crate) runners: RunnerFactory,
    /// Where retries without delay go; `None`: to the end of the own mailbox.
    pub(crate) retries: Option<RetrySink>,
    /// Seed of all jitter.
    pub(crate) seed: u64,
    origin: tokio::time::Instant,
    directory: Mutex<HashMap<Name, Address>>,
    homes: Mutex<HashMap<Name, Name>>,
    counted: Mutex<HashMap<String, Arc<Count>>>,
    nodes: Mutex<HashMap<Name, Arc<Node>>>,
    wishes: Mutex<HashMap<String, Wish>>,
    vitals: OnceLock<VitalSink>,
    remedies: OnceLock<RemedySink>,
    sizes: OnceLock<SizingSink>,
}

impl Plane {
    /// Joins the parts; the clock starts now.
    pub(crate) fn new(board: Board, journal: Journal, runners: RunnerFactory, seed: u64) -> Self {
        Self {
            board,
            journal,
            gate: Gate::default(),
            healer: Arc::new(Healer::new(seed, String::new())),
            runners,
            retries: None,
            seed,
            origin: tokio::time::Instant::now(),
            directory: Mutex::default(),
            homes: Mutex::default(),
            counted: Mutex::default(),
            nodes: Mutex::default(),
            wishes: Mutex::default(),
            vitals: OnceLock::new(),
            remedies: OnceLock::new(),
            sizes: OnceLock::new(),
        }
    }

    /// Monotonic time since the runtime began.
    pub(crate) fn now(&self) -> Time {
        self.origin.elapsed()
    }

    /// The instant of a time of the core.
    pub(crate) fn instant(&self, at: Time) -> tokio::time::Instant {
        self.origin + at
    }

    /// The wall clock at a time of the core, for people; no decision rests on it.
    pub(crate) fn moment(&self, at: Time) -> Moment {
        let ahead = SignedDuration::try_from(at.saturating_sub(self.now())).unwrap_or(SignedDuration::MAX);
        Moment::ahead(Timestamp::now().checked_add(ahead).unwrap_or(Timestamp::MAX))
    }

    /// The time of the core at which the wall clock will say this; now, if it has said so already.
    pub(crate) fn time_of(&self, wall: Timestamp) -> Time {
        let ahead = wall.duration_since(Timestamp::now());
        self.now().saturating_add(Time::try_from(ahead).unwrap_or(Time::ZERO))
    }

    /// What operators want of a child.
    pub(crate) fn wish(&self, child: &str) -> Wish {
        lock(&self.wishes).get(child).cloned().unwrap_or_default()
    }

    /// Notes what operators want of a child.
    pub(crate) fn set_wish(&self, child: &str, wish: Wish) {
        if wish == Wish::default() {
            lock(&self.wishes).remove(child);
        } else {
            lock(&self.wishes).insert(child.to_owned(), wish);
        }
    }

    /// Names who carries out the strategies of the program; the first one stays.
    pub(crate) fn set_remedies(&self, sink: RemedySink) {
        // A second one would be a fault of ours, and the first does as well.
        let _ = self.remedies.set(sink);
    }

    /// Has a strategy of the program carried out.
    pub(crate) fn remedy(&self, name: &Name, ailing: Ailing, timeout: Time, done: Done) {
        match self.remedies.get() {
            Some(sink) => sink(name, ailing, timeout, done),
            None => done(Err("this runtime has no strategies of a program".to_owned())),
        }
    }

    /// Names who changes how many instances there are; the first one stays.
    pub(crate) fn set_sizes(&self, sink: SizingSink) {
        // A second one would be a fault of ours, and the first does as well.
        let _ = self.sizes.set(sink);
    }

    /// Has one instance more or less.
    pub(crate) fn resize(&self, sizing: Sizing, done: Heard) {
        match self.sizes.get() {
            Some(sink) => sink(sizing, done),
            None => done(Err(Undone::Unfit("the number of instances is fixed here".to_owned()))),
        }
    }

    /// Appends an event.
    pub(crate) fn emit(&self, event: Event) {
        self.journal.emit(event);
    }

    /// Notes where a supervisor can be reached. A later one of the same name takes its place.
    pub(crate) fn enter(&self, name: &Name, address: Address) {
        lock(&self.directory).insert(name.clone(), address);
    }

    /// Forgets a supervisor that has ended.
    pub(crate) fn leave(&self, name: &Name) {
        lock(&self.directory).remove(name);
    }

    /// The address of a supervisor that is up.
    pub(crate) fn supervisor(&self, name: &Name) -> Option<Address> {
        lock(&self.directory).get(name).cloned()
    }

    /// Every worker of the tree, as its settings are now.
    pub(crate) fn workers(&self) -> Vec<Arc<WorkerSettings>> {
        lock(&self.nodes).values().flat_map(|node| node.workers()).collect()
    }

    /// Notes which supervisor a child belongs to.
    pub(crate) fn settle(&self, child: &Name, supervisor: &Name) {
        lock(&self.homes).insert(child.clone(), supervisor.clone());
    }

    /// The supervisor a worker or supervisor belongs to.
    pub(crate) fn home(&self, child: &Name) -> Option<Name> {
        lock(&self.homes).get(child).cloned()
    }

    /// The last incarnation of a child, which outlives the supervisor that counted it.
    pub(crate) fn last_incarnation(&self, child: &str) -> Incarnation {
        let counted = lock(&self.counted);
        counted.get(child).map_or(Incarnation::NONE, |count| count.last())
    }

    /// Where the last incarnation of a child is noted.
    pub(super) fn counter(&self, child: &str) -> Arc<Count> {
        Arc::clone(lock(&self.counted).entry(child.to_owned()).or_default())
    }

    /// Notes how far a child had come in another place.
    pub(crate) fn count_start(&self, child: &str, incarnation: Incarnation) {
        self.counter(child).note(incarnation);
    }

    /// Notes how far a child had come in earlier runtimes: its next start is its first in this one.
    pub(crate) fn count_from(&self, child: &InstanceId, last: Incarnation) {
        let count = Count { last: AtomicU64::new(last.0), before: last };
        lock(&self.counted).insert(child.to_string(), Arc::new(count));
        // Whoever looks before its supervisor has said something must not take that number for a start.
        self.board.update(child, |entry| entry.incarnation = last);
    }

    /// Notes an instance's readiness and passes on whose turn that changes.
    pub(super) fn set_ready(&self, instance: &InstanceId, latch: &Latch, ready: bool) {
        for turn in self.gate.turn(instance, latch, ready) {
            self.pass(turn);
        }
    }

    /// Forgets an instance that is gone for good.
    pub(crate) fn forget(&self, instance: &InstanceId) {
        for turn in self.gate.forget(instance) {
            self.pass(turn);
        }
        self.healer.forget(self.now(), instance);
        lock(&self.counted).remove(instance.to_string().as_str());
        if !self.gate.knows(instance.worker()) {
            let _ = self.gate.learn(instance.worker(), &[]);
            lock(&self.homes).remove(instance.worker());
        }
        self.board.remove(instance);
    }

    /// An instance has had its one run: nobody supervises it any more, it is shown as done, and nobody waits for it.
    pub(crate) fn retire(&self, instance: &InstanceId) {
        for turn in self.gate.retire(instance) {
            self.pass(turn);
        }
        self.board.update(instance, |entry| {
            entry.enter(Phase::Done, Timestamp::now());
            (entry.ready, entry.adopted, entry.pid, entry.next_action) = (false, false, None, None);
            entry.waits_for.clear();
        });
    }

    /// Whether an instance has had its one run.
    pub(crate) fn is_spent(&self, instance: &InstanceId) -> bool {
        self.gate.is_spent(instance)
    }

    /// A supervisor that is started again gives a worker that has had its one run another.
    pub(super) fn run_again(&self, instance: &InstanceId) {
        if self.is_spent(instance) {
            for turn in self.gate.expect(instance) {
                self.pass(turn);
            }
        }
    }

    /// Whether the newest definition of a supervisor names this instance.
    pub(crate) fn names(&self, supervisor: &Name, instance: &InstanceId) -> bool {
        self.node(supervisor).is_some_and(|node| node.instances().any(|own| own == instance))
    }

    /// Takes the tree as it is defined now: a supervisor that starts (again) is made from this.
    pub(crate) fn plant(&self, root: &Arc<Node>) {
        let mut nodes = HashMap::new();
        root.visit(&mut |node| {
            nodes.insert(node.settings.name.clone(), Arc::clone(node));
        });
        *lock(&self.nodes) = nodes;
    }

    /// Everybody whom the newest definition names.
    pub(crate) fn planted(&self) -> (HashSet<InstanceId>, HashSet<Name>) {
        let nodes = lock(&self.nodes);
        let instances = nodes.values().flat_map(|node| node.instances().cloned()).collect();
        (instances, nodes.keys().cloned().collect())
    }

    /// A supervisor's newest definition.
    pub(crate) fn node(&self, name: &Name) -> Option<Arc<Node>> {
        lock(&self.nodes).get(name).cloned()
    }

    /// Tells a worker's supervisor that its start is held or let go.
    pub(crate) fn pass(&self, turn: Turn) {
        let address = self.home(&turn.worker).and_then(|home| self.supervisor(&home));
        if let Some(address) = address {
            // A supervisor that ends meanwhile learns the truth from the gate when it starts again.
            let _ = address.send_message(SupervisorMsg::Turn(turn));
        }
    }

    /// Tells a worker's supervisor what the probes say of an instance.
    pub(crate) fn judge(&self, judged: Judged) {
        let address = self.home(judged.instance.worker()).and_then(|home| self.supervisor(&home));
        if let Some(address) = address {
            // One that ends meanwhile has nobody left to judge; the next verdict reaches its successor.
            let _ = address.send_message(SupervisorMsg::Judged(judged));
        }
    }

    /// Tells a worker's supervisor that the probe which stands for an instance's readiness has passed.
    pub(crate) fn probed(&self, instance: &InstanceId, incarnation: Incarnation) {
        let address = self.home(instance.worker()).and_then(|home| self.supervisor(&home));
        if let Some(address) = address {
            let _ = address.send_message(SupervisorMsg::Probed(instance.clone(), incarnation));
        }
    }

    /// From now on it is told here what becomes of every incarnation. Once, before anybody is started.
    pub(crate) fn watch_vitals(&self, sink: VitalSink) {
        // A second watcher would be a bug, and the first goes on.
        let _ = self.vitals.set(sink);
    }

    /// Tells whoever watches.
    pub(crate) fn vital(&self, instance: &InstanceId, incarnation: Incarnation, vital: Vital) {
        if let Some(sink) = self.vitals.get() {
            sink(instance, incarnation, vital);
        }
    }

    /// An event about nobody in particular.
    pub(crate) fn tell(&self, kind: EventKind, message: impl Into<String>) {
        self.emit(Event::new(kind, message));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
