//! Starting and stopping one worker, and telling how it ended.
//!
//! A [`Runner`] owns at most one live incarnation. It decides nothing: it starts, asks, kills and reports.

mod runner;

pub use runner::{Reporter, Runner, WorkerReport};
