//! Recovery by hand: a step for a worker, an approval, and what a step would do, spelled out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::config::recovery_check::{scaling_takes, unable};
use crate::config::{PoolSettings, Remedy, Settings, WorkerSettings};
use crate::exit::signal_name;
use crate::id::{Incarnation, InstanceId};
use crate::policy::{ChildKey, Refused, Reply, Request, RestartStrategy};
use crate::recovery::{Copies, Plan, PlanLine, Skip, Step, Strategy};
use crate::supervisor::{Address, Approval, Asked, Operator, SupervisorMsg, Wanted};

use super::director::Director;
use super::handle::{ActError, Asker, Order, RuntimeHandle};
use super::target::Target;

/// Looking at a worker takes at most this long.
const LOOK: Duration = Duration::from_secs(5);
/// Copies of a worker's state that are kept.
const KEPT: u32 = 3;

/// What is asked of recovery by hand.
pub enum Mend {
    /// A step, now.
    Recover {
        /// For whom.
        target: Target,
        /// What.
        strategy: Strategy,
    },
    /// The step of an incident that waits for it may go on.
    Approve {
        /// Whose.
        instance: InstanceId,
        /// Which incident, and no other one of it.
        incident: String,
        /// Which step; `None`: whichever waits.
        step: Option<Strategy>,
    },
}

/// Where the answer goes.
pub(super) type Mended = oneshot::Sender<Result<Vec<Reached>, ActError>>;

/// An instance that was reached, and the incident that this opened.
pub(crate) type Reached = (InstanceId, Option<Arc<str>>);

impl RuntimeHandle {
    /// Takes one step of recovery with every instance of the target, at once and without the ladder. It does not wait
    /// for the outcome: that is the incident's. Scaling a whole worker is one instance more or less of it, without an
    /// incident, and the answer names all that it has then.
    ///
    /// # Errors
    /// [`ActError`]: nothing has that name, it cannot be done to it, or the runtime is ending.
    pub async fn recover(
        &self,
        target: Target,
        strategy: Strategy,
        by: Asker,
    ) -> Result<Vec<InstanceId>, ActError> {
        let reached = self.recover_each(target, strategy, by).await?;
        Ok(reached.into_iter().map(|(instance, _)| instance).collect())
    }

    /// The same, with the incident of each.
    pub(crate) async fn recover_each(
        &self,
        target: Target,
        strategy: Strategy,
        by: Asker,
    ) -> Result<Vec<Reached>, ActError> {
        self.mend(Mend::Recover { target, strategy }, by).await
    }

    /// Approves the step of an incident that waits for it.
    ///
    /// # Errors
    /// [`ActError`]: there is no such incident, or none of its steps waits.
    pub async fn approve(&self, incident: &str, by: Asker) -> Result<Vec<InstanceId>, ActError> {
        self.approve_step(incident, None, by).await
    }

    /// The same for this step alone: if meanwhile another one waits, or none, nothing is approved. `None`: whichever
    /// waits.
    ///
    /// # Errors
    /// [`ActError`]: there is no such incident, or that step of it does not wait.
    pub async fn approve_step(
        &self,
        incident: &str,
        step: Option<Strategy>,
        by: Asker,
    ) -> Result<Vec<InstanceId>, ActError> {
        let Some(found) = self.healer().incident(incident) else {
            return Err(ActError::NotFound(incident.to_owned()));
        };
        let Ok(instance) = found.instance.parse() else {
            return Err(ActError::NotFound(found.instance));
        };
        if let Some(closed) = &found.closed {
            let text =
                format!("{incident} is over ({}): nothing of it waits any more", closed.outcome.word());
            return Err(ActError::Conflict(text));
        }
        let approved = self.mend(Mend::Approve { instance, incident: incident.to_owned(), step }, by).await?;
        Ok(approved.into_iter().map(|(instance, _)| instance).collect())
    }

    /// What a step would do to each instance of a target; nothing is done.
    ///
    /// # Errors
    /// [`ActError`]: nothing has that name, or there is no such strategy.
    pub fn plans(&self, target: &Target, strategy: &Strategy) -> Result<Vec<Plan>, ActError> {
        let settings = self.info().settings();
        if let (true, Target::Worker(name)) = (strategy.is_scaling(), target) {
            let worker = settings.workers.iter().find(|one| one.name == *name);
            let worker = worker.ok_or_else(|| ActError::NotFound(name.to_string()))?;
            return Ok(vec![number(worker, strategy)]);
        }
        let meant = |id: &InstanceId| match target {
            Target::Worker(name) => id.worker() == name,
            Target::Instance(one) => id == one,
            Target::All => true,
            Target::Supervisor(_) => false,
        };
        let board = self.board();
        let states = board.instances();
        let mut plans: Vec<Plan> = Vec::new();
        for state in states.iter().filter(|state| meant(&state.instance)) {
            let Some(worker) = settings.workers.iter().find(|one| one.name == *state.instance.worker())
            else {
                continue;
            };
            // A word that means nothing is a mistake in what was asked, not a property of the worker.
            if strategy.own().is_some_and(|name| !worker.strategies.contains_key(name)) {
                return Err(impossible(strategy, &state.instance, worker));
            }
            plans.push(plan(&settings, worker, &state.instance, state.incarnation, strategy));
        }
        if plans.is_empty() { Err(ActError::NotFound(target.to_string())) } else { Ok(plans) }
    }

    async fn mend(&self, mend: Mend, by: Asker) -> Result<Vec<Reached>, ActError> {
        let (reply, answer) = oneshot::channel();
        self.pass_order(Order::Mend { mend, by, reply }).await?;
        answer.await.map_err(|_| ActError::ShuttingDown)?
    }
}

impl Director {
    /// Passes what is asked to the supervisors that decide, and answers once they have.
    pub(super) fn mend(&self, mend: Mend, by: &Asker, reply: Mended) {
        let asked = match mend {
            // The number is the worker's, not that of each of its instances.
            Mend::Recover { target: Target::Worker(name), strategy } if strategy.is_scaling() => {
                return self.scale_by_one(&name, &strategy, by, reply);
            }
            Mend::Recover { target, strategy } => self.ask_steps(&target, &strategy, by),
            Mend::Approve { instance, incident, step } => {
                let text = format!("the step of {incident} that waited is approved by {}", by.0);
                let mut event = self.requested(&Target::Instance(instance.clone()), "approve", text, by);
                event.incident = Some(incident.clone());
                let approve = |child: ChildKey| Request::Approve { child };
                let approval = Box::new(Approval { incident, step, event });
                let asked = self.ask_one(&instance, Box::new(approve), Some(approval), by);
                asked.map(|waiting| vec![waiting])
            }
        };
        match asked {
            Err(error) => drop(reply.send(Err(error))),
            // An asker that has gone away needs no answer.
            Ok(asked) => drop(tokio::spawn(async move { reply.send(settled(asked).await) })),
        }
    }

    fn ask_steps(&self, target: &Target, strategy: &Strategy, by: &Asker) -> Result<Vec<Waiting>, ActError> {
        let instances = self.instances_of(target)?;
        let settings = self.settings();
        let mut steps = Vec::new();
        for instance in instances {
            let Some(worker) = settings.workers.iter().find(|one| one.name == *instance.worker()) else {
                return Err(ActError::NotFound(instance.to_string()));
            };
            if let Some(entry) = self.entry(&instance).filter(|entry| entry.wanted == Wanted::Stopped) {
                let why = match entry.wanted_by {
                    Some(_) => "was stopped by hand",
                    None => "is not enabled (enabled = false) and does not run",
                };
                let text = format!("{instance} {why}: `regrow start {instance}` first");
                return Err(ActError::Conflict(text));
            }
            if unable(strategy, worker, &worker.strategies).is_some() {
                return Err(impossible(strategy, &instance, worker));
            }
            let step = Step { timeout: timeout(worker, strategy), ..Step::new(strategy.clone()) };
            steps.push((instance, step));
        }
        // Before what comes of it.
        self.announce_recover(target, strategy, by);
        let asked = steps.into_iter().map(|(instance, step)| {
            let asker: Arc<str> = by.0.as_str().into();
            let request = move |child: ChildKey| Request::Recover { child, step: Box::new(step), by: asker };
            self.ask_one(&instance, Box::new(request), None, by)
        });
        asked.collect()
    }

    pub(super) fn announce_recover(&self, target: &Target, strategy: &Strategy, by: &Asker) {
        let text = format!("recover of {target} by {strategy} asked by {}", by.0);
        let mut event = self.requested(target, "recover", text, by);
        event.data.insert("strategy".to_owned(), strategy.word().into());
        self.plane.emit(event);
    }

    fn instances_of(&self, target: &Target) -> Result<Vec<InstanceId>, ActError> {
        match target {
            Target::Supervisor(name) => Err(ActError::Conflict(format!(
                "recover takes workers, and sup:{name} is a supervisor; name those of its workers that are meant"
            ))),
            Target::Worker(_) | Target::Instance(_) | Target::All => self.children(target),
        }
    }

    fn entry(&self, instance: &InstanceId) -> Option<crate::supervisor::InstanceState> {
        self.plane.board.instance(instance)
    }

    fn settings(&self) -> Arc<Settings> {
        self.info.settings()
    }

    fn address_of(&self, child: &InstanceId) -> Result<Address, ActError> {
        let home = self.plane.home(child.worker()).ok_or_else(|| ActError::NotFound(child.to_string()))?;
        self.plane.supervisor(&home).ok_or_else(|| {
            ActError::Conflict(format!("supervisor {home}, which owns {child}, is down itself"))
        })
    }

    fn ask_one(
        &self,
        instance: &InstanceId,
        request: Box<dyn FnOnce(ChildKey) -> Request + Send>,
        approval: Option<Box<Approval>>,
        by: &Asker,
    ) -> Result<Waiting, ActError> {
        let address = self.address_of(instance)?;
        let ((reply, answer), (tell, opened)) = (oneshot::channel(), oneshot::channel());
        let by = Operator { by: by.0.clone(), at: Timestamp::now() };
        let child = instance.to_string();
        let asked = Asked { approval, opened: Some(tell), ..Asked::new(child, request, by, reply) };
        let sent = address.send_message(SupervisorMsg::Asked(Box::new(asked)));
        sent.map_err(|_| ActError::Conflict(format!("the supervisor of {instance} is just ending")))?;
        Ok(Waiting { instance: instance.clone(), answer, opened })
    }
}

/// An instance, and what its supervisor will say.
struct Waiting {
    instance: InstanceId,
    answer: oneshot::Receiver<Reply>,
    opened: oneshot::Receiver<Option<Arc<str>>>,
}

async fn settled(asked: Vec<Waiting>) -> Result<Vec<Reached>, ActError> {
    let mut done = Vec::new();
    for Waiting { instance, answer, opened } in asked {
        match answer.await {
            Ok(Ok(_)) => {
                // A supervisor that ends right then has told nobody.
                let incident = opened.await.ok().flatten();
                done.push((instance, incident));
            }
            Ok(Err(Refused::CannotRecover(reason))) => {
                return Err(ActError::Conflict(format!("{instance}: {reason}")));
            }
            Ok(Err(Refused::NotFound)) => {
                return Err(ActError::Conflict(format!(
                    "{instance} has ended for good, so there is nothing to recover: `regrow start {instance}` runs it again"
                )));
            }
            Ok(Err(Refused::ShuttingDown)) | Err(_) => return Err(ActError::ShuttingDown),
            Ok(Err(refused)) => return Err(ActError::Conflict(format!("{instance}: refused ({refused:?})"))),
        }
    }
    Ok(done)
}

fn impossible(strategy: &Strategy, instance: &InstanceId, worker: &WorkerSettings) -> ActError {
    let reason = unable(strategy, worker, &worker.strategies);
    let reason = reason.map_or_else(|| "it cannot be done".to_owned(), |reason| reason.to_string());
    ActError::Conflict(format!("{strategy} cannot be done to {instance}: {reason}"))
}

fn timeout(worker: &WorkerSettings, strategy: &Strategy) -> Duration {
    let own = strategy.own().and_then(|name| worker.strategies.get(name));
    let usual = || scaling_takes(strategy, worker).unwrap_or(Step::new(strategy.clone()).timeout);
    own.map_or_else(usual, |own| own.timeout)
}

fn plan(
    settings: &Settings,
    worker: &WorkerSettings,
    instance: &InstanceId,
    incarnation: Incarnation,
    strategy: &Strategy,
) -> Plan {
    let mut lines = Vec::new();
    if let Some(reason) = unable(strategy, worker, &worker.strategies) {
        lines.push(PlanLine::Impossible { reason: reason.to_string() });
        return Plan { instance: instance.to_string(), strategy: strategy.clone(), lines };
    }
    if let Some(bound) = bound(worker, strategy) {
        lines.push(PlanLine::Impossible { reason: bound.to_string() });
        return Plan { instance: instance.to_string(), strategy: strategy.clone(), lines };
    }
    lines.push(PlanLine::Evidence { within: LOOK });
    let (before, after) = siblings(settings, instance);
    let signal = worker.actor.is_none().then(|| signal_name(worker.stop.signal));
    let ask = PlanLine::Ask { signal, patience: worker.stop.drain + worker.stop.timeout };
    let verify = PlanLine::Verify { hold: worker.verify };
    let start = PlanLine::Start { incarnation: incarnation.next().0, ready_within: worker.start_timeout };
    let stop_others = |who: Vec<String>| (!who.is_empty()).then_some(PlanLine::StopSiblings { who });
    let start_others = |who: Vec<String>| (!who.is_empty()).then_some(PlanLine::StartSiblings { who });
    match strategy {
        Strategy::SoftRestart | Strategy::HardRestart | Strategy::Reset | Strategy::Recreate => {
            lines.extend(stop_others(before));
            lines.push(if *strategy == Strategy::HardRestart { PlanLine::Kill } else { ask });
            if *strategy == Strategy::Reset {
                lines.push(PlanLine::Archive { keep: KEPT });
            } else if *strategy == Strategy::Recreate {
                lines.push(PlanLine::Recreate { keep: KEPT });
            }
            lines.push(start);
            lines.extend(start_others(after));
            lines.push(verify);
        }
        Strategy::Quarantine => {
            lines.push(ask);
            let home = settings.supervisors.iter().find(|one| one.children.contains(instance.worker()));
            let retry = home.and_then(|home| home.retry).map(|retry| retry.first);
            lines.push(PlanLine::Park { retry });
        }
        Strategy::ConnectionReset
        | Strategy::MemoryCleanup
        | Strategy::Own(_)
        | Strategy::ScaleUp
        | Strategy::ScaleDown => {
            lines.push(PlanLine::Do { what: deed(worker, strategy), timeout: timeout(worker, strategy) });
            lines.push(verify);
        }
    }
    Plan { instance: instance.to_string(), strategy: strategy.clone(), lines }
}

/// Another number of instances, which is a worker's as a whole.
fn number(worker: &WorkerSettings, strategy: &Strategy) -> Plan {
    let line = match (bound(worker, strategy), strategy, worker.instances) {
        (Some(bound), ..) => PlanLine::Impossible { reason: bound.to_string() },
        (None, Strategy::ScaleDown, 1) => {
            PlanLine::Impossible { reason: "there is one; `regrow stop` is for none".to_owned() }
        }
        (None, ..) => PlanLine::Do { what: deed(worker, strategy), timeout: timeout(worker, strategy) },
    };
    Plan { instance: worker.name.to_string(), strategy: strategy.clone(), lines: vec![line] }
}

/// Why a pool cannot have one more, or one less.
fn bound(worker: &WorkerSettings, strategy: &Strategy) -> Option<Skip> {
    let PoolSettings { min, max } = worker.pool?;
    Copies { now: worker.instances, min, max }.bound(strategy)
}

/// Who is stopped with it, and who is started after it.
fn siblings(settings: &Settings, instance: &InstanceId) -> (Vec<String>, Vec<String>) {
    let home = settings.supervisors.iter().find(|one| one.children.contains(instance.worker()));
    let Some(home) = home else { return (Vec::new(), Vec::new()) };
    let place = home.children.iter().position(|name| name == instance.worker()).unwrap_or(0);
    let names = |from: usize| home.children[from.min(home.children.len())..].iter().map(ToString::to_string);
    let others = |from: usize| names(from).filter(|name| name != instance.worker().as_str());
    match home.strategy {
        RestartStrategy::OneForOne | RestartStrategy::SimpleOneForOne => (Vec::new(), Vec::new()),
        RestartStrategy::RestForOne => {
            let after: Vec<String> = names(place + 1).collect();
            (after.iter().rev().cloned().collect(), after)
        }
        RestartStrategy::OneForAll => {
            let all: Vec<String> = others(0).collect();
            (all.iter().rev().cloned().collect(), all)
        }
    }
}

fn deed(worker: &WorkerSettings, strategy: &Strategy) -> String {
    let remedy = |remedy: &Option<Remedy>, of_actor: &str| match remedy {
        Some(Remedy::Signal(signal)) => format!("send {} to its main process", signal_name(*signal)),
        Some(Remedy::Command(argv)) => format!("run {argv:?} beside it"),
        None => of_actor.to_owned(),
    };
    match strategy {
        Strategy::ConnectionReset => remedy(&worker.on.connection_reset, "call reset_connections() of it"),
        Strategy::MemoryCleanup => remedy(&worker.on.memory_cleanup, "call trim_memory() of it"),
        Strategy::Own(name) if worker.strategies.get(name).is_some_and(|own| own.code) => {
            format!("call {name} of the program")
        }
        Strategy::Own(name) => {
            let argv = worker.strategies.get(name).map(|own| own.command.clone()).unwrap_or_default();
            format!("run {argv:?} beside it")
        }
        Strategy::ScaleUp => {
            format!("add {}/{}, and wait until it is ready", worker.name, worker.instances)
        }
        Strategy::ScaleDown => {
            let last = worker.instances.saturating_sub(1);
            format!("take {}/{last} away, and wait until it is gone", worker.name)
        }
        Strategy::SoftRestart
        | Strategy::HardRestart
        | Strategy::Reset
        | Strategy::Recreate
        | Strategy::Quarantine => strategy.to_string(),
    }
}
