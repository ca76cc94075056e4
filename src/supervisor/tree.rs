//! The tree as plain data: which supervisor owns which children, and what the policy is told about each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::reach::heard_within;
use crate::config::{Settings, StopSettings, SupervisorSettings, WorkerSettings};
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{
    Backoff, ChildKind, ChildSpec, ExitCodes, OnExhausted, Pause, Phase, PoolOf, Restart, RestartStrategy,
    RetryPark, Shutdown, SupervisorSpec,
};
use crate::recovery::Ladder;

use super::actor::{MakeRunner, Seed, SupervisorArguments, Upward};
use super::board::{Place, SupervisorState};
use super::nested::SupervisorRunner;
use super::plane::Plane;

/// One supervisor and everything below it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// What it was told.
    pub(crate) settings: Arc<SupervisorSettings>,
    /// Its children in start order.
    pub(crate) children: Vec<Branch>,
}

/// One child of a supervisor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Branch {
    /// A leaf: one instance of a worker.
    Worker(InstanceId, Arc<WorkerSettings>),
    /// A node.
    Supervisor(Arc<Node>),
}

/// Who a child is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// A leaf.
    Worker(InstanceId),
    /// A node.
    Supervisor(Name),
}

impl Who {
    /// What its supervisor calls it.
    pub(super) fn id(&self) -> String {
        match self {
            Self::Worker(instance) => instance.to_string(),
            Self::Supervisor(name) => name.to_string(),
        }
    }

    /// Where it stands on the board, if it is an instance.
    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Worker(instance) => Some(Place::of(instance.clone())),
            Self::Supervisor(_) => None,
        }
    }
}

impl Node {
    /// The tree of these settings. `None` only for settings without a root, which validation never makes.
    pub(crate) fn of(settings: &Settings) -> Option<Arc<Self>> {
        let root = settings.supervisors.first()?;
        Some(Arc::new(Self::build(root, &ByName::of(settings))))
    }

    fn build(own: &Arc<SupervisorSettings>, all: &ByName<'_>) -> Self {
        let children = own.children.iter().flat_map(|name| all.branches(name)).collect();
        Self { settings: Arc::clone(own), children }
    }

    /// The same tree without some of its branches, wherever they are.
    pub(crate) fn without(self: &Arc<Self>, gone: &HashSet<Name>) -> Arc<Self> {
        let children = self.children.iter().filter(|branch| !gone.contains(branch.name()));
        let children = children.map(|branch| match branch {
            Branch::Worker(..) => branch.clone(),
            Branch::Supervisor(node) => Branch::Supervisor(node.without(gone)),
        });
        Arc::new(Self { settings: Arc::clone(&self.settings), children: children.collect() })
    }

    /// Its own workers, once for all of their instances.
    pub(crate) fn workers(&self) -> Vec<Arc<WorkerSettings>> {
        let mut seen = HashSet::new();
        let workers = self.children.iter().filter_map(|branch| match branch {
            Branch::Worker(_, worker) => seen.insert(&worker.name).then(|| Arc::clone(worker)),
            Branch::Supervisor(_) => None,
        });
        workers.collect()
    }

    /// One of its own workers.
    pub(super) fn worker(&self, name: &Name) -> Option<&Arc<WorkerSettings>> {
        self.children.iter().find_map(|branch| match branch {
            Branch::Worker(_, worker) if worker.name == *name => Some(worker),
            Branch::Worker(..) | Branch::Supervisor(_) => None,
        })
    }

    /// Its own instances.
    pub(super) fn instances(&self) -> impl Iterator<Item = &InstanceId> {
        self.children.iter().filter_map(|branch| match branch {
            Branch::Worker(instance, _) => Some(instance),
            Branch::Supervisor(_) => None,
        })
    }

    /// This node and every one below it.
    pub(crate) fn visit(self: &Arc<Self>, see: &mut impl FnMut(&Arc<Self>)) {
        see(self);
        for branch in &self.children {
            if let Branch::Supervisor(node) = branch {
                node.visit(see);
            }
        }
    }

    /// What the policy is told about the supervisor itself.
    pub(crate) fn spec(&self, seed: u64) -> SupervisorSpec {
        SupervisorSpec {
            strategy: self.settings.strategy,
            intensity: self.settings.intensity,
            on_exhausted: self.settings.on_exhausted,
            // The ceiling of the doubling is never below the first; `check` has warned.
            retry: self
                .settings
                .retry
                .map(|retry| RetryPark { every: retry.every.max(retry.first), ..retry }),
            auto_shutdown: self.settings.auto_shutdown,
            seed,
        }
    }
}

/// Everybody by name: searching a list for each of ten thousand children would take seconds.
struct ByName<'a> {
    workers: HashMap<&'a Name, &'a Arc<WorkerSettings>>,
    supervisors: HashMap<&'a Name, &'a Arc<SupervisorSettings>>,
}

impl<'a> ByName<'a> {
    fn of(settings: &'a Settings) -> Self {
        Self {
            workers: settings.workers.iter().map(|one| (&one.name, one)).collect(),
            supervisors: settings.supervisors.iter().map(|one| (&one.name, one)).collect(),
        }
    }

    /// What a supervisor calls those of this name.
    fn ids(&self, name: &Name) -> Vec<String> {
        match self.workers.get(name) {
            Some(worker) => worker.instance_ids().map(|instance| instance.to_string()).collect(),
            None => vec![name.to_string()],
        }
    }

    fn branches(&self, name: &Name) -> Vec<Branch> {
        if let Some(worker) = self.workers.get(name) {
            let instances = worker.instance_ids();
            return instances.map(|instance| Branch::Worker(instance, Arc::clone(worker))).collect();
        }
        let own = self.supervisors.get(name);
        own.map(|own| Branch::Supervisor(Arc::new(Node::build(own, self)))).into_iter().collect()
    }
}

/// What the actor of this supervisor begins with, as of now.
pub(crate) fn arguments(node: &Node, plane: &Arc<Plane>, upward: Upward) -> SupervisorArguments {
    let name = node.settings.name.clone();
    for branch in &node.children {
        plane.settle(branch.name(), &name);
        if let Branch::Worker(instance, _) = branch {
            plane.run_again(instance);
        }
    }
    let children = node.children.iter().map(|branch| branch.seed(plane)).collect();
    SupervisorArguments { name, spec: node.spec(plane.seed), children, plane: Arc::clone(plane), upward }
}

impl Branch {
    /// The name that is unique in the tree: of the worker, whichever its instance, or of the supervisor.
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Worker(_, worker) => &worker.name,
            Self::Supervisor(node) => &node.settings.name,
        }
    }

    /// Everything from which this child grows, at this moment: whether it is held back, whether an operator
    /// stopped it, and how far its incarnations have come.
    pub(crate) fn seed(&self, plane: &Arc<Plane>) -> Seed {
        let id = self.id();
        let held = match self {
            Self::Worker(instance, _) => plane.gate.held(instance),
            Self::Supervisor(_) => false,
        };
        let wish = plane.wish(&id);
        let mut spec = self.spec(held, wish.stopped.is_some(), plane.last_incarnation(&id));
        spec.paused = wish.paused.map(|(_, until)| Pause { until: until.map(|until| plane.time_of(until)) });
        Seed { spec, who: self.who(), make: self.maker(plane), watched: self.is_watched() }
    }

    /// What its supervisor calls it.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Worker(instance, _) => instance.to_string(),
            Self::Supervisor(node) => node.settings.name.to_string(),
        }
    }

    fn maker(&self, plane: &Arc<Plane>) -> MakeRunner {
        let plane = Arc::clone(plane);
        match self.clone() {
            Self::Worker(instance, worker) => Arc::new(move |reporter| {
                let output = plane.board.instance(&instance).map(|entry| entry.output).unwrap_or_default();
                (plane.runners)(&instance, &worker, &output, reporter)
            }),
            Self::Supervisor(node) => Arc::new(move |reporter| {
                Box::new(SupervisorRunner::new(Arc::clone(&node), Arc::clone(&plane), reporter))
            }),
        }
    }

    /// Whether something looks at it from outside: at every process, and at an actor that has probes or a heartbeat. That
    /// another actor runs is known here first, and nobody else needs to hear of it.
    fn is_watched(&self) -> bool {
        match self {
            Self::Worker(_, worker) => {
                worker.actor.is_none() || worker.heartbeat.is_some() || !worker.probes.is_empty()
            }
            Self::Supervisor(_) => false,
        }
    }

    /// Who this is.
    fn who(&self) -> Who {
        match self {
            Self::Worker(instance, _) => Who::Worker(instance.clone()),
            Self::Supervisor(node) => Who::Supervisor(node.settings.name.clone()),
        }
    }

    /// What the policy is told about this child. `held`, `stopped` and `incarnation` come from the moment.
    fn spec(&self, held: bool, stopped: bool, incarnation: Incarnation) -> ChildSpec {
        match self {
            Self::Worker(instance, worker) => worker_spec(instance, worker, held, stopped, incarnation),
            Self::Supervisor(node) => supervisor_spec(node, stopped, incarnation),
        }
    }
}

fn worker_spec(
    instance: &InstanceId,
    worker: &WorkerSettings,
    held: bool,
    stopped: bool,
    incarnation: Incarnation,
) -> ChildSpec {
    ChildSpec {
        id: Arc::from(instance.to_string()),
        restart: worker.restart,
        shutdown: shutdown(&worker.stop),
        kind: ChildKind::Worker,
        significant: worker.significant,
        backoff: worker.backoff,
        exit_codes: worker.exit_codes.clone(),
        start_timeout: Some(worker.start_timeout),
        min_uptime: worker.min_uptime,
        verify: worker.verify,
        ladder: Some(worker.steps.clone().unwrap_or_else(|| Arc::new(Ladder::none()))),
        heard_within: heard_within(worker),
        pool: worker.pool.map(|pool| PoolOf {
            worker: worker.name.as_str().into(),
            min: pool.min,
            max: pool.max,
        }),
        held,
        stopped: stopped || !worker.enabled,
        paused: None,
        incarnation,
    }
}

/// A supervisor is a permanent child without a backoff of its own: its children have theirs.
fn supervisor_spec(node: &Node, stopped: bool, incarnation: Incarnation) -> ChildSpec {
    ChildSpec {
        id: Arc::from(node.settings.name.as_str()),
        restart: Restart::Permanent,
        shutdown: Shutdown::Infinity,
        kind: ChildKind::Supervisor,
        significant: false,
        backoff: Backoff {
            first: std::time::Duration::ZERO,
            factor: 1.0,
            max: std::time::Duration::ZERO,
            jitter: 0.0,
            reset_after: std::time::Duration::ZERO,
        },
        exit_codes: ExitCodes { normal: Arc::from([0]), fatal: Arc::from([]) },
        start_timeout: None,
        min_uptime: std::time::Duration::ZERO,
        verify: std::time::Duration::from_secs(10),
        ladder: None,
        heard_within: std::time::Duration::ZERO,
        pool: None,
        held: false,
        stopped,
        paused: None,
        incarnation,
    }
}

fn shutdown(stop: &StopSettings) -> Shutdown {
    if stop.timeout.is_zero() { Shutdown::BrutalKill } else { Shutdown::Timeout(stop.drain + stop.timeout) }
}

/// Every supervisor as people see it, the root first, before anything is started.
pub(crate) fn supervisor_states(settings: &Settings) -> Vec<SupervisorState> {
    let all = ByName::of(settings);
    let parent = |name: &Name| {
        settings
            .supervisors
            .iter()
            .find(|other| other.children.contains(name))
            .map(|other| other.name.clone())
    };
    settings
        .supervisors
        .iter()
        .map(|own| SupervisorState {
            name: own.name.clone(),
            parent: parent(&own.name),
            strategy: strategy_word(own.strategy),
            on_exhausted: exhausted_word(own.on_exhausted),
            max_restarts: own.intensity.max_restarts,
            within_seconds: own.intensity.within.as_secs_f64(),
            children: own.children.iter().flat_map(|name| all.ids(name)).collect(),
            phase: if own.name == Name::root() { Phase::Running } else { Phase::Starting },
            restarts: 0,
        })
        .collect()
}

/// The contract's word for a restart strategy.
fn strategy_word(strategy: RestartStrategy) -> &'static str {
    match strategy {
        RestartStrategy::OneForOne => "one_for_one",
        RestartStrategy::OneForAll => "one_for_all",
        RestartStrategy::RestForOne => "rest_for_one",
        RestartStrategy::SimpleOneForOne => "simple_one_for_one",
    }
}

/// The contract's word for what happens when intensity is spent.
fn exhausted_word(on_exhausted: OnExhausted) -> &'static str {
    match on_exhausted {
        OnExhausted::Quarantine => "quarantine",
        OnExhausted::Escalate => "escalate",
    }
}
