//! Starting and stopping one worker, and telling how it ended.
//!
//! A [`Runner`] owns at most one live incarnation. It decides nothing: it starts, asks, kills and reports.

pub mod in_process;
mod kept;
pub(crate) mod look;
mod mailbox;
pub(crate) mod notify;
pub mod output;
pub(crate) mod process;
mod remedy;
mod runner;
mod talk;
pub(crate) mod unix;

pub(crate) use kept::{Move, changes, stay, stay_if_possible};
pub use kept::{StateRoom, StateSize};
pub(crate) use unix::Ended;

pub use output::OutputCounters;
pub use remedy::{Ailing, RecoveryStrategy, Remedying};
pub(crate) use remedy::{Remedies, carry_out};
pub use runner::{Deed, Done, Job, Reporter, Runner, Sights, WorkerReport};
