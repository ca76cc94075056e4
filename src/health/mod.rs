//! Observations in, one verdict per instance out.
//!
//! A probe that fails once proves little, a worker that is busy is not sick, and a runtime that was itself halted has
//! seen nothing. What stands between a measurement and a restart is here, as plain functions of values: no clock, no
//! file, no thread. Time is an argument, and it is the *own* time of the runtime ([`OwnClock`]), which stands still
//! while the runtime does, so that every deadline moves by what it lost.
//!
//! ```text
//! grade      pass, warn, fail, error           clock     own time; a halt voids what was judged in it
//! streak     how often in a row before it counts
//! heart      signs of life: late, lost, dead   gauge     above a mark, and for how long
//! work       errors, slow tasks, no progress    window    what happened lately, and what is usual
//! score      0..1, with its terms              flap      an instance that changes its mind is not healthy
//! record     all of it for one incarnation     verdict   what is told
//! vital      what becomes of an incarnation
//! ```
//!
//! # Rules
//!
//! * Unhealthy is only whom a liveness check failed often enough in a row, whose heartbeat is lost, or who is above a
//!   critical mark for long enough. Readiness and warnings degrade.
//! * An error is the probe's, not the worker's: it is left out of the score, it ends a row of failures, and health is
//!   `unknown` while it stands. It never leads to a restart.
//! * Verdicts are level-triggered: they say how it is, not what changed, so that a lost one costs a period.
//!
//! Deliberately absent: what to do about it. That is the supervisor's.

mod clock;
mod flap;
mod gauge;
mod grade;
mod heart;
mod record;
mod score;
mod streak;
#[cfg(test)]
mod tests;
mod verdict;
mod vital;
mod window;
mod work;

pub use clock::{Halt, OwnClock};
pub use flap::Flap;
pub use gauge::{Gauge, Mark};
pub use grade::{Grade, ProbeKind};
pub use heart::{Heart, HeartRules};
pub use record::{Observation, ProbeRules, Record, RecordRules, Sheet};
pub use score::{Term, bound, score};
pub use streak::{Streak, Thresholds};
pub use verdict::{Health, Unwell, Verdict};
pub use vital::Vital;
pub use work::{Ailment, ERROR_WINDOW, ErrorRate, Work, WorkRules};
