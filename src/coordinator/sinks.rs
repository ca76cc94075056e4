//! What the coordinator begins with: where its words go, and where it hears.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Settings, WorkerSettings};
use crate::event::Event;
use crate::health::{Observation, Verdict};
use crate::id::{Incarnation, InstanceId, Name};
use crate::probe::Means;

use super::inbox::Inbox;

/// Something about an incarnation.
pub(crate) type Told<T> = Box<dyn Fn(&InstanceId, Incarnation, T) + Send + Sync>;

/// A look of the probe of this name.
pub(crate) type Noted = Box<dyn Fn(&InstanceId, Incarnation, &Arc<str>, &Observation) + Send + Sync>;

/// The settings of a worker by its name.
pub(crate) type Find = Box<dyn Fn(&Name) -> Option<Arc<WorkerSettings>> + Send + Sync>;

/// Where the coordinator's words go. None of them may wait.
pub(crate) struct Sinks {
    /// A verdict, for the supervisor of the instance.
    pub(crate) judged: Told<Arc<Verdict>>,
    /// Its probe has passed: it is ready.
    pub(crate) ready: Told<()>,
    /// What people see.
    pub(crate) shown: Told<Arc<Verdict>>,
    /// A look, for the metrics.
    pub(crate) looked: Noted,
    /// What happened.
    pub(crate) event: Box<dyn Fn(Event) + Send + Sync>,
    /// The settings of a worker that is just coming to be, before they are in force.
    pub(crate) worker: Find,
    /// The settings in force.
    pub(crate) settings: Box<dyn Fn() -> Arc<Settings> + Send + Sync>,
    /// The clock.
    pub(crate) now: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// What the coordinator begins with.
pub(crate) struct CoordinatorArguments {
    /// Where its words go.
    pub(crate) sinks: Sinks,
    /// Where it hears of incarnations.
    pub(crate) inbox: Inbox,
    /// Through whom its probes look.
    pub(crate) means: Means,
    /// Where instances have their directories.
    pub(crate) workers_dir: PathBuf,
}
