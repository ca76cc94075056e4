//! How what a step of recovery wants is done to one worker, where that is no restart.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Remedy, WorkerSettings};
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{ChildKey, Phase, TaskNumber, Undone, Work};
use crate::recovery::Strategy;
use crate::worker::{Ailing, Deed, Job, Sights};

use super::actor::{SupervisorMsg, SupervisorState};
use super::recovery::Performed;
use super::sizing::Sizing;

/// Something to be done for a step.
pub(super) struct DoThis {
    /// To be handed back.
    pub(super) task: TaskNumber,
    /// Which start of the child.
    pub(super) incarnation: Incarnation,
    pub(super) work: Work,
    /// Given up after this long.
    pub(super) timeout: Duration,
}

impl SupervisorState {
    /// Has something done, and hears of it as [`Performed`].
    pub(super) fn have_done(&mut self, child: ChildKey, instance: &InstanceId, order: DoThis) {
        let DoThis { task, incarnation, work, timeout } = order;
        let (look, anew) = (work == Work::Gather, work == Work::Carry(Strategy::Recreate));
        let own = self.ear.address();
        let answer = move |result: Result<Sights, Undone>| {
            // A supervisor that is gone needs no answer.
            let _ = own.send_message(SupervisorMsg::Performed(Performed { child, task, look, anew, result }));
        };
        let failed = |text: &str| Err(Undone::Failed(text.to_owned()));
        let Some(settings) = self.settings_of(instance) else {
            return answer(failed("its settings are gone"));
        };
        let means = match &work {
            Work::Gather => Ok(Means::Deed(Deed::Look)),
            Work::Carry(strategy) => deed(&settings, strategy),
        };
        let pid = self.plane.board.read(instance, |entry| entry.pid).flatten();
        let runs = self.core.child(child).is_some_and(|view| view.phase == Phase::Running);
        let Some(slot) = self.slot_mut(child) else { return answer(failed("it is gone")) };
        match means {
            Ok(Means::Code(name)) => {
                let open = slot.incident.as_ref();
                let cause = open.map(|open| open.cause.word().to_owned()).unwrap_or_default();
                let ailing = Ailing { instance: instance.clone(), incarnation, pid, cause };
                let done = move |result: Result<Sights, String>| answer(result.map_err(Undone::Failed));
                self.plane.remedy(&name, ailing, timeout, Box::new(done));
            }
            Ok(Means::Number { more }) => {
                let (cause, incident) =
                    slot.incident.as_ref().map(|open| (open.cause.clone(), Arc::clone(&open.id))).unzip();
                // Who is down is not kept down until the newcomer is there.
                let instance = instance.clone();
                let sizing = Sizing { instance, more, cause, incident, settled: runs, timeout };
                self.plane.resize(sizing, Box::new(answer));
            }
            Ok(Means::Signal(signal)) => {
                slot.running.signal(signal);
                answer(Ok(Vec::new()));
            }
            Ok(Means::Deed(deed)) => {
                let job = Job { incarnation, pid, timeout, deed };
                let done = move |result: Result<Sights, String>| answer(result.map_err(Undone::Failed));
                slot.running.perform(job, Box::new(done));
                if anew {
                    slot.running.remake();
                }
            }
            Err(reason) => answer(Err(Undone::Failed(reason))),
        }
    }
}

/// How a strategy is carried out on a worker, where it is no restart.
enum Means {
    /// The runner does it.
    Deed(Deed),
    /// The process gets it.
    Signal(i32),
    /// Of the program.
    Code(Name),
    /// One instance more, or one less.
    Number { more: bool },
}

/// What a strategy is to this worker, or why it is nothing.
fn deed(settings: &WorkerSettings, strategy: &Strategy) -> Result<Means, String> {
    let remedy = |remedy: &Option<Remedy>, of_actor: Deed, key: &str| match remedy {
        Some(Remedy::Signal(signal)) => Ok(Means::Signal(*signal)),
        Some(Remedy::Command(argv)) => Ok(Means::Deed(Deed::Run { argv: argv.clone() })),
        None if settings.actor.is_some() => Ok(Means::Deed(of_actor)),
        None => Err(format!("worker {} has no on.{key}", settings.name)),
    };
    match strategy {
        Strategy::ConnectionReset => {
            remedy(&settings.on.connection_reset, Deed::ResetConnections, "connection_reset")
        }
        Strategy::MemoryCleanup => remedy(&settings.on.memory_cleanup, Deed::TrimMemory, "memory_cleanup"),
        Strategy::Reset => Ok(Means::Deed(Deed::Archive)),
        Strategy::Recreate => Ok(Means::Deed(Deed::Recreate)),
        Strategy::Own(name) => match settings.strategies.get(name) {
            Some(own) if own.code => Ok(Means::Code(name.clone())),
            Some(own) => Ok(Means::Deed(Deed::Run { argv: own.command.clone() })),
            None => Err(format!("there is no [strategy.{name}]")),
        },
        Strategy::ScaleUp => Ok(Means::Number { more: true }),
        Strategy::ScaleDown => Ok(Means::Number { more: false }),
        Strategy::SoftRestart | Strategy::HardRestart | Strategy::Quarantine => {
            Err(format!("{strategy} is nothing that is done beside a worker"))
        }
    }
}
