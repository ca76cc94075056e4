//! The status board: the newest state of every instance, written by the supervision actors, read by anyone.
//!
//! Reading it asks no actor, so `status` answers whatever the tree is doing, and a thousand workers cost one
//! lock each. Writers never wait: an entry's lock is held only to copy.

mod heard;
mod place;
mod plans;
mod recovering;
mod status;
mod supervisors;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::event::CauseName;
pub use crate::health::Health;
use crate::health::Verdict;
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::Phase;
use crate::recovery::{BreakerState, Outcome};
use crate::worker::OutputCounters;

use super::attempts::{Attempts, Totals};

pub use heard::{LastExit, Told, Trouble};
pub(super) use place::{End, Entry, Place};
pub use plans::{Moment, NextAction, StandIn};
pub use recovering::{INCIDENT_BUCKETS, Recovered, Recovering, Spread};

/// What a worker that is paused says after a change that needs a new process.
pub(crate) const OUTDATED: &str =
    "it runs as it was set up before its last change; it starts anew with that once its pause ends";

/// What an operator wants of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// To run.
    Running,
    /// To be down.
    Stopped,
    /// To be left alone.
    Paused,
}

/// Who asked for something, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    /// A user name, a token's name, or `uid 1000`.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Everything people see of one instance.
#[derive(Debug, Clone)]
pub struct InstanceState {
    /// Who.
    pub instance: InstanceId,
    /// Its supervisor.
    pub supervisor: Name,
    /// `process` or `actor`.
    pub kind: &'static str,
    /// Whether its loss is critical.
    pub critical: bool,
    /// Where it is.
    pub phase: Phase,
    /// Something of an earlier runtime lives and holds its start back; `phase` is `stopping` then, or `stuck` if it
    /// cannot be killed.
    pub survivor: Option<StandIn>,
    /// What the operator wants.
    pub wanted: Wanted,
    /// Who wanted it, where somebody did.
    pub wanted_by: Option<Operator>,
    /// Whether this incarnation is ready.
    pub ready: bool,
    /// Whether it was taken over from an earlier runtime.
    pub adopted: bool,
    /// Main process.
    pub pid: Option<u32>,
    /// Newest incarnation.
    pub incarnation: Incarnation,
    /// Starts after the first.
    pub restarts: u64,
    /// The same, by cause.
    pub restarts_by_cause: BTreeMap<CauseName, u64>,
    /// What came of the restarts that answered a failure.
    pub soft_restarts: Attempts,
    /// What it had behind it when this runtime began.
    pub earlier: Totals,
    /// When this incarnation was started.
    pub started_at: Option<Timestamp>,
    /// When this phase began.
    pub since: Timestamp,
    /// When this incarnation was started and when this phase began, by a clock that nobody sets: what decisions rest on.
    pub(crate) steady: Steady,
    /// How the incarnation before ended. In a box, as is what is seldom there.
    pub last_exit: Option<Box<LastExit>>,
    /// What comes next.
    pub next_action: Option<NextAction>,
    /// Restarts that intensity still allows.
    pub budget_left: u32,
    /// Who holds its start back.
    pub waits_for: Vec<String>,
    /// What it said about itself (`STATUS=`).
    pub status_text: Option<String>,
    /// What it told over its own socket.
    pub told: Option<Arc<Told>>,
    /// Last heartbeat.
    pub last_heartbeat_at: Option<Timestamp>,
    /// It runs with settings that are not in force any more.
    pub outdated: bool,
    /// What is wrong, in words, as far as it says or shows so itself.
    pub issues: Vec<String>,
    /// Whether it has probes, whose word is waited for before it is called healthy.
    pub probed: bool,
    /// What its probes said last, and of which incarnation.
    pub judged: Option<(Incarnation, Arc<Verdict>)>,
    /// What it could not be given, such as a cgroup; for `describe`.
    pub notes: Vec<String>,
    /// Its output.
    pub output: Arc<OutputCounters>,
    /// What goes on in its open incident.
    pub recovery: Option<Box<Recovering>>,
    /// The breaker of its ladder.
    pub breaker: BreakerState,
    /// Steps of recovery beside plain restarts, by strategy and what came of them.
    pub recoveries: BTreeMap<(String, Outcome), u64>,
    /// The last incident that was closed.
    pub last_incident: Option<Arc<str>>,
    /// How long the incarnation before had run, in seconds.
    pub last_run: Option<f64>,
}

/// Moments that do not move when the wall clock is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    /// The newest incarnation was started, or taken over.
    pub(crate) started: Option<Instant>,
    /// The phase began.
    pub(crate) entered: Instant,
}

impl InstanceState {
    /// An instance that was never started.
    #[must_use]
    pub fn new(instance: InstanceId, supervisor: Name, kind: &'static str, critical: bool) -> Self {
        Self {
            instance,
            supervisor,
            kind,
            critical,
            phase: Phase::Stopped,
            survivor: None,
            wanted: Wanted::Running,
            wanted_by: None,
            ready: false,
            adopted: false,
            pid: None,
            incarnation: Incarnation::NONE,
            restarts: 0,
            restarts_by_cause: BTreeMap::new(),
            soft_restarts: Attempts::default(),
            earlier: Totals::default(),
            started_at: None,
            since: Timestamp::now(),
            steady: Steady { started: None, entered: Instant::now() },
            last_exit: None,
            next_action: None,
            budget_left: 0,
            waits_for: Vec::new(),
            status_text: None,
            told: None,
            last_heartbeat_at: None,
            outdated: false,
            issues: Vec::new(),
            probed: false,
            judged: None,
            notes: Vec::new(),
            output: Arc::default(),
            recovery: None,
            breaker: BreakerState::Closed,
            recoveries: BTreeMap::new(),
            last_incident: None,
            last_run: None,
        }
    }

    /// The phase that the policy sees. What an earlier runtime left is shown until it is gone, whatever is decided
    /// meanwhile.
    pub(crate) fn enter(&mut self, phase: Phase, at: Timestamp) {
        match &mut self.survivor {
            Some(survivor) => survivor.then = phase,
            None if self.phase != phase => {
                self.phase = phase;
                self.since = at;
                self.steady.entered = Instant::now();
            }
            None => {}
        }
    }

    /// Whether this runtime has never started it.
    pub(crate) fn is_untouched(&self) -> bool {
        self.steady.started.is_none() && self.last_exit.is_none()
    }

    /// The phase that the policy has seen, whatever stands in its place.
    pub(crate) fn own_phase(&self) -> Phase {
        self.survivor.map_or(self.phase, |survivor| survivor.then)
    }

    /// A survivor in this phase stands in its place.
    pub(crate) fn stand_in(&mut self, phase: Phase, pid: Option<u32>, incarnation: Option<Incarnation>) {
        self.survivor = Some(StandIn { pid, incarnation, then: self.own_phase() });
        (self.phase, self.since, self.pid) = (phase, Timestamp::now(), pid);
        self.steady.entered = Instant::now();
    }

    /// The survivor is gone.
    pub(crate) fn unstick(&mut self) {
        if let Some(survivor) = self.survivor.take() {
            (self.phase, self.since, self.pid) = (survivor.then, Timestamp::now(), None);
            self.steady.entered = Instant::now();
        }
    }

    /// What the probes say of the incarnation that runs.
    #[must_use]
    pub fn verdict(&self) -> Option<&Arc<Verdict>> {
        let judged = self.judged.as_ref().filter(|(of, _)| *of == self.incarnation);
        judged.map(|(_, verdict)| verdict).or_else(|| self.left_alone())
    }

    /// The same, but for a word without an opinion on one that nobody probes: it is of before it was ready.
    fn word(&self) -> Option<&Arc<Verdict>> {
        self.verdict().filter(|verdict| self.probed || verdict.health != Health::Unknown)
    }

    /// The contract's health. A ready worker without probes is healthy; one that should run and does not is dead.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.phase {
            Phase::Running if self.ready => match self.word() {
                Some(verdict) => verdict.health,
                None if self.probed => Health::Unknown,
                None => Health::Healthy,
            },
            Phase::Running
            | Phase::Starting
            | Phase::Waiting
            | Phase::Stopping
            | Phase::Stopped
            | Phase::Done => Health::Unknown,
            Phase::Backoff | Phase::Quarantined | Phase::Stuck => Health::Dead,
        }
    }

    /// The health score 0..1; `None`: no data.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        if let Some(verdict) = self.word().filter(|_| self.phase == Phase::Running && self.ready) {
            return verdict.score;
        }
        match self.health() {
            Health::Healthy => Some(1.0),
            Health::Dead => Some(0.0),
            Health::Unknown | Health::Degraded | Health::Unhealthy => None,
        }
    }

    /// Everything that is wrong with it, in words.
    #[must_use]
    pub fn all_issues(&self) -> Vec<String> {
        let mut all = self.issues.clone();
        if self.outdated {
            all.push(OUTDATED.to_owned());
        }
        if let Some(verdict) = self.verdict().filter(|_| self.phase == Phase::Running) {
            all.extend(verdict.issues.iter().filter(|issue| !self.issues.contains(issue)).cloned());
        }
        all
    }
}

/// What people see of one supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorState {
    /// Who.
    pub name: Name,
    /// Its supervisor; the root has none.
    pub parent: Option<Name>,
    /// `one_for_one`, `one_for_all` or `rest_for_one`.
    pub strategy: &'static str,
    /// `quarantine` or `escalate`.
    pub on_exhausted: &'static str,
    /// Restarts allowed in a window.
    pub max_restarts: u32,
    /// Length of the window in seconds.
    pub within_seconds: f64,
    /// Names of its children in start order: instances and supervisors.
    pub children: Vec<String>,
    /// `running`, `stopped`, `starting`, `backoff` …
    pub phase: Phase,
    /// How often it was started again.
    pub restarts: u64,
}

/// How far the rolling restart of a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollState {
    /// It goes on.
    UnderWay,
    /// Every instance was replaced.
    Done,
    /// It ended early, for this reason.
    Failed(String),
}

struct Slots {
    instances: Vec<Arc<Mutex<Entry>>>,
    by_id: BTreeMap<InstanceId, usize>,
    supervisors: Vec<SupervisorState>,
    /// The last rolling restart of each worker.
    rolls: BTreeMap<Name, RollState>,
}

/// The board; cheap to clone.
#[derive(Clone)]
pub struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    slots: RwLock<Slots>,
    version: watch::Sender<u64>,
    stale: AtomicU64,
    /// Rises whenever somebody comes or goes.
    places: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        let slots = Slots {
            instances: Vec::new(),
            by_id: BTreeMap::new(),
            supervisors: Vec::new(),
            rolls: BTreeMap::new(),
        };
        let (version, _) = watch::channel(0);
        let (slots, stale, places) = (RwLock::new(slots), AtomicU64::new(0), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { slots, version, stale, places }) }
    }

    /// Adds an instance at the end, or replaces its state if it is there.
    pub fn put(&self, state: InstanceState) {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        let id = state.instance.clone();
        match slots.by_id.get(&id).copied() {
            Some(at) => *lock(&slots.instances[at]) = Entry::from(state),
            None => {
                let at = slots.instances.len();
                slots.instances.push(Arc::new(Mutex::new(Entry::from(state))));
                slots.by_id.insert(id, at);
                self.shared.places.fetch_add(1, Ordering::Release);
            }
        }
        drop(slots);
        self.bump();
    }

    /// Takes an instance off the board.
    pub fn remove(&self, id: &InstanceId) {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = slots.by_id.remove(id) {
            slots.instances.remove(at);
            self.shared.places.fetch_add(1, Ordering::Release);
            for place in slots.by_id.values_mut().filter(|place| **place > at) {
                *place -= 1;
            }
        }
        drop(slots);
        self.bump();
    }

    /// Changes one instance's state and wakes who waits for a change. Unknown ids are ignored.
    pub fn update(&self, id: &InstanceId, change: impl FnOnce(&mut InstanceState)) {
        let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = slots.by_id.get(id).copied() else { return };
        change(lock(&slots.instances[at]).whole());
        drop(slots);
        self.bump();
    }

    /// One instance's state.
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> Option<InstanceState> {
        let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
        let at = slots.by_id.get(id).copied()?;
        Some(lock(&slots.instances[at]).whole().clone())
    }

    /// How many instances there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.slots.read().unwrap_or_else(PoisonError::into_inner).instances.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every instance, in the order of the file.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceState> {
        let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.instances.iter().map(|entry| lock(entry).whole().clone()).collect()
    }

    /// Notes how far a rolling restart is.
    pub fn set_roll(&self, worker: &Name, state: RollState) {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.rolls.insert(worker.clone(), state);
        drop(slots);
        self.bump();
    }

    /// The last rolling restart of a worker.
    #[must_use]
    pub fn roll(&self, worker: &Name) -> Option<RollState> {
        self.shared.slots.read().unwrap_or_else(PoisonError::into_inner).rolls.get(worker).cloned()
    }

    /// Puts the instances into this order; who is not named keeps its place behind them.
    pub fn arrange(&self, order: &[InstanceId]) {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        let place: BTreeMap<&InstanceId, usize> = order.iter().zip(0..).collect();
        let Slots { instances, by_id, .. } = &mut *slots;
        let mut all: Vec<(InstanceId, usize)> = std::mem::take(by_id).into_iter().collect();
        all.sort_by_key(|(id, at)| (place.get(id).copied().unwrap_or(usize::MAX), *at));
        let arranged = all.iter().map(|(_, at)| Arc::clone(&instances[*at])).collect();
        *instances = arranged;
        *by_id = all.into_iter().zip(0..).map(|((id, _), at)| (id, at)).collect();
        drop(slots);
        self.bump();
    }

    /// A number that rises with every change; wait for one with `changed()`.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// The same number, now.
    pub(crate) fn version(&self) -> u64 {
        *self.shared.version.borrow()
    }

    /// Counts a message about an incarnation that is over.
    pub fn count_stale(&self) {
        self.count_all_stale(1);
    }

    /// Counts messages for or about an incarnation that is over.
    pub fn count_all_stale(&self, count: u64) {
        self.shared.stale.fetch_add(count, Ordering::Relaxed);
    }

    /// Messages about incarnations that were over.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.shared.stale.load(Ordering::Relaxed)
    }

    pub(super) fn bump(&self) {
        self.shared.version.send_modify(|version| *version += 1);
    }
}

fn lock(entry: &Mutex<Entry>) -> std::sync::MutexGuard<'_, Entry> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}
