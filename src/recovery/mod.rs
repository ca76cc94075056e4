//! Which remedy, and what came of it: the pure half of recovery.
//!
//! A worker that is alive but sick is led up a ladder of steps until one of them holds. This room knows the
//! steps, their order, who may take them now and what experience says of them; it starts and stops nobody. The
//! supervisor's one decision (`policy`) asks it, and the shells tell it what happened.
//!
//! ```text
//! why       what is wrong, in the contract's words      strategy  what can be done about it
//! ladder    the steps of a worker                       climb     which of them comes next, and why not the others
//! breaker   a worker whose steps keep failing rests     brake     a fleet that falls ill together is not restarted together
//! plan      one step, spelled out before it is taken    incident  the record of all that was tried
//! class     failures that are the same failure          learning  what helped against which of them
//! reach     how long all of that takes at worst      redact    no secrets in what is kept
//! ```
//!
//! No clock is read and no randomness drawn here: time and seeds are arguments, so that every decision can be
//! replayed, and the simulator in `tests/it/learning.rs` runs the code that decides in production.
//!
//! Deliberately absent: plain restarts after an exit. They stay `policy`'s, in the time they took before.

mod brake;
mod breaker;
mod class;
mod climb;
mod incident;
mod ladder;
pub mod learning;
mod plan;
mod reach;
mod redact;
mod strategy;
mod why;

pub use brake::{Brake, BrakeChange, BrakeLimits, Leave};
pub use breaker::{Breaker, BreakerLimits, BreakerState};
pub use class::{ErrorClass, Evidence, fingerprint};
pub use climb::{Climb, Copies, Options, Situation, Skip};
pub use incident::{Attempt, Closed, Finding, Incident, Outcome};
pub use ladder::{Ladder, Learn, Step};
pub use plan::{Plan, PlanLine};
pub use reach::{Reach, Term};
pub use redact::redact;
pub use strategy::{Strategy, Way};
pub use why::{CAUSES, Why};
