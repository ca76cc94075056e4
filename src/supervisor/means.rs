//! How a recovery strategy that is no restart is carried out on one worker.

use crate::config::{Remedy, WorkerSettings};
use crate::id::Name;
use crate::recovery::Strategy;
use crate::worker::Deed;

/// How a strategy is carried out on a worker, where it is no restart.
pub(super) enum Means {
    /// The runner does it.
    Deed(Deed),
    /// The process gets it.
    Signal(i32),
    /// Of the program.
    Code(Name),
}

/// What a strategy is to this worker, or why it is nothing.
pub(super) fn deed(settings: &WorkerSettings, strategy: &Strategy) -> Result<Means, String> {
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
        Strategy::Reset | Strategy::Recreate => Ok(Means::Deed(Deed::Archive)),
        Strategy::Own(name) => match settings.strategies.get(name) {
            Some(own) if own.code => Ok(Means::Code(name.clone())),
            Some(own) => Ok(Means::Deed(Deed::Run { argv: own.command.clone() })),
            None => Err(format!("there is no [strategy.{name}]")),
        },
        Strategy::SoftRestart
        | Strategy::HardRestart
        | Strategy::ScaleUp
        | Strategy::ScaleDown
        | Strategy::Quarantine => Err(format!("{strategy} is nothing that is done beside a worker")),
    }
}
