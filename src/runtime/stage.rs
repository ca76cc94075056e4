//! A runtime inside of a test: control plane and workers share the test's own tokio runtime and its clock, and nothing
//! but what an actor worker saves itself is read from or written to a disk. So a paused clock jumps from one thing that
//! happens to the next, and the same scenario is the same in every run.
//!
//! Deliberately absent: processes. They live by the machine's clock, which nobody can pause.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::supervisor::{Board, RunnerFactory};
use crate::telemetry::Journal;
use crate::worker::in_process::{InProcessHost, InProcessOptions, Registry, install_hook};

use super::handle::{RuntimeHandle, RuntimeInfo};
use super::intents::Intents;
use super::launch::{ORDERS, StartError, announce, outlook};
use super::raise::{plane, raise};

/// The same jitter in every run.
const SEED: u64 = 7;

/// Starts it within the tokio runtime that calls this; all workers must be actors.
///
/// # Errors
/// [`StartError`]: the root could not be started.
pub(crate) async fn perform(settings: Settings, registry: Registry) -> Result<RuntimeHandle, StartError> {
    install_hook();
    registry.settle(Handle::current());
    let info = Arc::new(RuntimeInfo::new(settings));
    let (board, journal) = (Board::new(), Journal::new());
    let (orders, inbox) = mpsc::channel(ORDERS);
    let options = InProcessOptions { plane: Some(Handle::current()), one_thread: true };
    let actors = InProcessHost::new(registry, &info.state_dir, options);
    let seen = board.clone();
    actors.directory().set_outlook(Box::new(move |id| outlook(&seen, id)));
    let handle = RuntimeHandle::new(board.clone(), journal.clone(), Arc::clone(&info), orders)
        .with_actors(Arc::clone(&actors));
    let own = Arc::clone(&actors);
    let runners: RunnerFactory =
        Arc::new(move |instance, worker, _, reporter| own.runner(instance, worker, reporter));
    let intents = Intents::in_memory();
    let plane = plane(&info, runners, (board, journal), &intents, SEED)?;
    announce(&info, &plane);
    let own = Arc::clone(&actors);
    info.watch_problems(Box::new(move || own.problems()));
    let mut director = raise(&info, &plane, intents, inbox).await?;
    tokio::spawn(async move {
        let finished = director.run().await;
        actors.close();
        info.finish(finished);
    });
    Ok(handle)
}
