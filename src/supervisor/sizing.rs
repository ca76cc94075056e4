//! One instance more or less, as a step of recovery wants it: how many there are is changed by whoever changes the
//! settings in force, and comes back to the supervisors as any other new definition does.

use std::sync::Arc;

use crate::event::CauseName;
use crate::id::InstanceId;
use crate::policy::{Time, Undone};
use crate::worker::Sights;

/// What a step wants.
pub(crate) struct Sizing {
    /// Whose step it is.
    pub(crate) instance: InstanceId,
    /// One more; else one less.
    pub(crate) more: bool,
    /// What is wrong with it.
    pub(crate) cause: Option<CauseName>,
    /// Its incident.
    pub(crate) incident: Option<Arc<str>>,
    /// Whether it counts only once the newcomer is ready, or the leaver is gone.
    pub(crate) settled: bool,
    /// By then.
    pub(crate) timeout: Time,
}

/// Hears what came of it.
pub(crate) type Heard = Box<dyn FnOnce(Result<Sights, Undone>) + Send>;

/// Who changes how many there are; it never waits.
pub(crate) type SizingSink = Box<dyn Fn(Sizing, Heard) + Send + Sync>;
