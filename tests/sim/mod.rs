//! A simulator of the supervision core: no processes, no clock, no threads, only facts.
//!
//! [`tree`] draws a supervisor, [`schedule`] draws what happens to it, [`play`] hands each fact to the core and to a
//! naive model of the world ([`world`]), and [`judge`] holds the core to the invariants S1–S18. A seed decides
//! everything; [`run`] finds a failure, shortens it and tells it.

pub(crate) mod dice;
pub(crate) mod facts;
pub(crate) mod judge;
mod judge_state;
pub(crate) mod nest;
pub(crate) mod play;
pub(crate) mod rare;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod seed;
pub(crate) mod tree;
pub(crate) mod world;
