//! Actor workers: Rust types that run inside this process and are supervised like any other worker.
//!
//! **Two planes.** User code never runs on the control plane. It runs on the worker plane, a multi-thread runtime with
//! a thread more than the machine has cores, or, with `blocking = true`, on a thread of its own. So a worker that spins
//! delays no decision, and the watchdog can name it.
//!
//! **One task per incarnation.** It polls the user's future inside `catch_unwind`; the user's state lies beside the
//! future and not in it, so that its `Drop` runs after an unwinding is over and is contained as well. What Rust does
//! not let anybody contain, and what therefore ends the whole process: a panicking `Drop` of a *local variable* of
//! code that is already panicking, `panic = "abort"`, a stack overflow, `abort()`. Whoever needs walls against those
//! runs a process worker.
//!
//! **An end is an end.** It is reported once the user's state, its waiting messages and every task that it spawned
//! through its [`Context`] are gone. Code that blocks its thread cannot be ended by anybody: after the kill's grace it
//! is reported as abandoned, counted, and its successor gets a thread of its own, away from its siblings.
//!
//! Deliberately absent: preemption, and tasks that are spawned past the context (`tokio::spawn`): nobody knows whose
//! they are.

mod context;
mod directory;
mod failure;
mod fault;
mod frames;
mod guard;
mod host;
mod inbox;
mod life;
mod numbers;
mod panic;
mod place;
mod plain;
mod registry;
mod run;
mod runner;
mod saved;
mod shell;
mod task;
#[cfg(test)]
mod tests;
mod unwind;
mod watchdog;
mod worker;

pub use context::Context;
pub(crate) use directory::Outlook;
pub use directory::{CallError, CastError, RefError, Reply, WorkerRef};
pub use failure::WorkerError;
pub use fault::Fault;
pub(crate) use fault::Faults;
pub(crate) use host::{InProcessHost, InProcessOptions};
pub(crate) use inbox::Ask;
pub(crate) use panic::install_hook;
pub use plain::PlainActor;
pub(crate) use registry::Registry;
pub use saved::SaveError;
pub use task::{Outcome, Task, TaskError};
pub use worker::{Condition, Restored, Worker};
