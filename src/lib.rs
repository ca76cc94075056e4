//! regrow: workers that grow back.
//!
//! A self-healing worker runtime: Erlang's supervision for processes in any language and for Rust types, in one binary. Each worker
//! is a child of a supervisor with a restart budget; supervisors form a tree; a failure is answered where it
//! happened, and only what cannot be answered there goes up.
//!
//! # The idea
//!
//! **Facts go up, commands go down, events go out.** For each child one supervisor decides, in one pure function,
//! and acts; nobody else starts or stops it.
//!
//! ```text
//!  dead:  runner ── Exit ──► the supervisor's line ┐
//!  asked: CLI / HTTP ──► RuntimeHandle ── Request ─┼──► supervisor actor ──► policy: on_fact(now, fact) -> Actions
//!  time:  one timer per supervisor ── Tick ────────┘          │               (pure; the only decider for its children)
//!                                                             └─ executes: start · stop · set a timer · give up
//!  give up: the supervisor ends; its parent's on_fact gets the Exit: the same code one level higher
//!  every step emits an Event ──► journal ──► live log · events · metrics            nobody answers an Event
//! ```
//!
//! # Code map, from the top down
//!
//! | room | what lives there |
//! |---|---|
//! | [`cli`] | one file per verb; tables, JSON, exit codes |
//! | [`http`] | the control socket and the TCP listener: routes, wire shapes |
//! | [`testing`] | for users' tests: a runtime under paused time, faults on purpose |
//! | [`runtime`] | the composition root: state directory, boot, orders, changes while everything runs, the end |
//! | [`supervisor`] | the actors of the tree, the status board, who waits for whom |
//! | `coordinator` | what the probes see, judged, and told to whom it concerns; on a thread of its own |
//! | [`probe`] | one look at one instance, again and again: HTTP, TCP, gRPC, commands, disks; the trait for one's own |
//! | [`worker`] | runs one worker. `process`: spawn, output, notify socket, rights and limits, whole-tree stop; `in_process`: Rust types on threads of their own; all `unsafe` and OS calls in one module |
//! | [`store`] | what outlives the runtime: the journal on disk, totals, health of the last days |
//! | [`telemetry`] | the journal of events, the metrics page |
//! | [`config`] | TOML to settings that are known to be right; every problem at once, each with its place; what differs between two of them |
//! | `codec` | records on disk: version, checksum, fingerprint; the only place that knows its encoding |
//! | [`event`] | the vocabulary of what happened |
//! | [`policy`] | OTP's rules and what goes beyond them, as one pure decision per fact |
//! | [`recovery`] | which remedy, and what came of it: ladders, breaker, brake, error classes, learning; pure |
//! | [`health`] | what probes saw, made into one verdict per instance |
//! | [`exit`] [`cause`] [`id`] [`units`] | how a worker can end; why; names; durations and sizes |
//!
//! Using goes only downward, and `policy` and what is below it name no runtime, clock, file or socket; a test reads
//! the source and holds both.
//!
//! # From a monitor of your own
//!
//! | there | here |
//! |---|---|
//! | `register_worker(id, type, endpoint, restart_command)` | `[worker.ID]` in the file; [`RuntimeHandle::add_worker`] while it runs |
//! | `start_monitoring()`, `monitor_and_recover()` | [`Builder::start`] in your program, [`Builder::main`] as a program: to watch and to recover is one thing |
//! | `get_system_status()` | [`RuntimeHandle::status`] |
//! | `manual_recovery(id, action)`, `recover_worker(id)`, `restart_worker(id)` | [`RuntimeHandle::restart`], [`reset_failed`](RuntimeHandle::reset_failed), [`scale`](RuntimeHandle::scale) |
//! | `on_health_change(f)` | [`Board::watch`] rings at every change; [`RuntimeHandle::until`] waits for one |
//! | `on_recovery_attempt(f)` | [`RuntimeHandle::events`] |
//! | a health check of one worker | [`Worker::health`], asked by [`RuntimeHandle::health`] |
//!
//! ```
//! use std::time::Duration;
//!
//! use regrow::{Asker, EventKind, Health, Runtime, WorkerSpec};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let state_dir = dir.path().join("state").display().to_string();
//! const PATIENCE: Duration = Duration::from_secs(60);
//!
//! // start_monitoring()
//! let handle = Runtime::builder()
//!     .toml("[worker.mailer]\ncommand = [\"sleep\", \"1000\"]\n")
//!     .set("runtime.state_dir", state_dir)
//!     .start()
//!     .await?;
//!
//! // on_recovery_attempt(f)
//! let mut events = handle.events();
//! let attempt = tokio::spawn(async move {
//!     while let Some(heard) = events.next().await {
//!         // A first start has none.
//!         let again = heard.event.cause.is_some();
//!         if heard.event.kind == EventKind::WorkerStarting && again {
//!             return heard.event.worker.as_ref().map(ToString::to_string);
//!         }
//!     }
//!     None
//! });
//!
//! // register_worker("web", …), and on_health_change(f) for its first change
//! handle.add_worker(WorkerSpec::process("web", ["sleep", "1000"])).await?;
//! handle.until("web", PATIENCE, |web| web.health() == Health::Healthy).await?;
//!
//! // get_system_status()
//! handle.wait_ready(PATIENCE).await?;
//! let status = handle.status();
//! let healthy = status.instances.iter().filter(|worker| worker.health() == Health::Healthy).count();
//! assert_eq!((status.instances.len(), healthy), (2, 2));
//!
//! // manual_recovery("web", "restart")
//! handle.restart("web").await?;
//! handle.until("web", PATIENCE, |web| web.ready && web.restarts == 1).await?;
//! assert_eq!(attempt.await?.as_deref(), Some("web"));
//!
//! // remove_worker("web"), and the end
//! handle.remove_worker("web").await?;
//! handle.shutdown(Asker("the program".to_owned())).await;
//! handle.finished().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Glossary
//!
//! * **worker**: what the user wants kept alive; **instance**: one copy of it; **incarnation**: the n-th start of an
//!   instance. Every fact and command carries the incarnation, and a stale one changes nothing.
//! * **fact**: something that happened, in the past tense; **action**: something to do, with no choice left in it.
//! * **restart strategy**: which siblings a restart touches; **intensity**: how many restarts a window may hold.
//! * **parked** (phase `quarantined`): the budget is spent; tried again later, loudly.
//! * **fence**: a file lock that every process of a worker's tree holds open, so that no second copy is ever started
//!   beside a survivor.
//! * **definition**: a supervisor's flags and children; a new one is taken over while they run, and only what differs
//!   happens (`policy::Reform`).
//! * **roll**: every instance of a worker is replaced, each new one ready before the next old one goes.
//! * supervisors *give up*; that is what OTP calls escalation.

pub mod cause;
pub mod cli;
mod codec;
pub mod config;
mod coordinator;
pub mod event;
pub mod exit;
pub mod health;
pub mod http;
pub mod id;
pub mod policy;
pub mod probe;
pub mod recovery;
pub mod runtime;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod testing;
pub mod units;
pub mod worker;

/// The actor framework of [`Builder::ractor`], in the version that regrow takes.
pub use ractor;

pub use config::{Run, Settings, SpecError, WorkerSpec};
pub use event::{Cause, CauseName, Event, EventKind};
pub use exit::{Exit, StartFailure};
pub use id::{Incarnation, InstanceId, Name};
pub use policy::Restart;
pub use runtime::{
    Act, ActError, Asker, Builder, Finished, NotReady, NotSo, Runtime, RuntimeHandle, StartError, Status,
    Target,
};
pub use supervisor::{Board, Health, InstanceState};
pub use telemetry::Journal;
pub use worker::in_process::{
    CallError, CastError, Condition, Context, Outcome, PlainActor, RefError, Reply, Restored, SaveError,
    Task, TaskError, Worker, WorkerError, WorkerRef,
};
pub use worker::{Ailing, RecoveryStrategy, Remedying};
