//! Starting and stopping one worker, and telling how it ended.
//!
//! A [`Runner`] owns at most one live incarnation. It decides nothing: it starts, asks, kills and reports.

#[cfg_attr(not(test), expect(dead_code, reason = "the process runner is its first caller"))]
pub(crate) mod notify;
#[cfg_attr(not(test), expect(dead_code, reason = "the process runner is the first caller of the hub"))]
pub mod output;
mod runner;

pub use output::OutputCounters;
pub use runner::{Reporter, Runner, WorkerReport};
